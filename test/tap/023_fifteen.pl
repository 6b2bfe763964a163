# The fifteen ways to fail that users of other queues have met; here those that
# no other file tries: a poison row (3), a slow receiver (4), a transaction open
# over the network (6), a burst under the usual limit of descriptors (8), a lost
# wake-up (10), and a schema of the same name (14).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $receiver = start_receiver();
my ($ok, $slow, $binary) = map { $receiver->url($_) } qw(/ok /slow?ms=4000 /binary);
my $node = start_cluster('fifteen', conf => 'log_min_messages = warning');
my $success = q{SELECT count(*) FROM webhook.webhook_log l JOIN webhook.action USING (action_id) WHERE l.status = 'Success' AND title};

$node->safe_psql('postgres', qq{
	CREATE TABLE event (id int PRIMARY KEY, kind text, filler text);
	SELECT webhook.create_workflow('good', 'event', 'create', \$\$kind = 'good'\$\$);
	SELECT webhook.create_action('good', 'good', '$ok');
	SELECT webhook.create_workflow('slow', 'event', 'create', \$\$kind = 'slow'\$\$);
	SELECT webhook.create_action('slow', 'slow', '$slow');
	SELECT webhook.create_workflow('binary', 'event', 'create', \$\$kind = 'binary'\$\$);
	SELECT webhook.create_action('binary', 'binary', '$binary')});
my $worker = worker_pid($node);

# 4 and 6: five receivers that take 4 seconds, and a thousand that don't
$node->safe_psql('postgres', q{INSERT INTO event SELECT i, 'slow' FROM generate_series(1, 5) i});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched'}, '5'), 'five slow ones are under way');
is($node->safe_psql('postgres', qq{SELECT count(*) FROM pg_stat_activity WHERE pid = $worker AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)}), '0',
	'no transaction is open meanwhile, and no xmin is held');
is($node->safe_psql('postgres', qq{SELECT count(*) FROM pg_locks WHERE pid = $worker AND locktype IN ('relation', 'tuple', 'transactionid')}), '0', 'nor a lock');
$node->safe_psql('postgres', q{INSERT INTO event SELECT i, 'good' FROM generate_series(101, 1100) i});
ok(wait_for_sql($node, "$success = 'good'", '1000'), 'a thousand are delivered');
is($node->safe_psql('postgres', "$success = 'slow'"), '0', 'before the slow ones are');
ok(wait_for_sql($node, "$success = 'slow'", '5'), 'which arrive as well');

# 3: what can't be stored or made costs itself only
my $before = $receiver->count;
$node->safe_psql('postgres', q{INSERT INTO event SELECT i, CASE WHEN i % 10 = 0 THEN 'binary' ELSE 'good' END,
	CASE WHEN i = 2005 THEN repeat('x', 2000000) END FROM generate_series(2001, 2100) i});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE record_id::int > 2000 AND retry_at IS NULL}, '100'), 'poison rows are done with');
is($node->safe_psql('postgres', q{SELECT string_agg(record_id || ': ' || error, ', ') FROM webhook.webhook_log WHERE record_id::int > 2000 AND status <> 'Success'}),
	'2005: body of 2000042 bytes exceeds webhook.max_payload_size (1048576 bytes)', 'one could not be sent, the others were');
is($receiver->count - $before, 99, 'nothing was sent twice');

# 8: 10,000 at once, with 1024 descriptors
is(system('prlimit', "--pid=$worker", '--nofile=1024'), 0, 'the usual limit of descriptors');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, max_in_flight => 200);
	INSERT INTO event SELECT i, 'good' FROM generate_series(10001, 20000) i});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success' AND record_id::int > 10000}, '10000'), 'a burst of 10,000 is delivered');
is($node->safe_psql('postgres', q{SELECT max(attempts) FROM webhook.webhook_log WHERE record_id::int > 10000}), '1', 'each in one attempt');

# 10: the log changed by hand, of which nobody tells the worker
$node->safe_psql('postgres', q{ALTER SYSTEM SET webhook.max_payload_size = '10MB'; SELECT pg_reload_conf()});
$node->safe_psql('postgres', q{INSERT INTO event VALUES (3000, 'good', repeat('x', 2000000))});
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '3000'}, 'Success'), 'a larger body is allowed now');
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET status = 'Queued', retry_at = now() WHERE record_id = '2005'});
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '2005'}, 'Success'), 'a row that was changed by hand is found');

# 14: a schema of that name which is somebody else's
$node->safe_psql('postgres', 'CREATE DATABASE strange');
$node->safe_psql('strange', 'CREATE SCHEMA webhook; CREATE TABLE webhook.webhook_log (log_id int, retry_at timestamptz); INSERT INTO webhook.webhook_log VALUES (1, now())');
my ($code, $out, $err) = $node->psql('strange', 'CREATE EXTENSION webhook');
like($err, qr/schema "webhook" already exists/, 'a schema of the same name is not taken over');
$node->restart;
ok(wait_for_sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND datname = 'postgres'}, '1'), 'workers started');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.stat_worker WHERE database = 'strange' AND pid IS NOT NULL}), '0', 'and is left alone');
is($node->safe_psql('strange', 'SELECT count(*) FROM webhook.webhook_log'), '1', 'with all that is in it');

is(scalar(() = slurp_file($node->logfile) =~ /^.*(?:ERROR|FATAL|PANIC):(?!  schema "webhook" already exists)(?!  terminating connection due).*$/mg), 0, 'no error in the log');

$receiver->stop;
$node->stop;
done_testing();
