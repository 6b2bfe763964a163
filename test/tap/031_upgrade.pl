# From one version to the next while deliveries flow: the files come, the server is
# restarted, ALTER EXTENSION UPDATE.  The next version is made here, of this one.

use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use WebhookTest;

# make installcheck has no copy of PostgreSQL to be copied.  Under valgrind the server
# is a script that names the first copy.
plan skip_all => 'for make test' if !$ENV{work};
plan skip_all => 'not under valgrind' if -e "$ENV{bindir}/postgres.bin";

my $dir = PostgreSQL::Test::Utils::tempdir();
my $source = "$dir/source";
my $copy = "$dir/postgresql";
my $install_path = $ENV{bindir} =~ s{^\Q$ENV{work}/stage\E}{$copy}r =~ s{/bin$}{}r;
my $receiver = start_receiver();

sub run
{
	my (@command) = @_;

	PostgreSQL::Test::Utils::run_log([@command]) or die "failed: @command\n";
	return;
}

sub make
{
	run($ENV{MAKE} || 'make', '-s', '-C', $source, "PG_CONFIG=$ENV{PG_CONFIG}", 'with_llvm=no', @_);
	return;
}

sub write_file
{
	my ($path, $text) = @_;

	unlink $path;
	PostgreSQL::Test::Utils::append_to_file($path, $text);
	return;
}

# Copies of PostgreSQL, whose files are replaced, and of the source tree.
mkdir $copy;
run('cp', '-a', "$ENV{work}/stage/.", $copy);
run('cp', '-a', abs_path("$FindBin::RealBin/../.."), $source);
my $control = PostgreSQL::Test::Utils::slurp_file("$source/webhook.control");
my ($version) = $control =~ /^default_version = '(.*)'$/m;
my ($major, $minor) = $version =~ /^(\d+)\.(\d+)$/;
my $next = "$major." . ($minor + 1);

my $node = PostgreSQL::Test::Cluster->new('upgrade', install_path => $install_path);
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'webhook'\nwebhook.allowed_networks = '127.0.0.0/8'");
$node->start;
my $url = $receiver->url('/event');
$node->safe_psql('postgres', qq{
	CREATE EXTENSION webhook;
	CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '$url')});
my $extversion = q{SELECT extversion FROM pg_extension WHERE extname = 'webhook'};
is($node->safe_psql('postgres', $extversion), $version, "version $version");

# A writer that never stops: what it can't insert while the server is down it inserts later.
my $stop = "$dir/stop";
my $writer = fork // die "fork: $!";
if (!$writer)
{
	open STDOUT, '>', '/dev/null';
	open STDERR, '>', '/dev/null';
	while (!-e $stop)
	{
		system("$install_path/bin/psql", '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'INSERT INTO event DEFAULT VALUES');
		select undef, undef, undef, 0.01;
	}
	require POSIX;
	POSIX::_exit(0);
}

# Whatever is committed from now on is delivered, too.
sub flows
{
	my ($what) = @_;
	my $now = $node->safe_psql('postgres', 'SELECT coalesce(max(id), 0) FROM event');

	ok(wait_for_sql($node, "SELECT count(*) > 20 FROM webhook.webhook_log l JOIN event e ON l.record_id = e.id::text WHERE e.id > $now AND l.status = 'Success'"), $what);
	return;
}
flows('deliveries flow');

# The next version's files are installed under the running server.
write_file("$source/webhook.control", $control =~ s/^(default_version = ').*'$/$1$next'/mr);
write_file("$source/src/webhook--$version--$next.sql", qq{
\\echo Use "ALTER EXTENSION webhook UPDATE" to load this file. \\quit
ALTER TABLE webhook.webhook_log ADD COLUMN news text;
COMMENT ON COLUMN webhook.webhook_log.news IS 'what the next version has more';
CREATE FUNCTION webhook.news() RETURNS text LANGUAGE sql AS \$\$ SELECT 'news' \$\$;
COMMENT ON FUNCTION webhook.news IS 'what the next version has more';
REVOKE ALL ON FUNCTION webhook.news FROM PUBLIC;
});
make('all');
make('install', "DESTDIR=$copy");
flows("$next is installed: the server goes on as it is");
my ($code, $out, $err) = $node->psql('postgres', 'ALTER EXTENSION webhook UPDATE');
isnt($code, 0, 'before a restart there is no update');
like($err, qr/extension "webhook" has version \Q$next\E here, but the library that is loaded has version \Q$version\E.*HINT:.*restart the server/s, 'and a hint');
is($node->safe_psql('postgres', $extversion), $version, 'nothing has changed');
flows('deliveries flow all the same');

# Restarted: the new library serves what is there.
$node->restart;
flows("the library of $next serves the objects of $version");
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.health() WHERE status = 'critical'}), '0', 'nothing is critical');

# Updated, in a rolled-back transaction and in earnest
$node->safe_psql('postgres', 'BEGIN; ALTER EXTENSION webhook UPDATE; ROLLBACK');
is($node->safe_psql('postgres', $extversion), $version, 'an update can be rolled back');
$node->safe_psql('postgres', 'ALTER EXTENSION webhook UPDATE');
is($node->safe_psql('postgres', $extversion . ' UNION ALL SELECT webhook.news()'), "$next\nnews", 'updated');
flows('deliveries flow');

# The library goes back: the objects of the next version are not for it.
chomp(my $library = qx{"$ENV{PG_CONFIG}" --pkglibdir});
run('cp', '--remove-destination', "$ENV{work}/stage$library/webhook.so", "$copy$library/webhook.so");
$node->restart;
for my $sql ('INSERT INTO event DEFAULT VALUES', q{SELECT webhook.create_workflow('w', 'event')}, 'SELECT webhook.wait()', q{SELECT webhook.preview(1, '1')}, 'SELECT webhook.export()', 'SELECT webhook.retry_failed()')
{
	($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err, qr/ERROR:  55000: extension "webhook" has version \Q$next\E here, but the library that is loaded has version \Q$version\E.*HINT:.*restart the server/s, "an older library refuses: $sql");
}
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker}, 'backoff'), 'its worker waits');
like($node->safe_psql('postgres', 'SELECT last_error FROM webhook.stat_worker'), qr/has version \Q$next\E here/, 'and says why');
like($node->safe_psql('postgres', q{SELECT concat_ws(': ', status, detail) FROM webhook.health()}), qr/^critical: the library that is loaded is of another version/, 'so does webhook.health');
is($node->safe_psql('postgres', 'CREATE TABLE other (); SELECT 1'), '1', 'all else works');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'nothing crashed');

# And forward again: nothing that was committed is lost, nothing is sent that was not.
make('install', "DESTDIR=$copy");
$node->restart;
flows('the library of the next version is back: deliveries flow');
PostgreSQL::Test::Utils::append_to_file($stop, '');
waitpid $writer, 0;
ok(wait_for_delivery($node), 'all are delivered');
is($node->safe_psql('postgres', q{SELECT count(*) FROM event e FULL JOIN webhook.webhook_log l ON l.record_id = e.id::text WHERE e.id IS NULL OR l.status IS DISTINCT FROM 'Success'}), '0', 'each event has its delivery, and each delivery succeeded');
my %received;
$received{ (map { $_->[1] } grep { lc $_->[0] eq 'webhook-id' } @{ $_->{headers} })[0] }++ for $receiver->requests('/event');
is(scalar(keys %received), $node->safe_psql('postgres', 'SELECT count(*) FROM event'), 'the receiver has seen each once, or again under the same webhook-id');

# A database that begins with the next version
$node->safe_psql('postgres', 'CREATE DATABASE young');
$node->safe_psql('young', 'CREATE EXTENSION webhook');
is($node->safe_psql('young', $extversion), $next, 'CREATE EXTENSION goes from script to script');
is($node->safe_psql('postgres', q{SELECT string_agg(d, '; ' ORDER BY d) FROM (SELECT pg_describe_object(classid, objid, objsubid) AS d FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e') d}),
	$node->safe_psql('young', q{SELECT string_agg(d, '; ' ORDER BY d) FROM (SELECT pg_describe_object(classid, objid, objsubid) AS d FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e') d}), 'with the same objects as one that was updated');
$node->stop;
$receiver->stop;
done_testing();
