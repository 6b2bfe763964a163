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

$receiver->stop;
$node->stop;
done_testing();
