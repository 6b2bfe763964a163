# webhook.health tells what is wrong and what to do; webhook.report draws what
# came of it all; webhook.stat_progress shows how far long work is.

use strict;
use warnings;

use utf8;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Encode qw(decode_utf8);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

# Not preloaded
my $node = PostgreSQL::Test::Cluster->new('health');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', q{
webhook.allowed_networks = '127.0.0.0/8'
webhook.log_retention = 0
});
$node->start;
$node->psql('postgres', 'CREATE EXTENSION webhook');

# Status and detail of one check, or those of all that are not ok.
sub health
{
	my ($check) = @_;

	return $node->safe_psql('postgres', qq{SELECT status || ': ' || detail FROM webhook.health() WHERE "check" = '$check'});
}

sub wait_for_health
{
	my ($check, $pattern) = @_;

	return wait_for_sql($node, qq{SELECT status || ': ' || detail ~ '$pattern' FROM webhook.health() WHERE "check" = '$check'});
}

sub set
{
	my (%setting) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $_ = '$setting{$_}'") for sort keys %setting;
	$node->reload;
	return;
}

like(health('loaded'), qr/^critical: the library is not loaded/, 'not preloaded: health works, and says so');
like(health('worker'), qr/^critical: no worker runs/, 'and that there is no worker');
is($node->safe_psql('postgres', q{SELECT hint FROM webhook.health() WHERE "check" = 'loaded'}),
	'Add webhook to shared_preload_libraries and restart the server.', 'and what to do');
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.stat_worker, webhook.stat_progress'), '0', 'no worker, no progress');
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.stat_action'), '0', 'no actions');

# Preloaded
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'webhook'});
$node->restart;
my $receiver = start_receiver();
my $port = closed_port();
$node->safe_psql('postgres', q{
	CREATE ROLE alice; CREATE ROLE watcher; GRANT USAGE ON SCHEMA webhook TO alice, watcher;
	CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE bad (id int PRIMARY KEY);
	ALTER TABLE bad OWNER TO alice;
	SELECT webhook.create_workflow('good', 'good', 'create');
	SELECT webhook.create_action('good', 'send', '} . $receiver->url('/slow?ms=30') . q{');
	SET ROLE alice;
	SELECT webhook.create_workflow('bad', 'bad', 'create');
	SELECT webhook.create_action('bad', 'send', 'http://127.0.0.1:} . $port . q{/', retry_schedule => '{}')});
ok(wait_for_health('worker', '^ok: 1 worker is running'), 'a worker is running');
is($node->safe_psql('postgres', q{SELECT string_agg("check", ' ') FROM webhook.health() WHERE status = 'ok' AND hint IS NULL AND detail IS NOT NULL}),
	'loaded worker paused index oldest due receivers given up mail retention settings clock', 'all is well');
like($node->safe_psql('postgres', 'SELECT * FROM webhook.report()'), qr/^No deliveries were queued since/, 'nothing to report');

# Receivers
$node->safe_psql('postgres', 'INSERT INTO good SELECT generate_series(1, 100); INSERT INTO bad SELECT generate_series(1, 10)');
ok(wait_for_delivery($node), 'sent');
ok(wait_for_health('receivers', '^warning: 1 of 2 receivers failing'), 'a failing receiver');
like(health('given up'), qr/^warning: 10 of the last 10,000 deliveries were given up in the last day$/, 'what is not tried again');
is($node->safe_psql('postgres', q{SET ROLE watcher; SELECT count(*) FROM webhook.health() WHERE status = 'warning'}), '2', 'a role that only watches learns of it');
$node->safe_psql('postgres', q{UPDATE webhook.action_stats SET failing_since = failing_since - interval '2 hours' WHERE failures > 0});
like(health('receivers'), qr/^critical/, 'one that has been failing for long');

# The report
my $report = decode_utf8($node->safe_psql('postgres', 'SELECT * FROM webhook.report()'));
note(Encode::encode_utf8($report));
like($report, qr/^Deliveries queued since [^\n]*\n\nworkflow \/ action +deliveries +succeeded +failed +waiting +latency +p50 +p95\n/, 'a report');
like($report, qr/\ngood \/ send +100 +100 +0 +0  █{20} +[▁▂▃▄▅▆▇ ]*█[▁▂▃▄▅▆▇█ ]* \d\d+ ms +\d+ ms\n/, 'of what succeeded, with its latency');
like($report, qr/\nbad \/ send +10 +0 +10 +0  ░░ +[^\n]*\n    failed most often with: could not connect[^\n]*\n/, 'and of what failed, and why');
like(decode_utf8($node->safe_psql('postgres', 'SET ROLE alice; SELECT * FROM webhook.report()')), qr/\A(?!.*good).*\nbad \/ send/s, 'a role sees its own');
like($node->safe_psql('postgres', q{SELECT * FROM webhook.report('-1 hour')}), qr/^No deliveries/, 'since a moment');
$node->safe_psql('postgres', q{
	UPDATE webhook.webhook_log SET queued_at = queued_at - interval '2 days' WHERE log_id <= 40});
like($node->safe_psql('postgres', 'SELECT * FROM webhook.report()'), qr/\ngood \/ send +60 +60 /, 'no more than that');
like($node->safe_psql('postgres', q{SELECT * FROM webhook.report('3 days')}), qr/\ngood \/ send +100 +100 /, 'or all of it');
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0});
$node->safe_psql('latin', q{
	CREATE EXTENSION webhook;
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('event', 'event', 'create');
	SELECT webhook.create_action('event', 'send', '} . $receiver->url('/ok') . q{');
	INSERT INTO event VALUES (1)});
ok(wait_for_delivery($node, 'latin'), 'sent');
like($node->safe_psql('latin', 'SELECT * FROM webhook.report()'), qr/\nevent \/ send +1 +1 +0 +0  #{20} +@ /, 'drawn with what the encoding has');
$node->safe_psql('latin', 'DROP EXTENSION webhook CASCADE');

# Paused, late
set('webhook.enabled' => 'off');
ok(wait_for_health('paused', '^warning: webhook.enabled is off'), 'switched off');
$node->safe_psql('postgres', 'INSERT INTO good VALUES (1001)');
like(health('oldest due'), qr/^ok: the delivery that has waited longest has been due for 00:00:/, 'something waits');
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET retry_at = retry_at - interval '2 minutes' WHERE retry_at IS NOT NULL});
like(health('oldest due'), qr/^warning/, 'for long');
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET retry_at = retry_at - interval '20 minutes' WHERE retry_at IS NOT NULL});
like(health('oldest due'), qr/^critical/, 'for too long');
is($node->safe_psql('postgres', q{SELECT hint FROM webhook.health() WHERE "check" = 'oldest due'}), 'See the checks above: nothing is sent.',
	'of which no receiver is accused');
$node->safe_psql('postgres', q{SELECT webhook.enable_action(1, false)});
like(health('oldest due'), qr/^ok: nothing is due/, 'not if its action is disabled');
set('webhook.enabled' => 'on');
ok(wait_for_health('paused', '^warning: deliveries of 1 disabled action wait'), 'which is told, too');
$node->safe_psql('postgres', q{SELECT webhook.enable_action(1)});
ok(wait_for_delivery($node), 'sent');

# Gone, which loses events while nobody looks
my $sent_to = $node->safe_psql('postgres', 'SELECT url FROM webhook.action WHERE action_id = 1');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, url => '} . $receiver->url('/gone') . q{'); INSERT INTO good VALUES (1003)});
ok(wait_for_health('receivers', '^critical: 1 of 1 receivers failing, .*; 1 action was disabled by an answer 410 Gone'), 'a receiver that is gone');
$node->safe_psql('postgres', qq{SELECT webhook.alter_action(1, url => '$sent_to'), webhook.enable_action(1); INSERT INTO good VALUES (1004)});
ok(wait_for_delivery($node), 'sent');
$node->safe_psql('postgres', q{SELECT webhook.enable_action(1, false)});
ok(wait_for_health('receivers', '^critical: 1 of 1 receivers failing, [^;]*$'), 'not one that somebody disabled since');
$node->safe_psql('postgres', q{SELECT webhook.enable_action(1)});

# The worker's own errors
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION refuse();
	INSERT INTO good VALUES (1002)});
ok(wait_for_health('worker', '^critical: 1 of 1 workers wait'), 'a worker that waits after an error');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON webhook.webhook_log');
ok(wait_for_health('worker', '^ok'), 'and goes on');
set('webhook.databases' => 'template1');
ok(wait_for_health('worker', '^warning: no worker runs: webhook.databases'), 'a database without a worker');
set('webhook.databases' => '*');
ok(wait_for_health('worker', '^ok'), 'and with one again');
set('webhook.workers_per_database' => 20);
ok(wait_for_health('worker', '^warning: \d+ of 20 workers run'), 'more workers than can be');
like(health('settings'), qr/^warning: max_worker_processes is 8, too small for 20/, 'and why');
set('webhook.workers_per_database' => 1);
ok(wait_for_health('worker', '^ok'), 'as many as can be');

# Settings
set('webhook.ca_file' => '/nowhere/ca.pem', 'webhook.allow_http' => 'off');
ok(wait_for_health('settings', '^warning: webhook.ca_file names nothing that the server can read: /nowhere/ca.pem; webhook.allow_http is off'), 'settings that can\'t work');
set('webhook.ca_file' => '', 'webhook.allow_http' => 'on');
ok(wait_for_health('settings', '^ok'), 'that can');

# What fails in the writer's transaction, which no worker sees
$node->safe_psql('postgres', q{
	SELECT webhook.cancel(webhook.test(1, '1'));
	SELECT webhook.alter_action(1, parameters => '{"x": "${= 1 / (id - 1005)}"}');
	INSERT INTO good VALUES (1005)});
like(health('given up'), qr/^warning: 12 of the last 10,000 deliveries were given up in the last day, 1 without a request$/, 'a value that can not be computed');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, parameters => '{}')});

# A lock that health would wait for
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE webhook.webhook_log');
is($node->safe_psql('postgres', q{SET statement_timeout = '30s'; SELECT string_agg(regexp_replace(detail, '\d+', 'n'), '|') FROM webhook.health()}),
	'the library is loaded|webhook.webhook_log is locked by process n: all wait, and more can\'t be seen', 'a locked log');
$locker->query_safe('ROLLBACK');
$locker->quit;

# Index, clock
$node->safe_psql('postgres', q{UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'webhook.webhook_log_due_idx'::regclass});
like(health('index'), qr/^critical: missing or invalid: webhook_log_due_idx/, 'an index that is not valid');
is($node->safe_psql('postgres', 'SELECT count(*), count(queued) FROM webhook.stat_action'), '2|0', 'the view does without it');
$node->safe_psql('postgres', 'REINDEX INDEX webhook.webhook_log_due_idx');
like(health('index'), qr/^ok/, 'mended');
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET retry_at = now() + interval '1 year', status = 'Failed' WHERE log_id = 1});
like(health('clock'), qr/^warning: a delivery is due no sooner than/, 'due in a far future');
$node->safe_psql('postgres', q{SELECT webhook.cancel(1)});
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET queued_at = now() + interval '1 year' WHERE log_id = (SELECT max(log_id) FROM webhook.webhook_log)});
like(health('clock'), qr/^warning: deliveries were queued at .* which is yet to come/, 'queued in the future');
$node->safe_psql('postgres', q{UPDATE webhook.webhook_log SET queued_at = now() WHERE queued_at > now()});
like(health('clock'), qr/^ok/, 'the clock is right');

# Progress of retry_failed, held up at a row in the middle
my $middle = $node->safe_psql('postgres', q{SELECT min(log_id) FROM webhook.webhook_log WHERE status = 'Failed' AND action_id = 2});
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM webhook.webhook_log WHERE log_id = $middle FOR UPDATE");
my ($out, $err) = ('', '');
my $retry = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT webhook.retry_failed(2)' ], '>', \$out, '2>', \$err);
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.stat_progress
	WHERE command = 'retry_failed' AND database = 'postgres' AND action_id = 2 AND workflow_id IS NULL AND done < total AND started_at <= clock_timestamp()}, '1'),
	'retry_failed shows how far it is');
$holder->query_safe('COMMIT');
$holder->quit;
$retry->finish;
is($out, "10\n", 'and goes on') or diag($err);
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.stat_progress'), '0', 'once done it is not shown');
ok(wait_for_delivery($node), 'sent');

# Progress of a purge
$node->safe_psql('postgres', q{
	UPDATE webhook.webhook_log SET log_id = log_id + 1000000;
	INSERT INTO webhook.webhook_log (log_id, workflow_id, action_id, module, operation, status, queued_at, completed_at)
	SELECT i, 1, 1, 'good'::regclass, 'INSERT', 'Success', now() - interval '9 days', now() - interval '9 days'
	FROM generate_series(1, 50000) i});
like(health('retention'), qr/^ok: webhook.log_retention is 0: the log keeps everything, \d+ [kM]B so far$/, 'everything is kept');
$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM webhook.webhook_log WHERE log_id = 20000 FOR UPDATE');
set('webhook.log_retention' => '7 days');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.stat_progress WHERE command = 'purge' AND done > 0 AND total IS NULL}, '1'), 'a purge shows how far it is');
ok(wait_for_sql($node, 'SELECT count(*) FROM webhook.stat_progress', '0'), 'and ends');
is($node->safe_psql('postgres', 'SELECT string_agg(log_id::text, \' \') FROM webhook.webhook_log WHERE log_id <= 50000'), '20000',
	'when all that is old is gone, but for what somebody has locked');
like(health('retention'), qr/^warning: deliveries that ended at/, 'which is told');
is($node->safe_psql('postgres', 'SELECT webhook.log_start() BETWEEN 19000 AND 19999'), 't', 'what is gone in front of it is not looked for again');
$holder->query_safe('ROLLBACK');
$holder->quit;
$node->safe_psql('postgres', 'DELETE FROM webhook.webhook_log WHERE log_id = 20000');
like(health('retention'), qr/^ok: the log goes back no further/, 'retention keeps up');

$receiver->stop;
$node->stop;
done_testing();
