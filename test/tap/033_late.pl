# What the worker learns of while it is busy with something else is not late.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $node = start_cluster('late', conf => "webhook.retry_schedule = '1s'");
my $receiver = start_receiver();

sub sql { return $node->safe_psql('postgres', shift) }

# Each kind of event has an action.
sql('CREATE TABLE event (id int PRIMARY KEY, kind text, path text, n int DEFAULT 0)');
my %action;
for my $kind ('a', 'b', 'c')
{
	my $url = $receiver->url($kind eq 'c' ? '/${path}' : '/slow?ms=3000');
	my $ordered = $kind eq 'c' ? 'false' : 'true';

	sql("SELECT webhook.create_workflow('$kind', 'event', 'save', 'kind = ''$kind''')");
	$action{$kind} = sql(qq{SELECT webhook.create_action('$kind', 'send', '$url', parameters => '{"id": "\${id}", "n": "\${n}"}', ordered => $ordered)});
}

# Two ordered deliveries of a record of each of two actions; of the first ones the
# worker hears at the same moment, and one of the actions is disabled by then.
my $pid = worker_pid($node);
my $begin;
sql(q{INSERT INTO event VALUES (1, 'a'), (2, 'b'); UPDATE event SET n = 1});
ok(wait_for_sql($node, 'SELECT in_flight FROM webhook.stat_worker', '2'), 'two are under way');
kill 'STOP', $pid;
sql("SELECT webhook.enable_action($action{a}, false)");
$begin = time;
sleep 0.05 until time > $begin + 4;
is($receiver->count, 2, 'both have been answered');
kill 'CONT', $pid;
ok($receiver->wait_for(3), 'what was held up is sent');
cmp_ok(time - $begin, '<', 15, '... at once');
ok(wait_for_sql($node, "SELECT bool_and(status = 'Success') FROM webhook.webhook_log WHERE action_id = $action{b}"), '... recorded');
is(sql("SELECT string_agg(status::text, ' ' ORDER BY log_id) FROM webhook.webhook_log WHERE action_id = $action{a}"), 'Success Queued', '... and nothing of the one that is disabled');
sql("SELECT webhook.enable_action($action{a})");
ok(wait_for_delivery($node), 'until it is enabled');

# A failure that can't be recorded before it is to be tried again, while others of its
# action come and go.
for my $round (1 .. 3)
{
	my $id = 10_000 * $round;
	my $locker = $node->background_psql('postgres');

	$locker->query_safe('BEGIN; LOCK TABLE webhook.webhook_attempt IN SHARE MODE');
	sql("INSERT INTO event VALUES ($id, 'c', 'flaky')");
	ok(wait_for_sql($node, q{SELECT unsettled FROM webhook.stat_worker}, '1'), 'a failure that can\'t be recorded');
	$begin = time;
	sleep 0.05 until time > $begin + 1.5;
	my $stream = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
			"DO \$\$ BEGIN FOR i IN 1 .. 2000 LOOP INSERT INTO event VALUES ($id + i, 'c', 'ok'); COMMIT; PERFORM pg_sleep(0.001); END LOOP; END \$\$" ],
		'<', \undef, '>', \my $out, '2>', \my $err);
	ok(wait_for_sql($node, "SELECT count(*) > 100 FROM event WHERE id > $id"), 'others come');
	$locker->query_safe('COMMIT');
	$locker->quit;
	$begin = time;
	ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE record_id = '$id'", 'Success'), 'it is recorded, and tried again');
	cmp_ok(time - $begin, '<', 10, '... at once');
	$stream->finish;
	ok(wait_for_delivery($node), 'as all others are');
}

$receiver->stop;
$node->stop;
done_testing();
