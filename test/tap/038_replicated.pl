# A log that comes by logical replication: its deliveries are sent at once by the
# subscriber's worker, and other tables' changes don't wake it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $receiver = start_receiver(terse => 1);
my $url = $receiver->url('/ok');
my $publisher = start_cluster('publisher', init => { allows_streaming => 'logical' }, conf => 'webhook.enabled = off');
my $subscriber = start_cluster('subscriber');

for my $node ($publisher, $subscriber)
{
	$node->safe_psql('postgres', qq{
		CREATE TABLE deal (id int PRIMARY KEY);
		CREATE TABLE other (id int PRIMARY KEY);
		SELECT webhook.create_workflow('deal', 'deal');
		SELECT webhook.create_action('deal', 'send', '$url', parameters => '{"id": "\${id}"}')});
}
$publisher->safe_psql('postgres', 'CREATE PUBLICATION pub FOR TABLE webhook.webhook_log, other');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION pub WITH (copy_data = false)");
ok(wait_for_sql($subscriber, q{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel}), 'subscribed');

# What the worker looks for by itself is found within thirty seconds: that three
# of three come in a fifth of that is no accident.
for my $i (1 .. 3)
{
	my $begin = time;

	$publisher->safe_psql('postgres', "INSERT INTO deal VALUES ($i)");
	ok($receiver->wait_for($i), 'sent by the subscriber');
	cmp_ok(time - $begin, '<', 6, 'at once');
}
ok(wait_for_delivery($subscriber), 'recorded');
is($publisher->safe_psql('postgres', q{SELECT string_agg(DISTINCT status::text, ' ') FROM webhook.webhook_log}), 'Queued', '... there, and not by the publisher');

# A change of a row that has ended, and a transaction in which not all is the log's.
$publisher->safe_psql('postgres', q{
	BEGIN; INSERT INTO other SELECT generate_series(1, 10);
	UPDATE webhook.webhook_log SET retry_at = now(), status = 'Queued', attempts = 5 WHERE record_id = '1'; INSERT INTO other VALUES (11); COMMIT});
my $begin = time;
ok($receiver->wait_for(4), 'queued again by the publisher');
cmp_ok(time - $begin, '<', 6, 'at once');
ok(wait_for_delivery($subscriber), 'recorded');

# Many commits: each is sent once, and none waits for long.
$begin = time;
$publisher->safe_psql('postgres', join '; ', map { "INSERT INTO deal VALUES ($_)" } 101 .. 300);
ok($receiver->wait_for(204), 'two hundred transactions');
cmp_ok(time - $begin, '<', 20, 'at once');
ok(wait_for_delivery($subscriber), 'recorded');
is($receiver->count, 204, 'each was sent once');

# Prepared transactions, which the subscriber commits when the publisher does; one
# of them after its process has been started anew.  Its options can't be had later.
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION pub WITH (copy_data = false, two_phase = true)");
ok(wait_for_sql($subscriber, q{SELECT subtwophasestate FROM pg_subscription}, 'e'), 'subscribed to prepared transactions');
for my $i (1 .. 3)
{
	$publisher->safe_psql('postgres', "BEGIN; INSERT INTO deal VALUES (400 + $i); PREPARE TRANSACTION 'p$i'");
	ok(wait_for_sql($subscriber, 'SELECT count(*) FROM pg_prepared_xacts', '1'), 'prepared');
	if ($i == 2)
	{
		my $apply = q{FROM pg_stat_subscription WHERE pid IS NOT NULL};
		my $pid = $subscriber->safe_psql('postgres', "SELECT pid $apply");

		$subscriber->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		ok(wait_for_sql($subscriber, "SELECT count(*) $apply AND pid <> $pid", '1'), 'another process');
	}
	$begin = time;
	$publisher->safe_psql('postgres', "COMMIT PREPARED 'p$i'");
	ok($receiver->wait_for(204 + $i), 'committed: sent by the subscriber');
	cmp_ok(time - $begin, '<', 6, 'at once');
}
ok(wait_for_delivery($subscriber), 'recorded');

# Other tables: the worker sleeps on, but for what it does by the clock.
my $is_asleep = 0;
my $id = 1000;
for my $round (1 .. 5)
{
	my $turn = 'SELECT last_turn_at FROM webhook.stat_worker';
	my $before = $subscriber->safe_psql('postgres', $turn);

	$publisher->safe_psql('postgres', join '; ', map { 'INSERT INTO other VALUES (' . ++$id . ')' } 1 .. 50);
	$publisher->wait_for_catchup('sub');
	$is_asleep ||= $subscriber->safe_psql('postgres', $turn) eq $before;
}
ok($is_asleep, 'other tables wake nobody');

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
$receiver->stop;
$subscriber->stop;
$publisher->stop;
done_testing();
