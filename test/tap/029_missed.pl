# A worker that can't start: what one of its number has left behind is sent by
# another, once, whether it comes back meanwhile or not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

# Room for the launcher, one worker and one more process, which another session
# takes.
my $node = PostgreSQL::Test::Cluster->new('missed');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'webhook'
webhook.allowed_networks = '127.0.0.0/8'
max_logical_replication_workers = 0
max_worker_processes = 3
fsync = off
});
start_with_clock($node, 0);
my $receiver = start_receiver(terse => 1);
my $url = $receiver->url('/ok');

sub sql { return $node->safe_psql('postgres', shift) }

sub set
{
	my ($setting) = @_;

	sql("ALTER SYSTEM SET $setting");
	$node->reload;
	return;
}

sub wait_for_workers
{
	my ($numbers) = @_;

	return ok(wait_for_sql($node, q{SELECT string_agg(application_name, ', ' ORDER BY application_name) FROM pg_stat_activity WHERE backend_type = 'webhook worker'},
		join(', ', map { "webhook worker $_" } @$numbers)), 'workers: ' . join ', ', @$numbers);
}

# A session takes the place of a worker until it is told to end.
sub take_place
{
	my $force = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET $force = on", '-c', 'SELECT pg_sleep(1000)' ],
		'<', \undef, '>', \my $out, '2>', \my $err);

	ok(wait_for_sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, '1'), 'no room for another');
	return $session;
}

sub leave_place
{
	my ($session) = @_;

	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1000)' AND backend_type = 'client backend'});
	$session->finish;
	return;
}

# Rows of these ids, left behind by a worker.
sub leave_behind
{
	my ($worker, $first, $last) = @_;

	set('webhook.enabled = off');
	ok(wait_for_sql($node, q{SELECT bool_and(state = 'disabled') FROM webhook.stat_worker}), 'switched off');
	sql(qq{INSERT INTO event SELECT i FROM generate_series($first, $last) i;
		UPDATE webhook.webhook_log SET status = 'Dispatched', dispatched_at = now(), worker = $worker WHERE record_id::int BETWEEN $first AND $last});
	set('webhook.enabled = on');
	return;
}

# Let the workers have turns.  They look for each other once a second.
my $extra = 1000;
sub have_turns
{
	my $id = ++$extra;

	sql("INSERT INTO event VALUES ($id)");
	return wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE record_id = '$id'", 'Success');
}

sub are_sent
{
	my ($first, $last, $what) = @_;

	return ok(wait_for_sql($node, "SELECT bool_and(status = 'Success') FROM webhook.webhook_log WHERE record_id::int BETWEEN $first AND $last"), $what);
}

sql(qq{CREATE EXTENSION webhook; CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event');
	SELECT webhook.create_action('events', 'send', '$url', parameters => '{"id": "\${id}"}')});
wait_for_workers([0]);
my $session = take_place();
set('webhook.workers_per_database = 2');
leave_behind(1, 1, 5);
ok(wait_for_sql($node, q{SELECT status FROM webhook.health() WHERE "check" = 'worker'}, 'warning'), 'the second worker can\'t start');
ok(have_turns(), 'the first one sends');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker = 1}), '5', 'what is the second one\'s business is left to it');
set_clock(30);
ok(have_turns(), 'half a minute later');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker = 1}), '5', 'still');
set_clock(100);
ok(have_turns(), 'more than a minute');
are_sent(1, 5, 'it is missed: the first one sends what it left behind');

# It comes, and goes: what it has left this time is waited for anew.
leave_place($session);
set_clock(200);
$node->reload;
wait_for_workers([ 0, 1 ]);
set('webhook.workers_per_database = 1');
wait_for_workers([0]);
$session = take_place();
set('webhook.workers_per_database = 2');
leave_behind(1, 11, 15);
set_clock(202);
ok(have_turns(), 'the first one sends');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker = 1}), '5', 'it is waited for again');
set_clock(300);
ok(have_turns(), 'more than a minute');
are_sent(11, 15, 'and missed again');

# It comes while somebody holds what is left over: whoever finds it, it is sent once.
leave_behind(1, 21, 25);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM webhook.webhook_log WHERE record_id::int BETWEEN 21 AND 25 FOR UPDATE');
leave_place($session);
set_clock(400);
$node->reload;
wait_for_workers([ 0, 1 ]);
ok(have_turns(), 'others are sent');
$holder->query_safe('COMMIT');
$holder->quit;
are_sent(21, 25, 'it sends what it has left behind itself');
ok(wait_for_sql($node, 'SELECT webhook.wait()'), 'nothing is waited for');

# The first one can't start: the second one is the first that there is.  The launcher
# must not be quicker than the session that takes the place.
my $launcher = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook launcher'});
leave_behind(0, 31, 35);
kill 'STOP', $launcher;
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'webhook worker 0'});
wait_for_workers([1]);
$session = take_place();
kill 'CONT', $launcher;
set_clock(402);
ok(have_turns(), 'the second one sends');
is(sql(q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched' AND worker = 0}), '5', 'the first one is waited for');
set_clock(500);
ok(have_turns(), 'more than a minute');
are_sent(31, 35, 'and missed');
leave_place($session);
set_clock(600);
$node->reload;
wait_for_workers([ 0, 1 ]);
is(scalar(grep { $_ != 1 } values %{ $receiver->deliveries }), 0, 'each was sent once');

$receiver->stop;
$node->stop;
done_testing();
