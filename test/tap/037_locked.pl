# Tables that somebody holds locked for long, and results that can't be recorded:
# the worker says so as long as it lasts, and sends and receives meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $node = start_cluster('locked', conf => 'webhook.max_in_flight_per_action = 100');
my $receiver = start_receiver(terse => 1);
my $slow = $receiver->url('/slow?ms=1000');
my $ok = $receiver->url('/ok');

sub sql { return $node->safe_psql('postgres', shift) }

sub state_is
{
	my ($state, $what) = @_;

	return ok(wait_for_sql($node, 'SELECT state FROM webhook.stat_worker', $state), $what);
}

sql('CREATE TABLE event (id int PRIMARY KEY, kind text)');
for my $kind ('slow', 'quick')
{
	my $url = $kind eq 'slow' ? $slow : $ok;

	sql(qq{SELECT webhook.create_workflow('$kind', 'event', 'save', 'kind = ''$kind''');
		SELECT webhook.create_action('$kind', 'send', '$url', parameters => '{"id": "\${id}"}')});
}
my $next = 1;

# Insert so many; returns a condition for their deliveries.
sub add
{
	my ($n, $kind) = @_;
	my ($from, $to) = ($next, $next + $n - 1);

	sql("INSERT INTO event SELECT i, '$kind' FROM generate_series($from, $to) i");
	$next += $n;
	return "record_id::int BETWEEN $from AND $to";
}

sub under_way
{
	my $these = add(40, 'slow');

	ok(wait_for_sql($node, "SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND $these", '40'), 'forty under way');
	return $these;
}

sub succeed
{
	my ($these, $what) = @_;

	return ok(wait_for_sql($node, "SELECT bool_and(status = 'Success' AND attempts = 1) FROM webhook.webhook_log WHERE $these"), $what);
}

# How often, of forty looks in two seconds, the worker waited for a lock.
sub count_waits
{
	my $n = 0;

	for my $i (1 .. 40)
	{
		$n += sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND wait_event_type = 'Lock'});
		sleep 0.05;
	}
	return $n;
}

sub start_locker
{
	my ($table, $mode) = @_;
	my $locker = $node->background_psql('postgres');

	$locker->query_safe("BEGIN; LOCK TABLE webhook.$table IN $mode MODE");
	return $locker;
}

sub end_locker
{
	my ($locker) = @_;

	$locker->query_safe('COMMIT');
	$locker->quit;
	return;
}

# Attempts can't be stored: results wait, and others are sent all the same.
my $these = under_way();
my $locker = start_locker('webhook_attempt', 'SHARE');
state_is('backoff', 'attempts can\'t be stored: the worker says so');
my $before = $receiver->count;
my $begin = time;
my $others = add(60, 'quick');
ok($receiver->wait_for($before + 60), 'others are sent');
cmp_ok(time - $begin, '<', 10, 'at once');
is($receiver->count, $before + 60, 'once each');
cmp_ok(count_waits(), '<', 20, 'the worker waits for the lock now and then');
is(sql(q{SELECT state || ': ' || last_error FROM webhook.stat_worker}), 'backoff: canceling statement due to lock timeout', 'and goes on saying so');
is(sql(qq{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}), '0', 'nothing is recorded');
end_locker($locker);
succeed($_, 'no longer locked: recorded') for $these, $others;
state_is('running', 'and running');

# The log can't be written: answers are received, and recorded soon after.
for my $mode ('SHARE', 'ACCESS EXCLUSIVE')
{
	$these = under_way();
	$locker = start_locker('webhook_log', $mode);
	state_is('backoff', "the log is locked, $mode: the worker says so");
	cmp_ok(count_waits(), '<', 20, 'it waits for the lock now and then');
	is(sql('SELECT state FROM webhook.stat_worker'), 'backoff', 'and goes on saying so');
	end_locker($locker);
	$begin = time;
	succeed($these, 'no longer locked: recorded');
	cmp_ok(time - $begin, '<', 5, 'at once');
	state_is('running', 'and running');
}
$others = add(10, 'quick');
succeed($others, 'as ever');

# One result that can't be recorded holds up no other, and is told of.
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'it is refused'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON webhook.webhook_log FOR EACH ROW WHEN (NEW.record_id = '1000' AND NEW.status = 'Success') EXECUTE FUNCTION refuse();
	INSERT INTO event VALUES (1000, 'quick')});
ok(wait_for_sql($node, q{SELECT state || ': ' || last_error FROM webhook.stat_worker}, 'backoff: it is refused'), 'a result is refused');
my $told = sql('SELECT clock_timestamp()');
ok(wait_for_sql($node, "SELECT last_turn_at > '$told'::timestamptz + interval '1 s' FROM webhook.stat_worker"), 'and tried again, with growing pauses');
for my $round (1 .. 5)
{
	$begin = time;
	$others = add(10, 'quick');
	succeed($others, 'others are recorded');
	cmp_ok(time - $begin, '<', 2, 'at once');
}
is(sql('SELECT state FROM webhook.stat_worker'), 'backoff', 'it is still told of');
sql('DROP TRIGGER refuse ON webhook.webhook_log');
succeed(q{record_id = '1000'}, 'until it is recorded');
state_is('running', 'and running');

# A row that is locked when it is to be claimed is looked at again soon, for nobody tells of a lock that is let go.
$node->append_conf('postgresql.conf', 'webhook.enabled = off');
$node->reload;
state_is('disabled', 'nothing is sent for the moment');
my $locked = add(1, 'quick');
my $keeper = $node->background_psql('postgres');
$keeper->query_safe("BEGIN; SELECT FROM webhook.webhook_log WHERE $locked FOR UPDATE");
$node->append_conf('postgresql.conf', 'webhook.enabled = on');
$node->reload;
$others = add(1, 'quick');
succeed($others, 'the one behind it is sent');
$begin = time;
$keeper->query_safe('ROLLBACK');
$keeper->quit;
succeed($locked, 'and it, too, once the lock is gone');
cmp_ok(time - $begin, '<', 15, 'before the next survey');
is(scalar(grep { $_ != 1 } values %{ $receiver->deliveries }), 0, 'each was sent once');

$receiver->stop;
$node->stop;
done_testing();
