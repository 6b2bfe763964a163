# A worker that is interrupted while requests are under way: nothing is lost by it, and
# nobody is kept waiting for what it held.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $node = start_cluster('interrupted', conf => q{
webhook.max_in_flight_per_action = 5
restart_after_crash = on
});
my $receiver = start_receiver(terse => 1);
my $slow = $receiver->url('/slow?ms=2000');
my $ok = $receiver->url('/ok');

sub sql { return $node->safe_psql('postgres', shift) }

sql('CREATE TABLE event (id int PRIMARY KEY, kind text)');
my %action;
for my $kind ('slow', 'quick')
{
	my $url = $kind eq 'slow' ? $slow : $ok;

	sql("SELECT webhook.create_workflow('$kind', 'event', 'save', 'kind = ''$kind''')");
	$action{$kind} = sql(qq{SELECT webhook.create_action('$kind', 'send', '$url', parameters => '{"id": "\${id}"}', retry_schedule => '{}')});
}

sub succeed
{
	my ($from, $to, $what) = @_;

	return ok(wait_for_sql($node, "SELECT count(*) FROM webhook.webhook_log WHERE record_id::int BETWEEN $from AND $to AND status = 'Success'", $to - $from + 1), $what);
}

# A worker that is to cancel what it does has nothing to cancel while it waits.
my $pid = worker_pid($node);
sql(q{INSERT INTO event SELECT i, 'slow' FROM generate_series(1, 10) i});
ok(wait_for_sql($node, 'SELECT in_flight FROM webhook.stat_worker', '5'), 'five are under way, and five wait for them');
for my $round (1 .. 10)
{
	sql("SELECT pg_cancel_backend($pid)");
	sleep 0.02;
}
succeed(1, 10, 'they succeed');
is(worker_pid($node), $pid, 'by the same worker');
is(scalar(grep { $_ != 1 } values %{ $receiver->deliveries }), 0, 'sent once each');

# An action that can't be read, because somebody has locked its table, is no action
# that can't be carried out.
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE webhook.action_secret');
sql(q{INSERT INTO event SELECT i, 'quick' FROM generate_series(101, 110) i});
$node->reload;
ok(wait_for_sql($node, q{SELECT state || ': ' || last_error FROM webhook.stat_worker}, 'backoff: canceling statement due to lock timeout'), 'the table of secrets is locked: the worker says so');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Failed'}), '0', 'nothing fails for it');
$locker->query_safe('COMMIT');
$locker->quit;
succeed(101, 110, 'no longer locked: everything is sent');

# What ended long ago can't be deleted, for the sake of somebody's constraint, or
# because somebody has locked a table: deliveries go out all the same.
my $next = 1001;
sub add
{
	sql("INSERT INTO event VALUES ($next, 'quick')");
	$next++;
	return;
}

sub send_beside
{
	my ($seconds, $what) = @_;
	my $end = time + $seconds;
	my $longest = 0;

	while (time < $end)
	{
		my $before = $receiver->count;
		my $begin = time;

		add();
		$receiver->wait_for($before + 1);
		$longest = time - $begin if $longest < time - $begin;
		sleep 0.1;
	}
	cmp_ok($longest, '<', 2, $what);
	return;
}
sql('CREATE TABLE mine (log_id bigint REFERENCES webhook.webhook_log DEFERRABLE); INSERT INTO mine SELECT min(log_id) FROM webhook.webhook_log');
for my $mode ('IMMEDIATE', 'DEFERRED')
{
	sql("ALTER TABLE mine ALTER CONSTRAINT mine_log_id_fkey DEFERRABLE INITIALLY $mode");
	add();
	my $log = -s $node->logfile;
	sql('ALTER SYSTEM SET webhook.log_retention = ' . ($mode eq 'IMMEDIATE' ? q{'5s'} : q{'4s'}));
	$node->reload;
	send_beside(7, "a purge is forbidden, $mode: others are sent at once");
	like(slurp_file($node->logfile), qr/violates foreign key constraint "mine_log_id_fkey"/, 'it is told of');
	is(sql(q{SELECT last_error LIKE '%mine_log_id_fkey%' FROM webhook.stat_worker}), 't', '... where the worker\'s state is');
}
sql('DROP TABLE mine; ALTER SYSTEM SET webhook.log_retention = 0');
$node->reload;
ok(wait_for_sql($node, 'SELECT webhook.wait()'), 'nothing is due');
add();
sql(q{ALTER SYSTEM SET webhook.log_retention = '5s'});
$node->reload;
sql('SELECT webhook.wait()');
$locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE webhook.webhook_attempt IN SHARE MODE');
send_beside(7, 'attempts can\'t be deleted: others are sent at once');
$locker->query_safe('COMMIT');
$locker->quit;
ok(wait_for_sql($node, 'SELECT count(*) FROM webhook.webhook_log', '0'), 'no longer locked: what is old is deleted');
sql(q{ALTER SYSTEM SET webhook.log_retention = 0});
$node->reload;

# Told of something after an error, it does not turn round and round.
sub count_switches
{
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;

	return $n;
}
is(worker_pid($node), $pid, 'the worker is still the same');
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'it is refused'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION refuse()});
add();
ok(wait_for_sql($node, q{SELECT state || ': ' || last_error FROM webhook.stat_worker}, 'backoff: it is refused'), 'no turn succeeds');
my $told = sql('SELECT clock_timestamp()');
ok(wait_for_sql($node, "SELECT last_turn_at > '$told'::timestamptz + interval '1 s' FROM webhook.stat_worker"), 'the worker waits longer and longer');
add();
my $switches = count_switches();
sleep 1;
cmp_ok(count_switches() - $switches, '<', 100, 'and sleeps meanwhile');
sql('DROP TRIGGER refuse ON webhook.webhook_log');
ok(wait_for_sql($node, q{SELECT webhook.wait('1 s') AND count(*) > 0 FROM webhook.webhook_log WHERE status = 'Success'}), 'until it can');

$receiver->stop;
$node->stop;
done_testing();
