# What a DBA watches: counts that agree with the log and outlive the worker,
# the workers, and one line in the server log for each change of a state.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use WebhookTest;

my $node = start_cluster('stat', conf => q{
webhook.log_retention = 0
restart_after_crash = on
log_line_prefix = '%b %e '
});
my $receiver = start_receiver();
my $port = closed_port();

$node->safe_psql('postgres', q{
	CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE watcher; GRANT pg_monitor TO watcher;
	GRANT USAGE ON SCHEMA webhook TO alice, bob, watcher;
	GRANT CREATE ON SCHEMA public TO alice, bob});

# A module of a role with an action that answers as is said.
sub make_action
{
	my ($role, $name, $url, $more) = @_;

	return $node->safe_psql('postgres', qq{
		SET ROLE $role;
		CREATE TABLE $name (id int PRIMARY KEY);
		SELECT FROM webhook.create_workflow('$name', '$name', 'create');
		SELECT webhook.create_action('$name', 'send $name', '$url' } . ($more || '') . ')');
}

sub stat_of
{
	my ($action) = @_;

	return row($node, "SELECT * FROM webhook.stat_action WHERE action_id = $action");
}

# The counts are stored within a second or so.
sub wait_for_stat
{
	my ($action, $condition) = @_;

	return wait_for_sql($node, "SELECT $condition FROM webhook.stat_action WHERE action_id = $action");
}

sub count_log
{
	my ($pattern) = @_;
	my @found = slurp_file($node->logfile) =~ /$pattern/g;

	return scalar @found;
}

# Counts agree with the log
my $ok = make_action('alice', 'good', $receiver->url('/slow?ms=20'), ', max_in_flight => 20');
my $bad = make_action('bob', 'bad', "http://127.0.0.1:$port/", q{, retry_schedule => '{1 hour}'});
my $stat = stat_of($ok);
is_deeply([ @$stat{qw(workflow title enabled queued in_flight retrying succeeded failed attempts oldest_due p50)} ],
	[ 'good', 'send good', JSON::PP::true, (0) x 6, undef, undef ], 'an action that has done nothing');
$node->safe_psql('postgres', 'INSERT INTO good SELECT generate_series(1, 200); INSERT INTO bad SELECT generate_series(1, 2)');
ok(wait_for_delivery($node), 'sent');
ok(wait_for_stat($ok, 'succeeded = 200 AND attempts = 200 AND failed = 0'), 'successes are counted');
ok(wait_for_stat($bad, "retrying = 2 AND attempts = 2 AND last_error LIKE '%refused%'"), 'failed attempts are counted');
$stat = stat_of($ok);
is($node->safe_psql('postgres', "SELECT p50 BETWEEN '15 ms' AND '60 ms' AND p50 <= p95 AND p95 <= p99 FROM webhook.stat_action WHERE action_id = $ok"), 't',
	'latency is what the receiver takes') or diag("$stat->{p50} $stat->{p95} $stat->{p99}");
is($stat->{failing_since}, undef, 'the receiver is not failing');
is(stat_of($bad)->{failing_since}, undef, 'two failures are not yet a failing receiver');
is(stat_of($bad)->{oldest_due}, undef, 'what waits for its next attempt is not due');

# A receiver that fails, and is back: a line each
my $down = 'receiver of webhook action ' . $bad . ' \("send bad"\) has been failing since';
my $back = 'receiver of webhook action ' . $bad . ' \("send bad"\) is back';
is(count_log($down), 0, 'nothing of it in the server log so far');
turn_clock($node);
ok(wait_for_stat($bad, 'failed = 2 AND retrying = 0 AND failing_since IS NOT NULL'), 'given up, and failing');
my $since = stat_of($bad)->{failing_since};
$node->safe_psql('postgres', 'INSERT INTO bad SELECT generate_series(3, 50)');
ok(wait_for_stat($bad, 'attempts = 52'), 'it fails on');
is(count_log($down), 1, 'one line for many failures');
like(slurp_file($node->logfile), qr/webhook worker 08006 WARNING:  $down/, 'with a code');
is(stat_of($bad)->{failing_since}, $since, 'failing since the first');

# All of that outlives a worker that is killed, and a restart
my $before = stat_of($ok)->{succeeded};
$node->safe_psql('postgres', 'CREATE TABLE flushed ()');	# a commit that is not asynchronous
kill_worker($node);
is(stat_of($ok)->{succeeded}, $before, 'counts outlive a killed worker');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (201); INSERT INTO bad VALUES (51)');
$node->restart;
ok(wait_for_delivery($node), 'sent');
ok(wait_for_stat($ok, 'succeeded = 201'), 'and a restart: nothing is forgotten or counted twice');
ok(wait_for_stat($bad, 'attempts = 53'), 'nor of the other');
is(stat_of($bad)->{failing_since}, $since, 'the receiver is still failing since then');
is(count_log($down), 1, 'which is not told again');
$node->safe_psql('postgres', "SELECT webhook.alter_action($bad, url => '" . $receiver->url('/ok') . "')");
$node->safe_psql('postgres', 'INSERT INTO bad VALUES (52)');
ok(wait_for_stat($bad, 'failing_since IS NULL AND succeeded > 0'), 'one success ends it');
ok(wait_for_delivery($node), 'sent');
is(count_log($back), 1, 'and is told once');

# The queue
$node->safe_psql('postgres', "SELECT webhook.enable_action($ok, false)");
$node->safe_psql('postgres', "SELECT webhook.enable_action($ok); ALTER SYSTEM SET webhook.enabled = off");
$node->reload;
ok(wait_for_sql($node, "SELECT state FROM webhook.stat_worker", 'disabled'), 'switched off');
is(count_log('webhook worker 0 of database "postgres" is paused'), 1, 'the server log says so');
$node->safe_psql('postgres', q{
	BEGIN; INSERT INTO good SELECT generate_series(1001, 1300); COMMIT;
	INSERT INTO good SELECT generate_series(2001, 22000)});
is($node->safe_psql('postgres', "SELECT queued || ' ' || (oldest_due <= now()) FROM webhook.stat_action WHERE action_id = $ok"), '10000 true',
	'a long queue is counted up to a bound');
$node->safe_psql('postgres', q{DELETE FROM webhook.webhook_log WHERE record_id::int > 2000});
is(stat_of($ok)->{queued}, 300, 'a short one is counted');
$node->safe_psql('postgres', 'ALTER SYSTEM SET webhook.enabled = on');
$node->reload;
ok(wait_for_sql($node, "SELECT max(in_flight) > 0 AND max(in_flight) <= 20 FROM webhook.stat_action"), 'in flight while it is');
ok(wait_for_stat($ok, 'succeeded = 501 AND queued = 0 AND in_flight = 0'), 'and counted when it is not any more');

# A held lock on the counts holds up nothing
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SELECT FROM webhook.action_stats FOR UPDATE');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (30000)');
ok(wait_for_delivery($node), 'sent while somebody has locked the counts');
$session->query_safe('COMMIT');
$session->quit;
ok(wait_for_stat($ok, 'succeeded = 502'), 'and counted when the lock is gone');

# An error in the statistics stops nothing
$node->safe_psql('postgres', 'ALTER TABLE webhook.action_stats ADD CONSTRAINT broken CHECK (succeeded < 503) NOT VALID');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (30001)');
ok(wait_for_delivery($node), 'sent while the counts can\'t be stored');
$node->safe_psql('postgres', 'ALTER TABLE webhook.action_stats DROP CONSTRAINT broken');
$node->restart;
$node->safe_psql('postgres', 'INSERT INTO good VALUES (30002)');
ok(wait_for_stat($ok, 'succeeded = 504'), 'and nothing is lost once they can');

# Who sees what
is($node->safe_psql('postgres', 'SET ROLE alice; SELECT string_agg(title, \' \') FROM webhook.stat_action'), 'send good', 'a role sees its own actions');
is($node->safe_psql('postgres', 'SET ROLE watcher; SELECT count(*) FROM webhook.stat_action'), '0', 'and no others');
is($node->safe_psql('postgres', 'SET ROLE alice; SELECT count(*) FROM webhook.stat_worker'), '1', 'workers are seen by all');
my ($code, $out, $err) = $node->psql('postgres', 'SET ROLE alice; SELECT * FROM webhook.action_stats');
like($err, qr/permission denied/, 'what the counts are kept in is not');
($code, $out, $err) = $node->psql('postgres', "SET ROLE alice; SELECT webhook.stat_reset($bad)");
like($err, qr/webhook action $bad does not exist/, 'nor reset by others');
$node->safe_psql('postgres', 'SET ROLE alice; SELECT webhook.stat_reset()');
is_deeply([ @{ stat_of($ok) }{qw(succeeded attempts p50 last_success_at)} ], [ 0, 0, undef, undef ], 'reset');
isnt(stat_of($ok)->{reset_at}, undef, 'it says when');
is($node->safe_psql('postgres', "SELECT succeeded > 0 FROM webhook.stat_action WHERE action_id = $bad"), 't', 'but not what belongs to others');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (30003)');
ok(wait_for_stat($ok, 'succeeded = 1 AND p50 IS NOT NULL'), 'counting goes on from there');

# An error of the worker's own is not for everybody
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'secret of bob'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION refuse();
	INSERT INTO good VALUES (30004)});
ok(wait_for_sql($node, q{SELECT last_error FROM webhook.stat_worker}, 'secret of bob'), 'the worker\'s own error');
is($node->safe_psql('postgres', 'SET ROLE alice; SELECT last_error FROM webhook.stat_worker'), '<insufficient privilege>', 'not for everybody');
is($node->safe_psql('postgres', 'SET ROLE watcher; SELECT last_error FROM webhook.stat_worker'), 'secret of bob', 'but for pg_monitor');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON webhook.webhook_log');
ok(wait_for_delivery($node), 'it goes on');
ok(wait_for_stat($ok, 'succeeded = 2'), 'and counts');

# What a turn that fails had counted is not counted: results that come while no
# delivery can be claimed are settled again and again.
$node->safe_psql('postgres', "SELECT webhook.alter_action($ok, url => '" . $receiver->url('/slow?ms=600') . "')");
$before = $node->safe_psql('postgres', "SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success' AND action_id = $ok");
my $counted = stat_of($ok)->{succeeded};
$node->safe_psql('postgres', 'INSERT INTO good SELECT generate_series(31001, 31020)');
ok(wait_for_sql($node, "SELECT in_flight FROM webhook.stat_action WHERE action_id = $ok", '20'), 'under way');
$node->safe_psql('postgres', q{
	CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'nothing may be claimed'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON webhook.webhook_log FOR EACH ROW WHEN (NEW.status = 'Dispatched') EXECUTE FUNCTION refuse();
	INSERT INTO good SELECT generate_series(31021, 31040)});
ok(wait_for_sql($node, 'SELECT max(unsettled) FROM webhook.stat_worker', '20'), 'answers can\'t be settled');
is(count_log('ERROR:  nothing may be claimed'), 1, 'which the server log tells once');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON webhook.webhook_log');
ok(wait_for_delivery($node), 'until they can');
ok(wait_for_stat($ok, "succeeded >= $counted + 40"), 'all are counted');
is(stat_of($ok)->{succeeded} - $counted,
	$node->safe_psql('postgres', "SELECT count(*) - $before FROM webhook.webhook_log WHERE status = 'Success' AND action_id = $ok"), 'once each');
$node->safe_psql('postgres', "SELECT webhook.alter_action($ok, url => '" . $receiver->url('/ok') . "')");

# pg_stat_activity, and what autovacuum goes by
is($node->safe_psql('postgres', q{SELECT string_agg(backend_type || ': ' || application_name || ': ' || query, E'\n' ORDER BY 1)
	FROM pg_stat_activity WHERE backend_type LIKE 'webhook%'}),
	"webhook launcher: webhook launcher: starting a worker in each database that has webhooks\n"
	. 'webhook worker: webhook worker 0: delivering webhooks', 'pg_stat_activity tells what they do');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.stat_worker w JOIN pg_stat_activity a USING (pid)
	WHERE w.state = 'running' AND w.last_turn_at > w.started_at AND w.memory > 0 AND w.attempts > 0 AND w.unsettled = 0 AND w.claimed = 0}), '1',
	'a row of stat_worker');
my $updates = q{SELECT coalesce(sum(n_tup_upd), 0) FROM pg_stat_user_tables WHERE relid = 'webhook.webhook_log'::regclass};
$before = $node->safe_psql('postgres', $updates);
$node->safe_psql('postgres', 'INSERT INTO good SELECT generate_series(40001, 40100)');
ok(wait_for_delivery($node), 'sent');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (40101)');
ok(wait_for_sql($node, "SELECT ($updates) >= $before + 200"), 'what the worker writes is known to autovacuum while it runs');

# What is dropped leaves the view, and its counts go
$node->safe_psql('postgres', "SELECT webhook.drop_action($bad)");
is($node->safe_psql('postgres', "SELECT count(*) FROM webhook.stat_action WHERE action_id = $bad"), '0', 'a dropped action is not shown');
$node->restart;
$node->safe_psql('postgres', 'INSERT INTO good VALUES (50000)');
ok(wait_for_sql($node, "SELECT count(*) = 0 FROM webhook.action_stats WHERE action_id = $bad"), 'and its counts go');

# Two workers count together, and tell of a failing receiver once
my $other = make_action('bob', 'other', "http://127.0.0.1:$port/", q{, retry_schedule => '{}', max_in_flight => 1});
$down = 'receiver of webhook action ' . $other . ' \("send other"\) has been failing since';
$node->safe_psql('postgres', 'ALTER SYSTEM SET webhook.workers_per_database = 2');
$node->reload;
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.stat_worker WHERE state = 'running' AND last_turn_at IS NOT NULL}, '2'), 'two workers');
my $met = "SELECT count(*) FROM webhook.action_stats WHERE action_id = $other AND failures >= 3";
for my $i (1 .. 500)
{
	$node->safe_psql('postgres', "INSERT INTO other SELECT generate_series($i * 100 + 1, $i * 100 + 20)");
	last if $node->safe_psql('postgres', $met) eq '2';
}
is($node->safe_psql('postgres', $met), '2', 'both meet the failing receiver');
ok(wait_for_delivery($node), 'sent');
my $sent = $node->safe_psql('postgres', 'SELECT count(*) FROM other');
ok(wait_for_stat($other, "failed = $sent AND attempts = $sent AND failing_since IS NOT NULL"), 'they count together');
is(count_log($down), 1, 'but one has told it');

$receiver->stop;
$node->stop;
done_testing();
