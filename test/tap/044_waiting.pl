# A long queue, and statistics of when it was empty, as they are on a system at
# work: what is asked of single deliveries, and what waits in an ordered action,
# must not let the whole queue be walked through again and again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $node = start_cluster('waiting', conf => 'autovacuum = off');
my $receiver = start_receiver(terse => 1);
my $ok = $receiver->url('/ok');
my $failing = $receiver->url('/status/500');

sub sql { return $node->safe_psql('postgres', shift) }

sub set_enabled
{
	my ($value) = @_;

	sql("ALTER SYSTEM SET webhook.enabled = $value");
	$node->reload;
	ok(wait_for_sql($node, 'SELECT bool_and(state = $$' . ($value eq 'on' ? 'running' : 'disabled') . '$$) FROM webhook.stat_worker'),
		"webhook.enabled is $value");
	return;
}

# Pages of the queue's indexes that anybody has read, as far as it has been counted.
sub count_counted
{
	return sql(q{SELECT sum(idx_blks_hit + idx_blks_read) FROM pg_statio_user_indexes WHERE indexrelname IN ('webhook_log_due_idx', 'webhook_log_ordered_idx')});
}

# The worker's counters come with a later turn, those of the attempts, too.
my $n_ticks = 0;
sub count_read
{
	my $deadline = time + 60;
	my $wanted = sql('SELECT count(*) FROM webhook.webhook_attempt');

	while (sql(q{SELECT n_tup_ins FROM pg_stat_user_tables WHERE relid = 'webhook.webhook_attempt'::regclass}) <= $wanted && time < $deadline)
	{
		sql('INSERT INTO tick VALUES (' . $n_ticks++ . ')');
		sleep 0.3;
	}
	return count_counted();
}

sql(qq{CREATE TABLE event (id int PRIMARY KEY, n int);
	CREATE TABLE stuck (id int PRIMARY KEY, n int);
	CREATE TABLE tick (id int PRIMARY KEY);
	CREATE TABLE bulk (id int PRIMARY KEY);
	SELECT webhook.create_workflow('bulk', 'bulk');
	SELECT webhook.create_action('bulk', 'send', '$ok');
	SELECT webhook.create_workflow('ticks', 'tick');
	SELECT webhook.create_action('ticks', 'send', '$ok');
	SELECT webhook.create_workflow('events', 'event', 'update');
	SELECT webhook.create_action('events', 'send', '$ok', ordered => true);
	SELECT webhook.create_workflow('stuck', 'stuck');
	SELECT webhook.create_action('stuck', 'send', '$failing', ordered => true);
	INSERT INTO event SELECT i FROM generate_series(1, 500) i;
	UPDATE event SET n = 0});
wait_for_delivery($node);
my $before;
sql('VACUUM (ANALYZE, INDEX_CLEANUP ON) webhook.webhook_log');
is(sql(q{SELECT reltuples FROM pg_class WHERE oid = 'webhook.webhook_log_due_idx'::regclass}), '0', 'the queue is empty, and known to be');

# Canceled one by one.
count_read();
set_enabled('off');
sql("UPDATE event SET n = $_") for 1 .. 3;
$before = count_counted();
sql(q{SELECT count(webhook.cancel(log_id)) FROM (SELECT log_id FROM webhook.webhook_log WHERE status = 'Queued' AND record_id::int <= 20) q});
cmp_ok(count_counted() - $before, '<', 60, 'a delivery is canceled without a look at all that are queued');

# One after the other, beside a long queue of somebody else's.
sql(q{INSERT INTO bulk SELECT generate_series(1, 5000)});
sql(q{SELECT webhook.enable_action(action_id, false) FROM webhook.action JOIN webhook.workflow USING (workflow_id) WHERE name = 'bulk'});
sql(q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP UPDATE event SET n = i WHERE id = 1; END LOOP; END $$});
set_enabled('on');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL}, 5000), 'all of three for each record, and many of one, are sent');
$before = count_read();
sql(q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP UPDATE event SET n = i WHERE id = 1; END LOOP; END $$});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL}, 5000), '... and many of one alone');
cmp_ok(count_read() - $before, '<', 200 * 20, '... without a look at all that are queued');
sql(q{DELETE FROM webhook.webhook_log WHERE module = 'bulk'::regclass});

# Of a record whose first delivery has failed.
sql('INSERT INTO stuck VALUES (1)');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Failed' AND retry_at IS NOT NULL}, 1), 'a delivery has failed');
sql('DO $$ BEGIN FOR i IN 1 .. 1000 LOOP UPDATE stuck SET n = i; END LOOP; END $$');
$before = count_read();
for my $i (1 .. 50)
{
	sql("UPDATE stuck SET n = $i");
}
cmp_ok(count_read() - $before, '<', 10000, 'what waits for it is not looked at whenever there is more');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Queued'}), '1050', '... and waits');
sql(qq{SELECT webhook.alter_action(action_id, url => '$ok') FROM webhook.action WHERE url = '$failing'});
sql(q{SELECT webhook.retry(log_id) FROM webhook.webhook_log WHERE status = 'Failed' AND retry_at IS NOT NULL});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL}, 0), '... until that has succeeded');
my $order = q{SELECT bool_and(ok) FROM (SELECT dispatched_at >= lag(dispatched_at) OVER (ORDER BY log_id) AS ok FROM webhook.webhook_log WHERE module = 'stuck'::regclass) o};
is(sql($order), 't', '... and is sent in order');

# While somebody holds a snapshot nothing of what has ended goes away.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$holder->query_safe('SELECT 1');
my $entries = q{SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'webhook_log_ordered_idx'};
for my $round (1 .. 2)
{
	count_read();
	$before = sql($entries);
	sql(q{DO $$ BEGIN FOR i IN 1 .. 500 LOOP UPDATE event SET n = i WHERE id = 2; END LOOP; END $$});
	ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL}, 0), 'many of one record under a held snapshot');
	count_read();
	cmp_ok(sql($entries) - $before, '<', 500 * 10, "... $round: without a look at all that have ended");
}
$holder->quit;

$receiver->stop;
$node->stop;
done_testing();
