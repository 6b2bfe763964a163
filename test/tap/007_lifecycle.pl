# Workers come with the extension and go with it, and are in nobody's way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $node = start_cluster('lifecycle', extension => 0, init => { allows_streaming => 1 });
my $receiver = start_receiver();
my $hang = $receiver->url('/hang');
my $workers = q{SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_stat_activity WHERE backend_type = 'webhook worker'};

# How long a command takes, in seconds.
sub seconds
{
	my ($sql) = @_;
	my $begun = time;

	$node->safe_psql('postgres', $sql);
	return time - $begun;
}

# A delivery in a database that hangs.
sub hang_in
{
	my ($database) = @_;

	$node->safe_psql($database, qq{
		CREATE EXTENSION IF NOT EXISTS webhook;
		CREATE TABLE event (id int PRIMARY KEY);
		SELECT webhook.create_workflow('events', 'event', 'create');
		SELECT webhook.create_action('events', 'send', '$hang');
		INSERT INTO event VALUES (1)});
	return wait_for_sql($node, 'SELECT status FROM webhook.webhook_log', 'Dispatched', $database);
}

# Receivers that have never answered may have half of what may be in flight.
sub hung_in
{
	my ($database) = @_;

	ok(wait_for_sql($node, "SELECT in_flight FROM webhook.stat_worker WHERE database = '$database'", '100', $database),
		"100 requests hang in $database");
	return;
}

# The worker of a database is up to its neck in requests that hang.
sub hang_many_in
{
	my ($database) = @_;

	$node->safe_psql($database, qq{
		SELECT webhook.create_workflow('more', 'event', 'create') WHERE NOT EXISTS (SELECT FROM webhook.workflow WHERE name = 'more');
		SELECT webhook.create_action('more', 'send ' || i, '$hang') FROM generate_series(1, 3) i
			WHERE (SELECT count(*) FROM webhook.action) = 1;
		INSERT INTO event SELECT max(id) + i FROM event, generate_series(1, 50) i GROUP BY i});
	hung_in($database);
	return;
}

ok(wait_for_sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook launcher'}, '1'), 'a launcher');
is($node->safe_psql('postgres', $workers), '', 'no worker where there is no extension');

# Created, rolled back, created
$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION webhook; ROLLBACK');
$node->safe_psql('postgres', 'CREATE EXTENSION webhook');
ok(wait_for_sql($node, $workers, 'postgres'), 'a worker soon after CREATE EXTENSION');
$node->safe_psql('postgres', q{DROP EXTENSION webhook});
ok(wait_for_sql($node, $workers, ''), 'none after DROP EXTENSION');
$node->safe_psql('postgres', q{BEGIN; CREATE EXTENSION webhook; PREPARE TRANSACTION 'create'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'create'});
ok(wait_for_sql($node, $workers, 'postgres'), 'and one after COMMIT PREPARED');
$node->safe_psql('postgres', 'CREATE DATABASE one; CREATE DATABASE two');
ok(hang_in('one'), 'a second database has a worker of its own');
ok(hang_in('two'), 'so has a third');
ok(wait_for_sql($node, $workers, 'one postgres two'), 'one a database');

# The workers make way for whoever may have a copy of the database
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN CREATEDB');
$node->safe_psql('postgres', 'ALTER DATABASE one IS_TEMPLATE true');
is($node->psql('postgres', 'CREATE DATABASE mine TEMPLATE one', extra_params => [ '-U', 'stranger' ]), 0, 'a template is for everybody who may create databases');
$node->safe_psql('postgres', 'ALTER DATABASE one IS_TEMPLATE false');
$node->safe_psql('postgres', 'DROP DATABASE mine');
ok(wait_for_sql($node, $workers, 'one postgres two'), 'and has its worker back');

# A restart brings all of them back
$node->restart;
ok(wait_for_sql($node, $workers, 'one postgres two'), 'after a restart too');
ok(wait_for_sql($node, 'SELECT status FROM webhook.webhook_log', 'Dispatched', 'one'), 'and what hung hangs again');

# Nobody waits for a worker with 100 requests that hang: what it would take
# without them, and a second.
$node->safe_psql('postgres', 'CREATE DATABASE idle_copy TEMPLATE template1');
my $idle_create = seconds('CREATE DATABASE idle_copy_2 TEMPLATE idle_copy');
my $idle_drop = seconds('DROP DATABASE idle_copy_2');
hang_many_in($_) for qw(one two);
cmp_ok(seconds('CREATE DATABASE copy TEMPLATE one'), '<', 1 + 2 * $idle_create, 'CREATE DATABASE … TEMPLATE while 100 requests hang');
cmp_ok(seconds('DROP DATABASE two'), '<', 1 + $idle_drop, 'DROP DATABASE while 100 requests hang');
$node->safe_psql('postgres', 'CREATE DATABASE two');
ok(hang_in('two'), 'another one of that name');
hang_many_in($_) for qw(one two);
$node->safe_psql('postgres', 'CHECKPOINT');
my $begun = time;
$node->stop('fast');
cmp_ok(time - $begun, '<', 1, 'shutdown while 200 requests hang');
$node->start;
hung_in('one');
$begun = time;
$node->safe_psql('one', 'DROP EXTENSION webhook CASCADE');
cmp_ok(time - $begun, '<', 1, 'DROP EXTENSION while 100 requests hang');
ok(wait_for_sql($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND datname = 'one')"),
	'the worker goes with the extension');
is($node->safe_psql('one', 'INSERT INTO event VALUES (0) RETURNING id'), '0', 'the module is as it was before');
is($node->safe_psql('one', q{SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal}), '0', 'without triggers');
$node->safe_psql('one', 'DROP TABLE event');
ok(hang_in('one'), 'and the extension can be created again');

# Switched off and on
$node->safe_psql('postgres', 'ALTER SYSTEM SET webhook.enabled = off');
$node->reload;
my $url = $receiver->url('/event');
$node->safe_psql('postgres', qq{
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '$url')});
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker WHERE database = 'postgres'}, 'disabled'), 'switched off');
$node->safe_psql('postgres', 'INSERT INTO event VALUES (1)');
my $inserted_at = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
$node->reload;
ok(wait_for_sql($node, qq{SELECT last_turn_at > '$inserted_at' FROM webhook.stat_worker WHERE database = 'postgres'}), 'the worker looked');
is(scalar(() = $receiver->requests('/event')), 0, 'webhook.enabled = off: queued, not sent');
$node->safe_psql('postgres', 'ALTER SYSTEM SET webhook.enabled = on');
$node->reload;
ok(wait_for_sql($node, 'SELECT status FROM webhook.webhook_log', 'Success'), 'switched on: sent');

# Read-only standbys have no worker; a promoted one has
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
ok(wait_for_sql($standby, 'SELECT count(*) FROM webhook.webhook_log', '1'), 'a standby has the log');
is($standby->safe_psql('postgres', $workers), '', 'but no worker');
like($standby->safe_psql('postgres', q{SELECT status || ': ' || detail FROM webhook.health() WHERE "check" = 'worker'}),
	qr/^ok: this is a standby/, 'which is as it should be');
is($standby->safe_psql('postgres', 'SELECT succeeded FROM webhook.stat_action'), '1', 'what was counted is there');
$node->stop('immediate');
$standby->promote;
ok(wait_for_sql($standby, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND datname = 'postgres'"),
	'once promoted it has one');
$standby->safe_psql('postgres', 'INSERT INTO event VALUES (2)');
ok(wait_for_sql($standby, q{SELECT status FROM webhook.webhook_log WHERE record_id = '2'}, 'Success'), 'which sends');

$standby->stop;
$receiver->stop;

# Not preloaded: a warning, and what is queued goes out once it is
my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->start;
my ($code, $out, $err) = $bare->psql('postgres', 'CREATE EXTENSION webhook');
is($code, 0, 'it can be created where it is not preloaded');
like($err, qr/WARNING:.*webhook.*HINT:.*shared_preload_libraries/s, 'with a warning and a hint');
$receiver = start_receiver();
$url = $receiver->url('/event');
$bare->safe_psql('postgres', qq{
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '$url');
	INSERT INTO event VALUES (1)});
is($bare->safe_psql('postgres', 'SELECT status FROM webhook.webhook_log'), 'Queued', 'queued');

# Where the library is gone all that helps is to drop the extension.
my $drop = 'DROP EXTENSION webhook CASCADE; ROLLBACK';
($code, $out, $err) = $bare->psql('postgres', "BEGIN; UPDATE pg_proc SET probin = '\$libdir/gone' WHERE probin = '\$libdir/webhook'; $drop");
is($code, 0, 'it can be dropped without its library') or diag($err);
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'webhook'\nwebhook.allowed_networks = '127.0.0.0/8'");
$bare->restart;
ok(wait_for_sql($bare, 'SELECT status FROM webhook.webhook_log', 'Success'), 'sent once it is preloaded');

# Objects that were made for another library: nobody crashes, all are told
$bare->safe_psql('postgres', q{UPDATE pg_extension SET extversion = '2.0' WHERE extname = 'webhook'});
my $refusal = qr/extension "webhook" has version 2\.0 here, but the library that is loaded has version 1\.\d.*HINT:.*ALTER EXTENSION webhook UPDATE/s;
for my $sql ('INSERT INTO event VALUES (2)', q{SELECT webhook.create_workflow('w', 'event')}, 'SELECT webhook.retry(1)')
{
	($code, $out, $err) = $bare->psql('postgres', $sql);
	like($err, $refusal, "another version: $sql");
}
($code, $out, $err) = $bare->psql('postgres', "BEGIN; $drop");
is($code, 0, 'another version: it can be dropped') or diag($err);
$bare->restart;
ok(wait_for_sql($bare, q{SELECT state FROM webhook.stat_worker}, 'backoff'), 'the worker waits');
like($bare->safe_psql('postgres', 'SELECT last_error FROM webhook.stat_worker'), qr/has version 2\.0 here/, 'and says why');
like($bare->safe_psql('postgres', q{SELECT concat_ws(': ', status, detail, hint) FROM webhook.health()}),
	qr/^critical: the library that is loaded is of another version .* ALTER EXTENSION webhook UPDATE/, 'so does webhook.health');
for my $version ('0.9', '1.7', '10.0', 'next')
{
	$bare->safe_psql('postgres', qq{UPDATE pg_extension SET extversion = '$version' WHERE extname = 'webhook'});
	($code, $out, $err) = $bare->psql('postgres', 'INSERT INTO event VALUES (2)');
	like($err, qr/extension "webhook" has version \Q$version\E here/, "so is $version");
}
$bare->safe_psql('postgres', q{UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'webhook'});
$bare->safe_psql('postgres', 'INSERT INTO event VALUES (2)');
ok(wait_for_sql($bare, q{SELECT status FROM webhook.webhook_log WHERE record_id = '2'}, 'Success'), 'its own is served');

# The worker has gone with the extension, which is there again before that is seen
$bare->safe_psql('postgres', 'DROP EXTENSION webhook CASCADE; CREATE EXTENSION webhook');
my $there = worker_pid($bare);
my $launcher = $bare->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook launcher'});
kill 'STOP', $launcher;
$bare->safe_psql('postgres', 'DROP EXTENSION webhook CASCADE');
ok(wait_for_sql($bare, "SELECT count(*) FROM pg_stat_activity WHERE pid = $there", '0'), 'the worker is gone');
$bare->safe_psql('postgres', 'CREATE EXTENSION webhook');
kill 'CONT', $launcher;
ok(worker_pid($bare, $there), 'there is another one');

# What is under way is none of the extension's that is created anew, whose numbers
# begin at 1 again
sub install
{
	my ($path, $id) = @_;

	return qq{
	CREATE EXTENSION IF NOT EXISTS webhook;
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '${\$receiver->url($path)}');
	INSERT INTO event VALUES ($id)};
}
$bare->safe_psql('postgres', install('/slow?ms=1000', 11));
ok(wait_for_sql($bare, q{SELECT status FROM webhook.webhook_log}, 'Dispatched'), 'a request is under way');
$bare->safe_psql('postgres', 'BEGIN; DROP EXTENSION webhook CASCADE; ' . install('/slow?ms=3000', 12) . '; COMMIT');
ok(wait_for_sql($bare, q{SELECT status FROM webhook.webhook_log}, 'Success'), 'a request of the new one has its answer');
is($bare->safe_psql('postgres', 'SELECT log_id, attempt, request_body FROM webhook.webhook_attempt'), '1|1|{"id": 12}', 'its own');
$bare->safe_psql('postgres', q{SELECT webhook.alter_action(1, max_in_flight => 1, url => '} . $receiver->url('/slow?ms=1500') . q{'); INSERT INTO event VALUES (13)});
ok(wait_for_sql($bare, q{SELECT status FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 1}, 'Dispatched'), 'another one is under way');
$bare->safe_psql('postgres', 'TRUNCATE webhook.webhook_log, webhook.webhook_attempt RESTART IDENTITY; INSERT INTO event VALUES (14)');
ok(wait_for_sql($bare, q{SELECT log_id, status FROM webhook.webhook_log}, '1|Success'), 'the log is emptied, and numbered anew');
is($bare->safe_psql('postgres', 'SELECT log_id, attempt, request_body FROM webhook.webhook_attempt'), '1|1|{"id": 14}', 'what is new has its own answer');
unlike(PostgreSQL::Test::Utils::slurp_file($bare->logfile), qr/ ERROR:  could not open relation/, 'the worker met no relation that is gone');

# Whoever writes is waited for, and is in no deadlock
my $writer = $bare->background_psql('postgres', on_error_stop => 0);
$writer->query_safe('BEGIN; LOCK TABLE event IN ROW EXCLUSIVE MODE');
my $dropper = IPC::Run::start([ 'psql', '-XAtq', '-d', $bare->connstr('postgres'), '-c', 'DROP EXTENSION webhook CASCADE' ], '>', \$out, '2>', \$err);
ok(wait_for_sql($bare, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^DROP EXTENSION' AND wait_event_type = 'Lock'}, '1'), 'DROP EXTENSION waits for a writer');
is($writer->query('INSERT INTO event VALUES (15) RETURNING id'), '15', 'who goes on');
$writer->query('COMMIT');
$writer->quit;
$dropper->finish;
is($bare->safe_psql('postgres', 'SELECT count(*) FROM event WHERE id = 15'), '1', 'and commits');
is($bare->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'webhook'}), '0', 'the extension is gone');
$bare->safe_psql('postgres', 'CREATE EXTENSION webhook');

# Who may not have a database doesn't end its worker by asking for it
$bare->safe_psql('postgres', 'CREATE DATABASE other; CREATE ROLE stranger LOGIN; CREATE ROLE maker LOGIN CREATEDB');
$bare->safe_psql('other', 'CREATE EXTENSION webhook');
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND datname = 'other'};
ok(wait_for_sql($bare, "SELECT count(*) = 1 FROM ($worker) w"), 'a worker');
my $pid = $bare->safe_psql('postgres', $worker);
for my $sql ('DROP DATABASE other', 'CREATE DATABASE mine TEMPLATE other', 'ALTER DATABASE other RENAME TO mine', 'ALTER DATABASE other SET TABLESPACE pg_default')
{
	for my $role ('stranger', 'maker')
	{
		($code, $out, $err) = $bare->psql('postgres', $sql, extra_params => [ '-U', $role ]);
		isnt($code, 0, "$role: $sql");
	}
}
is($bare->safe_psql('postgres', $worker), $pid, 'is still there');

# Nor is it blocked for longer than somebody really needs the database
kill 'STOP', $pid;
my $sleeper = IPC::Run::start([ 'psql', '-XAtq', '-d', $bare->connstr('postgres'), '-c', q{SET statement_timeout = '200ms'}, '-c', 'DROP DATABASE other',
	'-c', 'SET statement_timeout = 0', '-c', 'SELECT pg_sleep(600)' ], '>', \$out, '2>', \$err);
ok(wait_for_sql($bare, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND wait_event = 'PgSleep'}, '1'), 'DROP DATABASE was canceled');
kill 'CONT', $pid;
ok(wait_for_sql($bare, "SELECT count(*) = 1 FROM ($worker) w WHERE pid <> $pid"), 'there is another worker, while the session goes on');
$bare->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND wait_event = 'PgSleep'});
$sleeper->finish;

my $guest = $bare->background_psql('other');
my $creator = IPC::Run::start([ 'psql', '-XAtq', '-d', $bare->connstr('postgres'), '-c', 'CREATE DATABASE mine TEMPLATE other' ], '>', \$out, '2>', \$err);
ok(wait_for_sql($bare, "SELECT count(*) = 0 FROM ($worker) w"), 'CREATE DATABASE waits for somebody');
$bare->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE mine'});
$begun = time;
ok(wait_for_sql($bare, "SELECT count(*) = 1 FROM ($worker) w"), 'it is terminated: there is a worker again');
cmp_ok(time - $begun, '<', $WebhookTest::patience / 4, 'and soon');
$creator->finish;
$guest->quit;

# A database that is closed and open again has not to be found.
$bare->safe_psql('postgres', 'ALTER DATABASE other ALLOW_CONNECTIONS false');
$bare->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM ($worker) w");
ok(wait_for_sql($bare, "SELECT count(*) = 0 FROM ($worker) w"), 'a closed database has no worker once it has ended');
$bare->safe_psql('postgres', 'ALTER DATABASE other ALLOW_CONNECTIONS true');
$begun = time;
ok(wait_for_sql($bare, "SELECT count(*) = 1 FROM ($worker) w"), 'one that is open again has one');
cmp_ok(time - $begun, '<', $WebhookTest::patience / 4, 'soon');

$receiver->stop;
$bare->stop;
done_testing();
