# Fewer workers than before: what those that end leave behind is sent by the others,
# once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $node = start_cluster('fewer', conf => 'webhook.workers_per_database = 3');
my $receiver = start_receiver(terse => 1);
my $slow = $receiver->url('/slow?ms=2000');

sub sql { return $node->safe_psql('postgres', shift) }

sub wait_for_workers
{
	my ($n) = @_;

	return ok(wait_for_sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook worker'}, $n), "$n workers");
}

sql(qq{CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event');
	SELECT webhook.create_action('events', 'send', '$slow', parameters => '{"id": "\${id}"}', max_in_flight => 100)});
wait_for_workers(3);

# What a worker has in flight when it ends can't be given back while it is locked.
my $last = 0;
for (1 .. 50)
{
	my $first = $last + 1;

	$last += 10;
	sql("INSERT INTO event SELECT i FROM generate_series($first, $last) i");
	wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status IN ('Dispatched', 'Success')}, $last);
	last if sql(q{SELECT count(DISTINCT worker) FROM webhook.webhook_log WHERE status = 'Dispatched'}) > 1;
}
my $locker = $node->background_psql('postgres');
my $n = $locker->query_safe(q{BEGIN; SELECT log_id FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker > 0 FOR UPDATE});
isnt($n, '', 'some are under way by the second and third');
sql('ALTER SYSTEM SET webhook.workers_per_database = 1');
$node->reload;
wait_for_workers(1);
isnt(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker > 0}), '0', 'they end, and can\'t give them back');
$locker->query_safe('COMMIT');
$locker->quit;
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}, $last), 'the first one finds them, and sends them');
ok(wait_for_sql($node, 'SELECT webhook.wait()'), 'nothing is waited for any more');

$receiver->stop;
$node->stop;
done_testing();
