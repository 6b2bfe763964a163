# What make demo shows is complete and true, and what KEEP=1 leaves running holds up nobody who reads the output.

use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::RealBin/../lib";

use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $source = abs_path("$FindBin::RealBin/../..");
my $work = PostgreSQL::Test::Utils::tempdir_short();

mkdir "$work/$_" or die "$work/$_: $!" for qw(tmp out);

# As test/demo/run does it: in a session of its own, which ends with this test.
my $pid = open(my $pipe, '-|') // die "no fork: $!";
if ($pid == 0)
{
	POSIX::setsid();
	chdir $source or die "$source: $!";
	open STDIN, '<', '/dev/null' or die $!;
	open STDERR, '>&', \*STDOUT or die $!;
	exec 'env', "work=$work", 'keep=yes', 'colour=', 'PGUSER=postgres', 'bash', 'test/demo/show.sh';
}

# End all that it has started; the server's processes have sessions of their own.
sub stop
{
	local $?;

	return unless defined $pid;
	PostgreSQL::Test::Utils::system_log('pg_ctl', '-s', '-D', "$work/data", '-m', 'immediate', 'stop') if -e "$work/data/postmaster.pid";
	kill 'TERM', -$pid;
	undef $pid;
	return;
}
END { stop() }

my $deadline = time + 2 * $WebhookTest::patience;
my $is_at_end = 0;
my $output = '';
until ($is_at_end || time > $deadline)
{
	my $bits = '';

	vec($bits, fileno $pipe, 1) = 1;
	next unless select($bits, undef, undef, 0.1);
	$is_at_end = 1 unless sysread $pipe, $output, 65536, length $output;
}
ok($is_at_end, 'the output ends, while the cluster is left running');
diag($output) unless $is_at_end;
ok(-e "$work/data/postmaster.pid", 'which it is');

my ($last) = $output =~ /^(.*)\n\z/m;
is($last, '7 webhooks sent, 5 delivered, 2 to be tried again in an hour, 4 mails sent. The cluster is left running.', 'the last line sums it up');
unlike($output, qr/ERROR|WARNING|FATAL|Traceback|No such file/, 'nothing went wrong');
like($output, qr/│ \Q$_\E/, "the receiver shows $_")
  for 'POST /invoices', 'POST /warehouse/reservations', 'POST /scoring/batch', 'PUT /subscribers/34', 'PUT /customers/1';
like($output, qr/│ => 503/, 'and the 503');
is(scalar(() = $output =~ /\| Success +\| +1 \| +200 \|/g), 5, 'the log: what was delivered');
is(scalar(() = $output =~ /\| Failed +\| +1 \| +503 \| 01:00:00/g), 2, 'and what was not');
like($output, qr/\Q| kene.okafor\E\S+ +\| \[webhook\] "reserve the goods" failed for deal 44 /, 'an owner is told of his deal');
like($output, qr/\| dba\@example\.com +\| \[webhook\] "reserve the goods" failed for 2 records of deal /, 'an admin of both');
like($output, qr/^body +\| \{"deal": \{"id": 5, /m, 'and a preview');

stop();
done_testing();
