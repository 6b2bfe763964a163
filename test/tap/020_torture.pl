# A short run of `make torture`: everything goes wrong at once, and nothing may
# be lost.  The seed is new every time, and printed; a failure tells how to see
# it again.

use strict;
use warnings;

use FindBin;
use Test::More;
use PostgreSQL::Test::Utils;

my ($out, $err) = ('', '');
my $ok = IPC::Run::run(
	[ 'python3', "$FindBin::RealBin/../torture/torture.py", '--directory', "$PostgreSQL::Test::Utils::tmp_check/torture", '--duration', '20' ],
	'<', \'', '>', \$out, '2>', \$err);
note($out);
diag($out, $err) if !$ok;
ok($ok, 'nothing is lost, nothing is invented');
like($out, qr/SEED=\d+/, 'the seed is printed');
like($out, qr/[1-9]\d\d+ events committed/, 'there were events');
done_testing();
