# The worker writes rows of the log and of the attempts without statements:
# whatever a DBA does to the tables meanwhile, each delivery gets its own
# result, once, and tables and indexes agree in the end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $node = start_cluster('tables', conf => q{
wal_level = logical
max_replication_slots = 3
restart_after_crash = on
});
my $receiver = start_receiver();
my $flaky = $receiver->url('/flaky?fail=1');
my $slow = $receiver->url('/slow?ms=' . int(700 * $WebhookTest::patience / 60));
my $last = 0;

$node->safe_psql('postgres', qq{
	CREATE EXTENSION amcheck;
	CREATE TABLE event (id int PRIMARY KEY, filler text);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'flaky', '$flaky', parameters => '{"id": "\${id}", "filler": "\${filler}"}', retry_schedule => '{200ms,200ms}')});

# What is queued from now on.
sub insert
{
	my ($n) = @_;
	my ($from, $to) = ($last + 1, $last + $n);

	$last = $to;
	# Every tenth is toasted.
	$node->safe_psql('postgres', "INSERT INTO event SELECT i, CASE WHEN i % 10 = 0 THEN (SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 200) j) ELSE 'x' END FROM generate_series($from, $to) i");
	return ($from, $to);
}

# Events succeed, each after so many requests, which are its attempts.
sub succeed
{
	my ($what, $from, $to, $attempts) = @_;
	my $n = $to - $from + 1;
	my $range = "record_id::int BETWEEN $from AND $to";

	ok(wait_for_sql($node, "SELECT count(*) FROM webhook.webhook_log WHERE $range AND status = 'Success'", $n), "$what: all succeed");
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT concat_ws(' ', attempts, http_status, error, retry_at, worker), ', ') FROM webhook.webhook_log WHERE $range"), "$attempts 200", "$what: as the log tells");
	is($node->safe_psql('postgres', qq{
		SELECT count(*) FROM webhook.webhook_attempt a JOIN webhook.webhook_log l USING (log_id)
		WHERE $range AND a.attempt <= $attempts AND a.request_body::json ->> 'id' = l.record_id
			AND a.request_body::json ->> 'filler' = l.record ->> 'filler'
			AND a.http_status = CASE a.attempt WHEN $attempts THEN 200 ELSE 503 END}),
		$attempts * $n, "$what: each attempt is there, with its body and status")
	  or diag($node->safe_psql('postgres', qq{
		SELECT concat_ws(' ', l.log_id, a.attempt, a.started_at, a.duration, a.http_status, a.error)
		FROM webhook.webhook_log l LEFT JOIN webhook.webhook_attempt a USING (log_id)
		WHERE $range AND a.http_status IS DISTINCT FROM CASE a.attempt WHEN $attempts THEN 200 ELSE 503 END LIMIT 10}));
	my $seen = $receiver->deliveries;
	is(scalar(grep { $seen->{$_} != $attempts } split /\n/, $node->safe_psql('postgres', "SELECT webhook_id FROM webhook.webhook_log WHERE $range")), 0, "$what: and nothing was sent more often");
	return;
}

sub check_tables
{
	my ($what) = @_;

	is($node->safe_psql('postgres', q{
		SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid)
		WHERE c.oid IN ('webhook.webhook_log'::regclass, 'webhook.webhook_attempt'::regclass)}), 0, "$what: the tables are sound");
	is($node->psql('postgres', q{
		SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
		WHERE indrelid IN ('webhook.webhook_log'::regclass, 'webhook.webhook_attempt'::regclass) AND relam = (SELECT oid FROM pg_am WHERE amname = 'btree')}), 0, "$what: the indexes have every row");
	return;
}

# --------------------------------------------------------------------------
# What a DBA does to the tables
# --------------------------------------------------------------------------

succeed('as they were made', insert(100), 2);
check_tables('as they were made');

my @changes = (
	[ 'an index of an expression, and a partial one',
		q{CREATE INDEX mine ON webhook.webhook_log ((record ->> 'id'), status) WHERE status <> 'Failed'; CREATE INDEX his ON webhook.webhook_attempt (length(request_body)) WHERE http_status = 503},
		undef,
		q{SET enable_seqscan = off; SELECT count(*) >= 50 FROM webhook.webhook_attempt WHERE length(request_body) > 0 AND http_status = 503} ],
	[ 'a unique one, and a BRIN', q{CREATE UNIQUE INDEX one ON webhook.webhook_log (webhook_id); CREATE INDEX brin ON webhook.webhook_log USING brin (completed_at)} ],
	[ 'a trigger',
		q{CREATE TABLE heard (log_id bigint, status text); CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.heard VALUES (new.log_id, new.status); RETURN new; END';
		CREATE TRIGGER hear AFTER UPDATE ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION hear()},
		q{DROP TRIGGER hear ON webhook.webhook_log},
		q{SELECT count(*) FILTER (WHERE status = 'Dispatched') = 100 AND count(*) FILTER (WHERE status = 'Success') = 50 FROM heard} ],
	[ 'a constraint', q{ALTER TABLE webhook.webhook_log ADD CONSTRAINT sane CHECK (attempts < 100)}, q{ALTER TABLE webhook.webhook_log DROP CONSTRAINT sane} ],
	[ 'a reference to it',
		q{CREATE TABLE ticket (log_id bigint REFERENCES webhook.webhook_log ON UPDATE CASCADE)}, q{DROP TABLE ticket} ],
	[ 'no index for the queue', q{DROP INDEX webhook.webhook_log_due_idx} ],
	[ 'another index under its name', q{CREATE INDEX webhook_log_due_idx ON webhook.webhook_log (action_id, retry_at DESC, log_id) WHERE retry_at IS NOT NULL}, q{DROP INDEX webhook.webhook_log_due_idx} ],
	[ 'an index of some of the queue', q{CREATE INDEX webhook_log_due_idx ON webhook.webhook_log (action_id, retry_at, log_id) WHERE retry_at < '2000-01-01'}, q{DROP INDEX webhook.webhook_log_due_idx} ],
	[ 'one of other columns', q{CREATE INDEX webhook_log_due_idx ON webhook.webhook_log (record_id, action_id, log_id) WHERE retry_at IS NOT NULL}, q{DROP INDEX webhook.webhook_log_due_idx},
		q{SELECT count(*) > 0 AND count(queued) = 0 FROM webhook.stat_action} ],
	[ 'the index made again', q{CREATE INDEX webhook_log_due_idx ON webhook.webhook_log (action_id, retry_at, log_id) WHERE retry_at IS NOT NULL} ],
	[ 'a table under it, with rows at the same places',
		q{CREATE TABLE archive () INHERITS (webhook.webhook_log);
		INSERT INTO archive (log_id, workflow_id, action_id, module, operation, status, owner, completed_at)
			SELECT -i, 1, 1000, 'event', 'INSERT', 'Success', 'postgres', now() FROM generate_series(1, 20000) i},
		q{DROP TABLE archive}, q{SELECT count(*) = 20000 FROM archive WHERE status = 'Success'} ],
	[ 'a column more', q{ALTER TABLE webhook.webhook_log ADD note text DEFAULT 'none'; ALTER TABLE webhook.webhook_attempt ADD note text DEFAULT 'none'},
		undef, q{SELECT bool_and(note = 'none') FROM webhook.webhook_attempt} ],
);
for my $change (@changes)
{
	my ($what, $do, $undo, $holds) = @$change;

	$node->safe_psql('postgres', $do);
	succeed($what, insert(50), 2);
	is($node->safe_psql('postgres', $holds), 't', "$what: nothing is left out") if $holds;
	$node->safe_psql('postgres', $undo) if $undo;
}
check_tables('after all that');

# A database that was made again, since a column that was there stays in the way.
$node->safe_psql('postgres', qq{
	DROP EXTENSION webhook CASCADE;
	DROP TABLE event;
	CREATE EXTENSION webhook;
	CREATE TABLE event (id int PRIMARY KEY, filler text);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'flaky', '$flaky', parameters => '{"id": "\${id}", "filler": "\${filler}"}', retry_schedule => '{200ms,200ms}')});

# Logical decoding, for a publication that leaves rows out.
$node->safe_psql('postgres', q{
	ALTER TABLE webhook.webhook_log REPLICA IDENTITY FULL;
	CREATE PUBLICATION part FOR TABLE webhook.webhook_log WHERE (action_id < 1000 AND retry_at IS NULL), webhook.webhook_attempt WHERE (attempt > 0)});
$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')});
succeed('published', my ($from, $to) = insert(50), 2);
$node->safe_psql('postgres', 'CREATE TABLE flush ()');    # decoding sees what is on the disk
is($node->safe_psql('postgres', q{
	WITH change AS (SELECT data FROM pg_logical_slot_get_changes('decoded', NULL, NULL))
	SELECT concat_ws(' ', count(*) FILTER (WHERE data ~ '^table webhook.webhook_log: INSERT'),
		count(*) FILTER (WHERE data ~ '^table webhook.webhook_log: UPDATE: old-key: .*Queued.* new-tuple: .*Dispatched'),
		count(*) FILTER (WHERE data ~ '^table webhook.webhook_log: UPDATE: old-key: .*Dispatched.* new-tuple: .*Success'),
		count(*) FILTER (WHERE data ~ '^table webhook.webhook_attempt: INSERT')) FROM change}),
	'50 50 50 100', 'logical decoding sees every change');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('decoded'); DROP PUBLICATION part; ALTER TABLE webhook.webhook_log REPLICA IDENTITY DEFAULT});

# --------------------------------------------------------------------------
# Between the claim and the result
# --------------------------------------------------------------------------

sub under_way
{
	my ($n) = @_;

	$node->safe_psql('postgres', "SELECT webhook.alter_action(action_id, url => '$slow') FROM webhook.action");
	my @range = insert($n);
	ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched'}, $n), "$n are under way");
	return @range;
}

# Rows move to where others were.
($from, $to) = under_way(40);
$node->safe_psql('postgres', qq{DELETE FROM webhook.webhook_log WHERE record_id::int < $from AND record_id::int % 3 > 0});
$node->safe_psql('postgres', 'VACUUM FULL webhook.webhook_log');
succeed('rewritten under way', $from, $to, 1);
($from, $to) = under_way(40);
$node->safe_psql('postgres', q{CREATE INDEX reverse ON webhook.webhook_log ((-log_id)); CLUSTER webhook.webhook_log USING reverse});
succeed('turned over under way', $from, $to, 1);
($from, $to) = under_way(40);
$node->safe_psql('postgres', "UPDATE webhook.webhook_log SET dispatched_at = dispatched_at WHERE record_id::int BETWEEN $from AND $to");
succeed('updated under way', $from, $to, 1);
check_tables('rewritten, turned over, updated');

# Nothing is left of them, nor does their result go anywhere else.
($from, $to) = under_way(40);
$node->safe_psql('postgres', 'TRUNCATE webhook.webhook_log');
succeed('after others went under way', insert(40), 1);
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.webhook_log'), 40, 'and they are gone');

# What was taken from the worker and given to another one is the other's.
($from, $to) = under_way(2);
$node->safe_psql('postgres', "UPDATE webhook.webhook_log SET status = 'Failed', retry_at = NULL, error = 'by hand' WHERE record_id::int = $from");
ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE record_id::int = $to", 'Success'), 'one of two succeeds');
is($node->safe_psql('postgres', "SELECT concat_ws(' ', status, error) FROM webhook.webhook_log WHERE record_id::int = $from"), 'Failed by hand', 'what was decided by hand stays');

# --------------------------------------------------------------------------
# Locks of others
# --------------------------------------------------------------------------

# A lock that an update need not wait for is no lock.
$node->safe_psql('postgres', "SELECT webhook.alter_action(action_id, url => '$flaky') FROM webhook.action");
$node->append_conf('postgresql.conf', 'webhook.enabled = off');
$node->reload;
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker}, 'disabled'), 'the worker waits');
($from, $to) = insert(30);
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT count(*) FROM (SELECT FROM webhook.webhook_log WHERE record_id::int BETWEEN $from AND $to - 1 FOR KEY SHARE) l");
my $locker = $node->background_psql('postgres');
$locker->query_safe("BEGIN; SELECT count(*) FROM (SELECT FROM webhook.webhook_log WHERE record_id::int = $to FOR UPDATE) l");
$node->append_conf('postgresql.conf', 'webhook.enabled = on');
$node->reload;
succeed('locked FOR KEY SHARE', $from, $to - 1, 2);
is($node->safe_psql('postgres', "SELECT status FROM webhook.webhook_log WHERE record_id::int = $to"), 'Queued', 'locked FOR UPDATE: passed over');
$locker->query_safe('COMMIT');
$locker->quit;
$node->safe_psql('postgres', q{SELECT webhook.alter_action(action_id, description => 'look again') FROM webhook.action});
succeed('no longer locked', $to, $to, 2);
$holder->query_safe('COMMIT');
$holder->quit;
check_tables('with marks of locks');

# A table that is locked for longer than the worker waits: nothing is left out later.
($from, $to) = under_way(4);
$locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE webhook.webhook_attempt');
ok(wait_for_sql($node, q{SELECT last_error LIKE '%lock timeout%' FROM webhook.stat_worker}), 'the attempts are locked: the worker says so');
is($node->safe_psql('postgres', "SELECT count(*) FROM webhook.webhook_log WHERE record_id::int BETWEEN $from AND $to AND status = 'Success'"), 0, 'nothing is recorded by halves');
my $told = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
ok(wait_for_sql($node, "SELECT last_turn_at > '$told'::timestamptz + interval '1 s' FROM webhook.stat_worker"), 'it has tried again');
$locker->query_safe('COMMIT');
$locker->quit;
succeed('no longer locked table', $from, $to, 1);
$node->safe_psql('postgres', "SELECT webhook.alter_action(action_id, url => '$flaky') FROM webhook.action");

# --------------------------------------------------------------------------
# Indexes made again while it goes on
# --------------------------------------------------------------------------

($from, $to) = insert(3000);
my ($rounds, $failures) = (0, 0);
while ($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL}) > 0 && $rounds < 100)
{
	for my $statement ('REINDEX INDEX CONCURRENTLY webhook.webhook_log_due_idx', 'REINDEX INDEX webhook.webhook_log_due_idx', 'REINDEX TABLE webhook.webhook_log',
		'REINDEX TABLE CONCURRENTLY webhook.webhook_attempt', 'VACUUM FULL webhook.webhook_log', 'VACUUM FULL webhook.webhook_attempt')
	{
		$failures++ if $node->psql('postgres', $statement) != 0;
	}
	$rounds++;
}
succeed("made again $rounds times", $from, $to, 2);
is($failures, 0, 'none of the statements failed');
check_tables('made again');
is(scalar(() = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /PANIC|TRAP|terminated by signal|could not open relation|deadlock/g), 0, 'nothing of it went wrong in the server log');

# --------------------------------------------------------------------------
# What a worker finds of the one before it is not left for a later look
# --------------------------------------------------------------------------

($from, $to) = under_way(30);
my $begun = time;
my $killed = worker_pid($node);
kill 'KILL', $killed;
ok(worker_pid($node, $killed), 'the worker is killed, and there is another one');
ok(wait_for_sql($node, "SELECT count(*) FROM webhook.webhook_log WHERE record_id::int BETWEEN $from AND $to AND status = 'Success'", 30), 'what was under way is sent again');
cmp_ok(time - $begun, '<', $WebhookTest::patience / 4, 'and soon');

# --------------------------------------------------------------------------
# What can't be stored yet is stored as it was, whatever the action is by then
# --------------------------------------------------------------------------

my $action = $node->safe_psql('postgres', q{
	SELECT webhook.create_workflow('late', 'event', 'delete');
	SELECT webhook.create_action('late', 'broken', 'http://127.0.0.1:1/', retry_schedule => '{}')});
$action =~ s/.*\n//s;
$node->safe_psql('postgres', "UPDATE webhook.action SET url = 'http://127.0.0.1:1/\${' WHERE action_id = $action");
$node->safe_psql('postgres', q{ALTER TABLE webhook.webhook_log ADD CONSTRAINT unbroken CHECK (status <> 'Failed') NOT VALID});
$node->safe_psql('postgres', "DELETE FROM event WHERE id = $last");
ok(wait_for_sql($node, q{SELECT last_error LIKE '%"unbroken"%' FROM webhook.stat_worker}), 'a result can\'t be stored');
$node->safe_psql('postgres', "SELECT webhook.alter_action($action, url => '" . $receiver->url('/ok') . q{', title => repeat('mended ', 9), headers => '{"X-Longer": "than what there was before"}')});
$node->safe_psql('postgres', "DELETE FROM event WHERE id = $last - 1");
ok(wait_for_sql($node, "SELECT count(*) = 1 FROM webhook.webhook_log WHERE action_id = $action AND status = 'Success'"), 'the action is mended');
$node->safe_psql('postgres', 'ALTER TABLE webhook.webhook_log DROP CONSTRAINT unbroken');
ok(wait_for_sql($node, "SELECT count(*) = 1 FROM webhook.webhook_log WHERE action_id = $action AND status = 'Failed'"), 'the result is stored');
like($node->safe_psql('postgres', "SELECT error FROM webhook.webhook_log WHERE action_id = $action AND status = 'Failed'"),
	qr/^the action can't be carried out: /, 'and says what was wrong');

# What is wrong with an action is still known when much has happened since.
$node->safe_psql('postgres', "UPDATE webhook.action SET url = 'http://127.0.0.1:1/\${' WHERE action_id = $action");
for my $id ($last - 3, $last - 2)
{
	$node->safe_psql('postgres', "DELETE FROM event WHERE id = $id");
	ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE action_id = $action AND record_id = '$id'", 'Failed'), 'the action is broken again');
	like($node->safe_psql('postgres', "SELECT error FROM webhook.webhook_log WHERE action_id = $action AND record_id = '$id'"),
		qr/^the action can't be carried out: .* at "/, 'and the log says what is wrong');
	succeed('others meanwhile', insert(50), 1);
}

# ... as it does of what no function of ours would have written.
$node->safe_psql('postgres', "UPDATE webhook.action SET url = 'http://127.0.0.1:1/', retry_schedule = '{NULL}' WHERE action_id = $action; DELETE FROM event WHERE id = $last - 4");
ok(wait_for_sql($node, "SELECT error FROM webhook.webhook_log WHERE action_id = $action AND record_id = '" . ($last - 4) . q{'},
		q{the action can't be carried out: retry schedule contains a null value}), 'a retry schedule with a hole in it');

$receiver->stop;
$node->stop;
done_testing();
