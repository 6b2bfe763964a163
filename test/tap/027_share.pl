# Everybody's share: many receivers of which some hang, a huge backlog beside a
# small one, two workers on one queue.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $node = start_cluster('share', conf => "max_worker_processes = 16\nwebhook.timeout = 120s");
my $receiver = start_receiver();
my $fast = start_receiver(terse => 1);

$node->safe_psql('postgres', q{SET client_min_messages = warning;
	CREATE TABLE event (id int, kind int, PRIMARY KEY (kind, id))});

# A workflow with an action for the rows of a kind.
sub action
{
	my ($kind, $url) = @_;

	$node->safe_psql('postgres', qq{
		SELECT webhook.create_workflow('kind $kind', 'event', 'create', 'kind = $kind');
		SELECT webhook.create_action('kind $kind', 'send', '$url')});
	return;
}

sub add
{
	my ($kind, $n) = @_;

	$node->safe_psql('postgres',
		"INSERT INTO event SELECT m.n + i, $kind FROM generate_series(1, $n) i, (SELECT coalesce(max(id), 0) FROM event WHERE kind = $kind) m (n)");
	return;
}

sub count_done
{
	my ($kind) = @_;

	return $node->safe_psql('postgres', qq{SELECT count(*) FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id)
		WHERE w.name = 'kind $kind' AND status = 'Success'});
}

# Twelve receivers hang with a hundred deliveries each, many more than
# webhook.max_in_flight.  One that comes after them is served at once.
action($_, $receiver->url("/hang?$_")) for 1 .. 12;
action(100, $fast->url('/ok'));
add($_, 100) for 1 .. 12;
ok(wait_for_sql($node, q{SELECT count(*) > 100 FROM webhook.webhook_log WHERE status = 'Dispatched'}), 'requests hang');
my $begin = time;
add(100, 50);
ok(wait_for_sql($node, q{SELECT count(*) = 50 FROM webhook.webhook_log WHERE status = 'Success'}),
	'who comes after twelve that hang is served');
cmp_ok(time - $begin, '<', 30, 'and has not waited for one of them to time out');
is($node->safe_psql('postgres', 'SELECT sum(in_flight) <= 200, min(in_flight) > 0, max(in_flight) <= 50 FROM webhook.stat_action WHERE queued + in_flight > 0'),
	't|t|t', 'which is some for each, and in all no more than webhook.max_in_flight');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('kind ' || n) FROM generate_series(1, 12) n});
$node->restart;

# A receiver with a huge backlog, and one with ten.
action(200, $fast->url('/many'));
$node->safe_psql('postgres', q{SELECT webhook.enable_workflow('kind 100', false)});
action(201, $receiver->url('/few'));
add(200, 50_000);
ok(wait_for_sql($node, q{SELECT count(*) > 0 FROM webhook.webhook_attempt a JOIN webhook.webhook_log l USING (log_id)
	JOIN webhook.workflow w USING (workflow_id) WHERE w.name = 'kind 200'}), 'a huge backlog is under way');
add(201, 10);
ok(wait_for_sql($node, q{SELECT count(*) = 10 FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id)
	WHERE w.name = 'kind 201' AND status = 'Success'}), 'ten others are delivered');
my $many = count_done(200);
cmp_ok($many, '<', 50_000, "beside it, with $many of 50,000 done");
ok(wait_for_delivery($node), 'the backlog is delivered');

# Two workers: nothing twice.
$node->safe_psql('postgres', 'TRUNCATE webhook.webhook_log, webhook.webhook_attempt');
set_conf($node, 'webhook.workers_per_database = 2');
ok(wait_for_sql($node, q{SELECT count(*) = 2 FROM webhook.stat_worker WHERE state = 'running'}), 'two workers');
my $before = $fast->count;
add(200, 20_000);
ok(wait_for_delivery($node), 'they deliver');
is($fast->count - $before, 20_000, 'each delivery once');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT log_id) FROM webhook.webhook_attempt}), '20000|20000',
	'and in one attempt');
is($node->safe_psql('postgres', q{SELECT count(*) > 0, min(attempts) > 0 FROM webhook.stat_worker}), 't|t',
	'both have done some of it');

# Sixty receivers of which nothing is known yet hang, none has timed out: one that has
# answered has not to wait until they do.
set_conf($node, "webhook.workers_per_database = 1\nwebhook.max_in_flight = 100");
action($_, $receiver->url("/hang?$_")) for 501 .. 560;
action(600, $fast->url('/well'));
add(600, 1);
ok(wait_for_sql($node, q{SELECT count(*) = 1 FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id)
	WHERE name = 'kind 600' AND status = 'Success'}), 'one that is well');
$node->safe_psql('postgres', 'INSERT INTO event SELECT i, k FROM generate_series(1, 3) i, generate_series(501, 560) k');
ok(wait_for_sql($node, q{SELECT in_flight FROM webhook.stat_worker}, '94'), 'sixty that hang have what is not for those that have answered');
add(600, 20);
ok(wait_for_sql($node, q{SELECT count(*) = 21 FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id)
	WHERE name = 'kind 600' AND status = 'Success'}), 'it is served beside them');
is($node->safe_psql('postgres', q{SELECT in_flight FROM webhook.stat_worker}), '94', 'while they hang');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('kind ' || n) FROM generate_series(501, 560) n});
$node->restart;

# Nor do sixty that have answered and then hang together take all places; and who has
# not answered for seconds what it was sent gets no more than half of them.
sub hang
{
	my ($first, $last, $url) = @_;

	$node->safe_psql('postgres', qq{SELECT webhook.alter_action(action_id, url => '$url')
		FROM webhook.action JOIN webhook.workflow USING (workflow_id) WHERE name IN (SELECT 'kind ' || n FROM generate_series($first, $last) n)});
	return;
}
action($_, $receiver->url("/ok?$_")) for 701 .. 760;
$node->safe_psql('postgres', 'INSERT INTO event SELECT 1, generate_series(701, 760)');
ok(wait_for_sql($node, q{SELECT count(*) = 60 FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id)
	WHERE name ~ '^kind 7..$' AND status = 'Success'}), 'sixty receivers answer');
add(600, 1);
ok(wait_for_delivery($node), 'and one more');
hang(701, 725, $receiver->url('/hang'));
$node->safe_psql('postgres', 'INSERT INTO event SELECT i, k FROM generate_series(2, 3) i, generate_series(701, 725) k');
ok(wait_for_sql($node, q{SELECT in_flight FROM webhook.stat_worker}, '50'), 'some of them hang');
ok(wait_for_sql($node, q{SELECT count(*) = 50 AND max(dispatched_at) < now() - interval '6 s' FROM webhook.webhook_log WHERE status = 'Dispatched'}), 'for some seconds');
$node->safe_psql('postgres', 'INSERT INTO event SELECT i, k FROM generate_series(4, 5) i, generate_series(701, 725) k');
add(600, 20);
ok(wait_for_sql($node, q{SELECT count(*) = 0 FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id)
	WHERE name = 'kind 600' AND retry_at IS NOT NULL}), 'one that is well is served beside them');
is($node->safe_psql('postgres', q{SELECT in_flight FROM webhook.stat_worker}), '50', 'and they get no more places');
hang(726, 760, $receiver->url('/hang'));
$node->safe_psql('postgres', 'INSERT INTO event SELECT i, k FROM generate_series(2, 4) i, generate_series(726, 760) k');
ok(wait_for_sql($node, q{SELECT in_flight FROM webhook.stat_worker}, '94'), 'the others hang, too, and leave some places');
add(600, 20);
ok(wait_for_sql($node, q{SELECT count(*) = 0 FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id)
	WHERE name = 'kind 600' AND retry_at IS NOT NULL}), 'to one that is well');
is($node->safe_psql('postgres', q{SELECT in_flight FROM webhook.stat_worker}), '94', 'while they hang');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('kind ' || n) FROM generate_series(701, 760) n});
$node->restart;

# Sixty receivers that hang: two requests of each are more than may be in flight.
# Once each has timed out they leave half of it: one that is well has not to wait
# until they do so again.
action($_, $receiver->url("/hang?$_")) for 301 .. 360;
$node->safe_psql('postgres', q{SELECT webhook.alter_action(action_id, timeout => '1 s')
	FROM webhook.action JOIN webhook.workflow USING (workflow_id) WHERE name ~ '^kind 3..$'});
$node->safe_psql('postgres', 'INSERT INTO event SELECT 1, generate_series(301, 360)');
my $hanging = q{FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id) WHERE name ~ '^kind 3..$'};
ok(wait_for_sql($node, "SELECT count(*) FILTER (WHERE status = 'Failed') = 60 $hanging"), 'sixty receivers hang');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(action_id, timeout => '10 min')
	FROM webhook.action JOIN webhook.workflow USING (workflow_id) WHERE name ~ '^kind 3..$'});
$node->safe_psql('postgres', 'INSERT INTO event SELECT i, k FROM generate_series(2, 4) i, generate_series(301, 360) k');
ok(wait_for_sql($node, "SELECT count(*) FILTER (WHERE status = 'Dispatched') = 100 $hanging"), 'and there is more for them, of which as much again is claimed');
action(400, $fast->url('/well'));
add(400, 20);
ok(wait_for_sql($node, q{SELECT count(*) = 20 FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id)
	WHERE w.name = 'kind 400' AND status = 'Success'}), 'one that is well is served beside them');
is($node->safe_psql('postgres', q{SELECT in_flight FROM webhook.stat_worker}), '50', 'and they have half of what may be in flight');

# More actions that fail than the workers count together: they take no more of
# the memory that the server shares.
my $closed = closed_port();
$node->safe_psql('postgres', qq{SET client_min_messages = warning;
	CREATE TABLE dead (id int PRIMARY KEY);
	DO \$\$ BEGIN
		FOR i IN 1..1700 LOOP
			PERFORM webhook.create_workflow('dead ' || i, 'dead', 'create');
			PERFORM webhook.create_action('dead ' || i, 'send', 'http://127.0.0.1:$closed/') FROM generate_series(1, 3);
		END LOOP;
	END \$\$});
my $free = 'SELECT size FROM pg_shmem_allocations WHERE name IS NULL';
$before = $node->safe_psql('postgres', $free);
$node->safe_psql('postgres', 'INSERT INTO dead SELECT generate_series(1, 5)');
ok(wait_for_sql($node, q{SELECT sum(attempts) = 25500 FROM webhook.stat_action WHERE workflow LIKE 'dead %'}), 'thousands of actions fail');
cmp_ok($before - $node->safe_psql('postgres', $free), '<', 20_000, 'and take no more and more of the shared memory');

$receiver->stop;
$fast->stop;
$node->stop;
done_testing();
