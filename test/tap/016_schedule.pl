# Scheduled workflows: really run, in a process of their own, with the owner's
# rights, and whatever happens to one, the next comes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $receiver = start_receiver();
my $node = start_cluster('schedule', conf => q{
webhook.timezone = 'Europe/Berlin'
max_worker_processes = 12
});
my $ok = $receiver->url('/ok');

sub sql { return $node->safe_psql('postgres', shift) }
sub is_soon { return ok(wait_for_sql($node, shift), shift) }

sql(qq{
	CREATE TABLE task (id int PRIMARY KEY, n int);
	INSERT INTO task SELECT i, i FROM generate_series(1, 10) i;
	SELECT webhook.create_workflow('small', 'task', 'schedule', 'n <= 3', schedule => '1 second');
	SELECT webhook.create_action('small', 'send', '$ok')});
is_soon(q{SELECT count(*) >= 6 AND min(operation) = 'SCHEDULE' AND count(DISTINCT record_id) = 3 FROM webhook.webhook_log WHERE status = 'Success'}, 'a schedule runs again and again');
is_soon(q{SELECT next_run_at > now() FROM webhook.workflow}, 'and plans its next run');
is(sql(q{SELECT count(*) FROM webhook.webhook_log l WHERE record_id NOT IN ('1', '2', '3')}), 0, 'with the records that meet its condition');
sql(q{SELECT webhook.enable_workflow('small', false)});
is_soon(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'webhook run')}, 'disabled it ends');
my $count = sql('SELECT count(*) FROM webhook.webhook_log');

# first: once in a life
sql(qq{SELECT webhook.create_workflow('first', 'task', 'schedule', recurrence => 'first', schedule => '1 second');
	SELECT webhook.create_action('first', 'send', '$ok')});
is_soon(q{SELECT count(*) = 10 FROM webhook.webhook_log l JOIN webhook.workflow USING (workflow_id) WHERE name = 'first'}, 'every record once');
sql('INSERT INTO task VALUES (11, 11)');
is_soon(q{SELECT count(*) = 11 FROM webhook.webhook_log l JOIN webhook.workflow USING (workflow_id) WHERE name = 'first'}, 'and a new one once');
sql(q{SELECT webhook.drop_workflow('first')});
is(sql(q{SELECT count(*) FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id) WHERE w.name = 'small'}), $count, 'a disabled one does not run');

# A run that fails is told, and the next one comes; so it is with rights that are gone.
sql(qq{
	CREATE ROLE clerk; GRANT USAGE ON SCHEMA webhook TO clerk; GRANT SELECT, TRIGGER ON task TO clerk;
	SET ROLE clerk;
	SELECT webhook.create_workflow('fragile', 'task', 'schedule', '1 / n > -1 AND n < 3', schedule => '1 second');
	SELECT webhook.create_action('fragile', 'send', '$ok')});
is_soon(q{SELECT count(*) >= 2 FROM webhook.webhook_log l JOIN webhook.workflow USING (workflow_id) WHERE name = 'fragile'}, 'it runs');
sql('INSERT INTO task VALUES (0, 0)');
is_soon(q{SELECT last_error LIKE 'scheduled run of workflow "fragile" failed: division by zero%' FROM webhook.stat_worker WHERE worker = 0}, 'stat_worker tells of a run that fails');
my $planned = sql(q{SELECT next_run_at FROM webhook.workflow WHERE name = 'fragile'});
is_soon(qq{SELECT next_run_at > '$planned' FROM webhook.workflow WHERE name = 'fragile'}, 'it is planned again');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR:  division by zero\n.*CONTEXT:.*scheduled run of workflow "fragile"/s, 'and the server log');
sql('DELETE FROM task WHERE id = 0; DELETE FROM webhook.webhook_log');
is_soon(q{SELECT count(*) >= 2 FROM webhook.webhook_log l JOIN webhook.workflow USING (workflow_id) WHERE name = 'fragile'}, 'and runs again');
sql('REVOKE SELECT ON task FROM clerk');
is_soon(q{SELECT last_error LIKE '%"fragile" failed: permission denied for table task%' FROM webhook.stat_worker WHERE worker = 0}, 'a run has no more rights than its owner');
sql(q{SELECT webhook.drop_workflow('fragile'); DELETE FROM webhook.webhook_log});

# A long run: in a process of its own, while deliveries go on.
sql(qq{
	CREATE FUNCTION slowly(i int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS \$\$ BEGIN PERFORM pg_sleep(CASE WHEN i = 2 THEN 600 ELSE 0 END); RETURN true; END \$\$;
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('event', 'event');
	SELECT webhook.create_action('event', 'send', '$ok');
	SELECT webhook.create_workflow('long', 'task', 'schedule', 'slowly(n)', schedule => '1 second');
	SELECT webhook.create_action('long', 'send', '$ok')});
is_soon(q{SELECT query = 'running workflow "long"' FROM pg_stat_activity WHERE backend_type = 'webhook run'}, 'a long run is in pg_stat_activity');
is(sql(q{SELECT state FROM webhook.stat_worker WHERE worker >= 1000}), 'running a workflow', 'and in stat_worker');
is(sql(q{SELECT command, done FROM webhook.stat_progress}), 'run_workflow|0', 'and in stat_progress');
sql('INSERT INTO event SELECT generate_series(1, 500)');
is_soon(q{SELECT count(*) = 500 FROM webhook.webhook_log WHERE status = 'Success'}, 'deliveries go on');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'webhook run'});
is_soon(q{SELECT last_error LIKE '%"long" failed: canceling statement%' FROM webhook.stat_worker WHERE worker = 0}, 'it can be canceled');
is_soon(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'webhook run'}, 'and is begun anew when its time has come');
my $start = time;
$node->restart;
cmp_ok(time - $start, '<', 8, 'a restart does not wait for it');
is_soon(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'webhook run'}, 'and makes up for it');

# DROP DATABASE while a run is under way in it.  It has the place of one of this
# database that has ended, which the worker here, held up, has yet to see.
sql('CREATE DATABASE other');
$node->safe_psql('other', q{CREATE EXTENSION webhook;
	CREATE FUNCTION slowly(i int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM pg_sleep(600); RETURN true; END $$;
	CREATE TABLE task (id int PRIMARY KEY); INSERT INTO task VALUES (1)});
worker_pid($node, 0, 'other');
my $worker = worker_pid($node);
kill 'STOP', $worker;
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'webhook run'});
is_soon(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'webhook run')}, 'a run ends while its worker is held up');
$node->safe_psql('other', qq{
	SELECT webhook.create_workflow('long', 'task', 'schedule', 'slowly(id)', schedule => '1 second');
	SELECT webhook.create_action('long', 'send', '$ok')});
is_soon(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'webhook run' AND datname = 'other'}, 'a run in another database');
kill 'CONT', $worker;
is_soon(q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'webhook run'}, 'one in this database again');
is(sql(q{SELECT string_agg(database, ' ' ORDER BY database) FROM webhook.stat_worker WHERE worker >= 1000}), 'other postgres', 'each has a place of its own');
$start = time;
sql('DROP DATABASE other');
cmp_ok(time - $start, '<', 2, 'does not keep it from being dropped');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'webhook run'; ALTER TABLE task ADD x int; CREATE OR REPLACE FUNCTION slowly(i int) RETURNS boolean LANGUAGE sql AS 'SELECT true'});
sql(q{SELECT webhook.drop_workflow('long')});

# What was missed while the server was down is made up for once.
sql(qq{SELECT webhook.create_workflow('daily', 'task', 'schedule', 'n = 1', schedule => '0 9 * * *');
	SELECT webhook.create_action('daily', 'send', '$ok');
	UPDATE webhook.workflow SET next_run_at = next_run_at - interval '5 days' WHERE name = 'daily'; DELETE FROM webhook.webhook_log});
$node->stop('immediate');
$node->start;
is_soon(q{SELECT next_run_at > now() FROM webhook.workflow WHERE name = 'daily'}, 'a missed run is made up for');
is(sql('SELECT count(*) FROM webhook.webhook_log'), 1, 'once');
is(sql(q{SELECT next_run_at = webhook.next_run('0 9 * * *', now(), 'Europe/Berlin') FROM webhook.workflow WHERE name = 'daily'}), 't', 'the next is at its time');
$node->append_conf('postgresql.conf', "webhook.timezone = 'Asia/Kolkata'");
$node->reload;
is_soon(q{SELECT next_run_at = webhook.next_run('0 9 * * *', now(), 'Asia/Kolkata') FROM webhook.workflow WHERE name = 'daily'}, 'another zone moves it');

# Many records: not in memory.
sql(qq{SELECT webhook.drop_workflow('daily');
	SELECT webhook.alter_workflow('event', condition => 'id < 0');
	INSERT INTO event SELECT generate_series(1000, 200999);
	DELETE FROM webhook.webhook_log;
	SELECT webhook.enable_action(action_id, false) FROM webhook.action});
sql(q{ALTER SYSTEM SET webhook.max_in_flight = 1});
sql(qq{SELECT webhook.create_workflow('many', 'event', 'schedule', schedule => '2 seconds');
	SELECT webhook.create_action('many', 'send', 'http://127.0.0.1:1/')});
my $peak = 0;
my $pid;
my $deadline = time + $WebhookTest::patience;
while (time < $deadline)
{
	$pid ||= sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook run'});
	last if $pid && !-e "/proc/$pid";
	if ($pid && open my $file, '<', "/proc/$pid/status")
	{
		local $/;
		my $status = <$file> || '';
		$peak = $1 if $status =~ /RssAnon:\s+(\d+)/ && $1 > $peak;
	}
	sleep 0.02;
}
sql(q{SELECT webhook.enable_workflow('many', false)});
cmp_ok(sql(q{SELECT count(*) FROM webhook.webhook_log}), '>=', 200499, '200,000 records are queued');
cmp_ok($peak, '>', 0, 'its memory was seen');
cmp_ok($peak, '<', 40000, "it took $peak kB");

$node->stop;
done_testing();
