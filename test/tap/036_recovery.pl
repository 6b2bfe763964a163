# What was under way when a worker ended is looked for piece by piece: however
# long the queue, deliveries go out at once, and nothing is taken for a left-over
# that is none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $node = start_cluster('recovery', conf => q{
webhook.enabled = off
restart_after_crash = on
autovacuum = off
});
my $receiver = start_receiver(terse => 1);
my $ok = $receiver->url('/ok');
my $slow = $receiver->url('/slow?ms=2000');

sub sql { return $node->safe_psql('postgres', shift) }

# The table of events has an action for each kind of them.
sql('CREATE TABLE event (id int PRIMARY KEY, kind text)');
my %action;
for my $kind ('far', 'near', 'slow', 'ordered')
{
	my $url = $kind eq 'slow' ? $slow : $ok;
	my $more = $kind eq 'ordered' ? ', ordered => true' : '';

	sql("SELECT webhook.create_workflow('$kind', 'event', 'save', 'kind = ''$kind''')");
	$action{$kind} = sql(qq{SELECT webhook.create_action('$kind', 'send', '$url', parameters => '{"id": "\${id}"}'$more)});
}

sub count_lines
{
	my ($offset) = @_;
	my @lines = slurp_file($node->logfile, $offset) =~ /LOG:  webhook worker 0 of database "postgres" sends (\d+) deliveries again that were under way when the one before it ended/g;

	return join ' ', @lines;
}

sub is_dispatched
{
	my ($worker, $where) = @_;

	sql("UPDATE webhook.webhook_log SET status = 'Dispatched', dispatched_at = now(), worker = $worker WHERE $where");
	return;
}

# A queue of 200,000 that nobody takes, with a left-over at its end; a short one
# with left-overs of every kind; two deliveries of a record, of which the first was
# under way.
sql(q{INSERT INTO event VALUES (1, 'far'); INSERT INTO event SELECT i, 'near' FROM generate_series(11, 30) i});
sql(qq{INSERT INTO webhook.webhook_log (workflow_id, action_id, module, operation, record_id, record, retry_at, owner)
	SELECT workflow_id, action_id, module, operation, 'more', record, retry_at + i * interval '1 us', owner
	FROM webhook.webhook_log, generate_series(1, 200000) i WHERE action_id = $action{far}});
sql("SELECT webhook.enable_action($action{far}, false)");
sql(q{INSERT INTO event VALUES (41, 'ordered'); UPDATE event SET kind = 'ordered' WHERE id = 41});
my $far = sql("SELECT log_id FROM webhook.webhook_log WHERE action_id = $action{far} ORDER BY retry_at DESC LIMIT 1");
is_dispatched(0, "log_id = $far");
is_dispatched('NULL', "record_id = '11'");
is_dispatched(0, "record_id IN ('12', '30')");
is_dispatched(7, "record_id = '13'");
is_dispatched(0, q{log_id = (SELECT min(log_id) FROM webhook.webhook_log WHERE record_id = '41')});
my $log = -s $node->logfile;
sql('ALTER SYSTEM SET webhook.enabled = on');
$node->restart;
ok(wait_for_sql($node, "SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success' AND action_id <> $action{far}", '22'), 'left-overs of every kind are sent');
ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE log_id = $far", 'Queued'), 'one at the end of a long queue is found');
is(sql(qq{SELECT bool_or(a.xmin::text::bigint < l.xmin::text::bigint) FROM webhook.webhook_attempt a, webhook.webhook_log l
	WHERE l.log_id = $far}), 't', '... while others are sent, and sent for long');
is(sql(q{SELECT string_agg(l.log_id::text, ' ' ORDER BY a.started_at) = string_agg(l.log_id::text, ' ' ORDER BY l.log_id)
	FROM webhook.webhook_log l JOIN webhook.webhook_attempt a USING (log_id) WHERE l.record_id = '41'}), 't', 'in order, where there is one');
ok(wait_for_sql($node, 'SELECT webhook.wait()'), 'nothing is due');
is(count_lines($log), '6', 'the server log tells how many, once');
my $seen = $receiver->deliveries;
is(scalar(grep { $_ != 1 } values %$seen), 0, 'each was sent once');

# One that ends before it is through is followed by another that begins anew.
is_dispatched(0, "log_id = $far OR record_id IN ('12', '30')");
sql(q{UPDATE webhook.webhook_log SET retry_at = queued_at, completed_at = NULL WHERE record_id IN ('12', '30')});
kill_worker($node) for 1 .. 3;
ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE log_id = $far", 'Queued'), 'killed time and again, the worker finds what there is');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE record_id IN ('12', '30') AND status = 'Success'}, '2'), 'and sends it');

# A left-over that somebody holds holds up nobody; what is under way meanwhile is no
# left-over, even if the look has to begin anew.
sql('ALTER SYSTEM SET webhook.enabled = off');
$node->restart;
is_dispatched(0, "log_id = $far");
sql(q{INSERT INTO event SELECT i, 'near' FROM generate_series(51, 60) i});
is_dispatched(0, q{record_id = '51'});
$log = -s $node->logfile;
sql('ALTER SYSTEM SET webhook.enabled = on');
my $pid = worker_pid($node);
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM webhook.webhook_log WHERE log_id = $far FOR UPDATE");
sql("SELECT pg_terminate_backend($pid)");
isnt(worker_pid($node, $pid), $pid, 'another worker');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE record_id::text BETWEEN '51' AND '60' AND status = 'Success'}, '10'), 'a left-over is locked by somebody: all others are sent');
is(sql(q{SELECT webhook.wait('300 ms')}), 'f', 'it is waited for, though nobody would send it');
my $before = $receiver->count;
sql(q{INSERT INTO event SELECT i, 'slow' FROM generate_series(71, 90) i});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker = 0 AND record_id BETWEEN '71' AND '90'}, '20'), 'twenty are under way');
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'it is refused'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON webhook.webhook_log FOR EACH ROW WHEN (NEW.record_id = '61' AND NEW.status = 'Dispatched') EXECUTE FUNCTION refuse();
	INSERT INTO event VALUES (61, 'near')});
ok(wait_for_sql($node, q{SELECT last_error FROM webhook.stat_worker}, 'it is refused'), 'a turn fails');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND record_id BETWEEN '71' AND '90'}), '20', 'they are still under way');
sql('CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE record_id BETWEEN '71' AND '90' AND status = 'Success'}, '20'), 'and succeed');
is($receiver->count - $before, 21, 'sent once each');
is(count_lines($log), '', 'the look goes on');
$holder->query_safe('COMMIT');
$holder->quit;
ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE log_id = $far", 'Queued'), 'no longer locked: queued again');
ok(wait_for_sql($node, 'SELECT webhook.wait()'), 'nothing is waited for any more');
is(count_lines($log), '2', 'both are told of, in one line');

$receiver->stop;
$node->stop;
done_testing();
