# Killed with a thousand deliveries under way, nothing is lost, and webhook-id
# tells duplicates apart.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(sleep);
use WebhookTest;

my $node = start_cluster('crash', conf => q{
webhook.max_in_flight = 1000
webhook.max_in_flight_per_action = 1000
restart_after_crash = on
});
my $receiver = start_receiver(terse => 1);
my $url = $receiver->url('/slow?ms=400');

$node->safe_psql('postgres', qq{
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '$url', parameters => '{"id": "\${id}"}')});

# All deliveries of the log arrived, and each of them but those that were under
# way when the worker went arrived once.
sub check
{
	my ($what, $count) = @_;

	ok(wait_for_sql($node, "SELECT count(*) = $count FROM webhook.webhook_log WHERE status = 'Success'"),
		"$what: all succeed in the end");
	my $seen = $receiver->deliveries;
	my @logged = split /\n/, $node->safe_psql('postgres', 'SELECT webhook_id FROM webhook.webhook_log');
	is(scalar(grep { !$seen->{$_} } @logged), 0, "$what: every delivery arrived");
	is(scalar(keys %$seen), scalar @logged, "$what: nothing else did");
	my $most = 0;
	for my $times (values %$seen)
	{
		$most = $times if $times > $most;
	}
	cmp_ok($most, '<=', 3, "$what: no delivery was sent again and again");
	note("$what: " . $receiver->count . ' requests for ' . @logged . ' deliveries');
	return;
}

# Send, and return while many are under way.
sub send_many
{
	my ($from, $to) = @_;
	my $before = $receiver->count;

	$node->safe_psql('postgres', "INSERT INTO event SELECT generate_series($from, $to)");
	return wait_for_sql($node, "SELECT count(*) > 300 FROM webhook.webhook_log WHERE status = 'Dispatched'");
}

ok(send_many(1, 1000), 'a thousand under way');
my $pid = worker_pid($node);
isnt(kill_worker($node), $pid, 'a killed worker is followed by another');
check('worker killed', 1000);

ok(send_many(1001, 2000), 'a thousand under way');
$pid = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
isnt(worker_pid($node, $pid), $pid, 'a terminated worker is followed by another');
check('worker terminated', 2000);

ok(send_many(2001, 3000), 'a thousand under way');
$node->stop('immediate');
$node->start;
check('server stopped at once', 3000);

# A fast shutdown waits for no receiver.
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, url => '} . $receiver->url('/hang') . q{')});
$node->safe_psql('postgres', 'INSERT INTO event VALUES (4000)');
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '4000'}, 'Dispatched'),
	'a receiver hangs');
$node->safe_psql('postgres', qq{SELECT webhook.alter_action(1, url => '$url')});
my $begun = Time::HiRes::time;
$node->stop('fast');
cmp_ok(Time::HiRes::time - $begun, '<', 3, 'a fast shutdown waits for no receiver');
$node->start;
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '4000'}, 'Success'),
	'what hung is sent again after the start');

$receiver->stop;
$node->stop;
done_testing();
