# A clock that is turned back by an hour: the worker does not wait until the
# hour has passed, what was queued meanwhile goes out, and health tells of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $node = PostgreSQL::Test::Cluster->new('clock');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'webhook'
webhook.allowed_networks = '127.0.0.0/8'
fsync = off
});
start_with_clock($node, 3600);
my $receiver = start_receiver();
my $url = $receiver->url('/ok');
my $slow = $receiver->url('/slow?ms=3000');

$node->safe_psql('postgres', qq{
	CREATE EXTENSION webhook;
	CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE slow (id int PRIMARY KEY);
	SELECT webhook.create_workflow('good', 'good', 'create');
	SELECT webhook.create_action('good', 'send', '$url', rate_limit => 100);
	SELECT webhook.create_workflow('slow', 'slow', 'create');
	SELECT webhook.create_action('slow', 'wait', '$slow', max_in_flight => 2);
	INSERT INTO good SELECT generate_series(1, 5)});
cmp_ok($node->safe_psql('postgres', 'SELECT extract(epoch FROM now())'), '>', time + 3000, 'the clock is ahead');
ok(wait_for_delivery($node), 'sent');

# Two are under way, and others wait, when the clock is turned back.
$node->safe_psql('postgres', 'INSERT INTO slow SELECT generate_series(1, 4)');
ok(wait_for_sql($node, q{SELECT in_flight FROM webhook.stat_action WHERE title = 'wait'}, '2'), 'under way');
$node->safe_psql('postgres', 'ALTER SYSTEM SET webhook.enabled = off');
$node->reload;
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker}, 'disabled'), 'switched off');
# The worker, held up, has not yet seen what was queued last.
my $held_up = worker_pid($node);
kill 'STOP', $held_up;
$node->safe_psql('postgres', 'INSERT INTO good SELECT generate_series(101, 110)');
set_clock(0);
kill 'CONT', $held_up;
cmp_ok($node->safe_psql('postgres', 'SELECT extract(epoch FROM now())'), '<', time + 3000, 'turned back');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (6); ALTER SYSTEM SET webhook.enabled = on');
$node->reload;
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '6'}, 'Success'), 'what is queued now is sent');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE action_id = 1 AND status = 'Success'}, '16'), 'what nobody had claimed');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE action_id = 2 AND status = 'Success'}, '4'), 'and what was queued before');
my @lines = slurp_file($node->logfile) =~ /LOG:  (webhook worker 0 of database "postgres" starts anew: the clock was turned back by [^\n]*)/g;
is(scalar @lines, 1, 'which the server log tells') or diag(join "\n", @lines);
like($node->safe_psql('postgres', q{SELECT status || ': ' || detail FROM webhook.health() WHERE "check" = 'clock'}),
	qr/^warning: deliveries were queued at .* which is yet to come: the clock was turned back/, 'and health');

# One that was under way, and could not be given back.
my $pid = worker_pid($node);
$node->safe_psql('postgres', 'ALTER SYSTEM SET webhook.enabled = off');
$node->reload;
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker}, 'disabled'), 'switched off');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (8)');
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET status = 'Dispatched', worker = 0, retry_at = now() + interval '1 h' WHERE record_id = '8'});
$node->safe_psql('postgres', "ALTER SYSTEM SET webhook.enabled = on");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '8'}, 'Success'), 'what was under way is sent again, and now');

# The log is locked at that moment: it is done later.
sub turn_back
{
	my ($pid) = @_;

	set_clock(0);
	$node->reload;
	return isnt(worker_pid($node, $pid), $pid, 'another worker');
}

set_clock(3600);
$node->safe_psql('postgres', q{
	DELETE FROM webhook.webhook_log;
	ALTER SYSTEM SET webhook.enabled = off});
$node->reload;
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker}, 'disabled'), 'switched off');
$node->safe_psql('postgres', 'INSERT INTO good SELECT generate_series(201, 210); ALTER SYSTEM SET webhook.enabled = on');
$pid = worker_pid($node);
my $offset = -s $node->logfile;
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE webhook.webhook_log IN SHARE MODE');
turn_back($pid);
$pid = worker_pid($node);
ok(wait_for_sql($node, q{SELECT state || ': ' || last_error FROM webhook.stat_worker}, 'backoff: canceling statement due to lock timeout'), 'it waits, and says so');
$locker->query_safe('COMMIT');
$locker->quit;
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}, '10'), 'a locked log: sent once it is free');
is(worker_pid($node), $pid, 'by the same worker');
unlike(slurp_file($node->logfile, $offset), qr/webhook worker" \(PID \d+\) exited with exit code 1/, 'and none has failed');

# A transaction that began before is committed after it.
set_clock(3600);
my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN; INSERT INTO good VALUES (211)');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (220)');
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '220'}, 'Success'), 'ahead again');
turn_back($pid);
$node->safe_psql('postgres', 'INSERT INTO good VALUES (212)');
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '212'}, 'Success'), 'what is queued now is sent');
$writer->query_safe('COMMIT');
$writer->quit;
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '211'}, 'Success'), 'what was begun before, once it is committed');

# What nobody has seen happen is told, too: a server that was down meanwhile.
$node->safe_psql('postgres', q{
	TRUNCATE webhook.webhook_log CASCADE;
	ALTER SYSTEM SET webhook.enabled = off});
$node->reload;
ok(wait_for_sql($node, q{SELECT state FROM webhook.stat_worker}, 'disabled'), 'switched off');
like($node->safe_psql('postgres', q{SELECT status FROM webhook.health() WHERE "check" = 'clock'}), qr/^ok/, 'nothing wrong');
$node->safe_psql('postgres', q{
	INSERT INTO good VALUES (7);
	UPDATE webhook.webhook_log SET retry_at = retry_at + interval '2 hours', queued_at = queued_at + interval '2 hours';
	INSERT INTO good SELECT generate_series(1001, 2100);
	UPDATE webhook.webhook_log SET queued_at = queued_at - interval '2 hours' WHERE queued_at > now()});
like($node->safe_psql('postgres', q{SELECT status || ': ' || detail FROM webhook.health() WHERE "check" = 'clock'}),
	qr/^warning: deliveries that have not been tried yet are due no sooner than .*: the clock was turned back/, 'health tells of what is due late');

$receiver->stop;
$node->stop;
done_testing();
