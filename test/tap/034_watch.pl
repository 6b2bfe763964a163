# What a DBA would otherwise find out late: settings that can't work, by
# webhook.health; one line in the server log where many deliveries meet the same
# trouble; queues that are looked at in a bounded time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $mail_port = closed_port();
my $node = start_cluster('watch', conf => qq{
log_line_prefix = '%b %e '
webhook.smtp_url = 'smtp://localhost:$mail_port'
webhook.mail_interval = '1s'
});
my $receiver = start_receiver();
my $gone = $receiver->url('/gone');
my $ok = $receiver->url('/ok');
my $failing = $receiver->url('/status/500');
my $slow = $receiver->url('/slow?ms=4000');

sub health
{
	my ($check) = @_;

	return $node->safe_psql('postgres', qq{SELECT status || ': ' || detail FROM webhook.health() WHERE "check" = '$check'});
}

sub set
{
	my (%setting) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $_ = '$setting{$_}'") for sort keys %setting;
	$node->reload;
	return;
}

sub wait_for_health
{
	my ($check, $pattern) = @_;

	return wait_for_sql($node, qq{SELECT status || ': ' || detail ~ \$\$$pattern\$\$ FROM webhook.health() WHERE "check" = '$check'});
}

sub count_log
{
	my ($pattern) = @_;
	my @found = slurp_file($node->logfile) =~ /$pattern/g;

	return scalar @found;
}

# The Nagios plugin: what it says, and its status
sub check
{
	my ($connection) = @_;
	my ($out, $err);

	IPC::Run::run([ "$FindBin::RealBin/../exporter/check_webhook", '-d', $connection ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8) . ": $out$err";
}

$node->safe_psql('postgres', 'CREATE ROLE nagios LOGIN; GRANT USAGE ON SCHEMA webhook TO nagios');
my $nagios = $node->connstr('postgres') . ' user=nagios';
ok(wait_for_health('worker', '^ok'), 'a worker');
like(check($nagios), qr/^0: WEBHOOK OK - 11 checks\n\z/, 'all is well for Nagios');
set('webhook.enabled' => 'off');
ok(wait_for_health('paused', '^warning'), 'switched off');
like(check($nagios), qr/^1: WEBHOOK WARNING - paused: webhook.enabled is off/, 'a warning');
set('webhook.enabled' => 'on');
like(check($node->connstr('nowhere')), qr/^3: WEBHOOK UNKNOWN - .*does not exist/, 'not known');

# Settings that can't work
like(health('settings'), qr/^ok/, 'no sender is needed: there is a default');
set('webhook.databases' => '*, nowhere, "No Where"');
ok(wait_for_health('settings', '^warning: webhook.databases names database "nowhere", which does not exist; webhook.databases names database "No Where", which'),
	'databases that do not exist');
is(count_log('webhook launcher 3D000 WARNING:  webhook.databases names database'), 2, 'which the server log tells, too');
$node->reload;
$node->safe_psql('postgres', 'CREATE DATABASE nowhere');
set('webhook.databases' => '*');
ok(wait_for_health('settings', '^ok'), 'names that fit');
is(count_log('webhook launcher 3D000 WARNING'), 2, 'and a reload does not repeat it');
$node->append_conf('postgresql.conf', "webhook.timezone = 'Mars/Olympus'");
$node->reload;
ok(wait_for_health('settings', '^warning: the value of webhook.timezone in the configuration files is refused'), 'a value that is refused');
$node->append_conf('postgresql.conf', "webhook.timezone = ''");
$node->reload;
ok(wait_for_health('settings', '^ok'), 'one that is not');

# Values that can't be meant are refused at once.
for my $case ([ 'retry_schedule', '1h 2h 4h', '1h, 2h, 4h' ],
	[ 'retry_schedule', '1h, 30 min 30 m', '1h 30 min, 1 day 12h' ],
	[ 'log_retention', '10 days 20 days', '1 week 3 days' ],
	[ 'proxy', 'no proxy', 'proxy.example.com:3128' ],
	[ 'proxy', 'ftp://proxy', 'HTTPS://proxy' ],
	[ 'proxy', 'http://', 'http://user:p@ss/word@proxy:8080/' ],
	[ 'proxy', 'http://proxy:99999', 'socks5h://[2001:db8::1]:1080' ],
	[ 'proxy', 'http://[2001:db8::1', 'http://10.0.0.1' ])
{
	my ($name, $bad, $good) = @$case;
	my (undef, undef, $error) = $node->psql('postgres', "ALTER SYSTEM SET webhook.$name = '$bad'");

	like($error, qr/ERROR:  invalid value for parameter "webhook.$name"/, "webhook.$name can't be '$bad'");
	is($node->psql('postgres', "ALTER SYSTEM SET webhook.$name = '$good'"), 0, "but '$good'");
	$node->safe_psql('postgres', "ALTER SYSTEM RESET webhook.$name");
}

append_to_file("$dir/empty.pem", "no certificate\n");
append_to_file("$dir/secret.pem", "-----BEGIN CERTIFICATE-----\n");
mkdir "$dir/certificates";
mkdir "$dir/closed";
append_to_file("$dir/certificates/a.pem", '-');
set('webhook.ca_file' => "$dir/empty.pem");
ok(wait_for_health('settings', '^warning: webhook.ca_file names a file without a certificate'), 'an empty bundle');
set('webhook.ca_file' => "$dir/secret.pem");
ok(wait_for_health('settings', '^ok'), 'one with something in it');
chmod 0000, "$dir/secret.pem", "$dir/closed";
ok(wait_for_health('settings', '^warning: webhook.ca_file names nothing that the server can read'), 'not if the server may not read it');
set('webhook.ca_file' => '', 'webhook.certificate_directory' => "$dir/closed");
ok(wait_for_health('settings', '^warning: webhook.certificate_directory names nothing that the server can read'), 'nor a directory');
set('webhook.certificate_directory' => "$dir/certificates");
ok(wait_for_health('settings', '^ok'), 'one that it may read');
$node->safe_psql('postgres', qq{
	CREATE TABLE deal (id int PRIMARY KEY, name text);
	SELECT webhook.create_workflow('deal', 'deal', 'create');
	SELECT webhook.create_action('deal', 'one', '$ok', client_certificate => 'a.pem');
	SELECT webhook.create_action('deal', 'two', '$ok', client_certificate => 'b.pem')});
like(health('settings'), qr/^warning: webhook.certificate_directory lacks a client certificate that actions name, or the server can't read it/, 'a client certificate that is not there');
set('webhook.certificate_directory' => '');
ok(wait_for_health('settings', '^warning: actions have client certificates, but'), 'nor a directory for it');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('deal')});

ok(wait_for_sql($node, 'SELECT capacity > 0 FROM webhook.stat_worker'), 'descriptors');
my $capacity = $node->safe_psql('postgres', 'SELECT capacity FROM webhook.stat_worker');
set('webhook.max_in_flight_per_action' => 300);
ok(wait_for_health('settings', '^warning: webhook.max_in_flight_per_action is 300, more than the 200'), 'more for an action than for all');
SKIP:
{
	skip 'there are descriptors for any setting', 1 if $capacity >= 10000;
	set('webhook.max_in_flight' => $capacity + 1);
	ok(wait_for_health('settings', "^warning: webhook.max_in_flight is @{[ $capacity + 1 ]}, but a worker has file descriptors for $capacity requests only"), 'more than there are descriptors for');
}
set('webhook.max_in_flight' => 200, 'webhook.max_in_flight_per_action' => 50);
ok(wait_for_health('settings', '^ok'), 'as many as can be');

# No synchronous standby follows
set('synchronous_standby_names' => 'nobody');
is($node->safe_psql('postgres', q{SET synchronous_commit = local; SELECT status || ': ' || detail FROM webhook.health() WHERE "check" = 'paused'}),
	'warning: no synchronous standby follows: webhooks wait, as commits do', 'a synchronous standby that is not there');
$node->safe_psql('postgres', q{SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names});
$node->reload;
ok(wait_for_health('paused', '^ok'), 'none is asked for');

# A burst of answers 410 is told once
$node->safe_psql('postgres', qq{
	SELECT webhook.create_workflow('deal', 'deal', 'create');
	SELECT webhook.create_action('deal', 'leave', '$gone');
	INSERT INTO deal SELECT generate_series(1, 50)});
ok(wait_for_delivery($node), 'sent');
is(count_log('webhook worker 08006 WARNING:  webhook action \d+ \("leave"\) is disabled: its receiver answered 410 Gone'), 1, 'a receiver that is gone is told once');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('deal')});

# So are owners who can't be told, and a mail server that takes no mails
$node->safe_psql('postgres', qq{
	INSERT INTO webhook.admin VALUES ('root\@example.com'), ('dba\@example.com');
	SELECT webhook.create_workflow('deal', 'deal', 'create', owner_email => '\${name}');
	SELECT webhook.create_action('deal', 'fail', '$failing', retry_schedule => '{}');
	ALTER TABLE webhook.webhook_log DISABLE TRIGGER USER;
	ALTER SYSTEM SET webhook.enabled = off});
$node->reload;
ok(wait_for_sql($node, 'SELECT state FROM webhook.stat_worker', 'disabled'), 'switched off');
$node->safe_psql('postgres', q{
	INSERT INTO deal SELECT i FROM generate_series(101, 120) i;
	UPDATE webhook.workflow SET owner_email = chr(36) || chr(123) || 'name';
	ALTER TABLE webhook.webhook_log ENABLE TRIGGER USER;
	ALTER SYSTEM SET webhook.enabled = on});
$node->reload;
ok(wait_for_health('mail', '^warning: 2 mails could not be sent so far, the first written at'), 'mails that are not taken');
is(count_log('22\w+ WARNING:  owners of records can\'t be told of failures by workflow "deal": '), 1, 'a broken owner_email is told once');
is(count_log('webhook worker 08006 WARNING:  mails that tell of failed webhooks can\'t be sent since '), 1, 'so is a mail server');
my $server = start_mail_server(port => $mail_port);
$node->safe_psql('postgres', q{UPDATE webhook.mail_log SET retry_at = now() WHERE retry_at IS NOT NULL});
$node->reload;
ok(wait_for_health('mail', '^ok'), 'until they are');
is(count_log('webhook worker 00000 LOG:  mails that tell of failed webhooks are sent again'), 1, 'which is told once');
$node->safe_psql('postgres', q{UPDATE webhook.mail_log SET status = 'Failed', error = 'no' WHERE mail_id = (SELECT min(mail_id) FROM webhook.mail_log)});
like(health('mail'), qr/^warning: 1 mail was given up in the last day/, 'a mail that was given up');
set('webhook.smtp_url' => '');
ok(wait_for_health('settings', '^warning: webhook.admin says who is to be told of failures, but webhook.smtp_url is empty'), 'nobody is told');
$server->stop;
$node->safe_psql('postgres', q{DELETE FROM webhook.admin; SELECT webhook.drop_workflow('deal')});

# wait waits for what is under way for an action that is disabled, or gone
$node->safe_psql('postgres', qq{
	SELECT webhook.create_workflow('deal', 'deal', 'create');
	SELECT webhook.create_action('deal', 'slow', '$slow');
	INSERT INTO deal VALUES (200)});
ok(wait_for_sql($node, q{SELECT in_flight FROM webhook.stat_action}, '1'), 'under way');
$node->safe_psql('postgres', q{SELECT webhook.enable_action(action_id, false) FROM webhook.action});
is($node->safe_psql('postgres', q{SELECT webhook.wait('10 ms')}), 'f', 'wait knows of it');
ok(wait_for_delivery($node), 'and when it has ended');
is($node->safe_psql('postgres', 'SELECT status FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 1'), 'Success', 'sent');

# What they wait for; PostgreSQL 17 has names for it
my %waits = $node->pg_version < 17 ? (launcher => 'Extension', idle => 'Extension', busy => 'Extension', wait => 'Extension') :
  (launcher => 'WebhookLauncherMain', idle => 'WebhookWorkerMain', busy => 'WebhookReceivers', wait => 'WebhookWait');
my $waits = q{SELECT wait_event FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND };
ok(wait_for_sql($node, "$waits backend_type = 'webhook launcher'", $waits{launcher}), 'the launcher waits');
ok(wait_for_sql($node, "$waits backend_type = 'webhook worker'", $waits{idle}), 'an idle worker');
$node->safe_psql('postgres', 'SELECT webhook.enable_action(action_id) FROM webhook.action; INSERT INTO deal VALUES (201)');
ok(wait_for_sql($node, "$waits backend_type = 'webhook worker' AND EXISTS (SELECT FROM webhook.stat_action WHERE in_flight = 1)", $waits{busy}), 'a busy one');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT webhook.wait()' ], '>', \my $waited);
ok(wait_for_sql($node, "$waits query = 'SELECT webhook.wait()'", $waits{wait}), 'and a session');
$waiting->finish;
is($waited, "t\n", 'for as long as it takes');

# Many long queues share what is counted
$node->safe_psql('postgres', q{
	SELECT webhook.drop_workflow('deal');
	DELETE FROM webhook.webhook_log;
	SELECT webhook.create_workflow('deal' || i, 'deal', 'create', 'id < 0') FROM generate_series(1, 4) i;
	SELECT webhook.create_action('deal' || i, 'send ' || j, 'http://127.0.0.1/') FROM generate_series(1, 4) i, generate_series(1, 3) j;
	SELECT webhook.enable_action(action_id, false) FROM webhook.action;
	INSERT INTO webhook.webhook_log (workflow_id, action_id, module, operation, retry_at, queued_at, owner)
	SELECT a.workflow_id, a.action_id, 'deal'::regclass, 'INSERT', now(), now() - interval '5001 s' + i * interval '1 s', current_user::regrole
	FROM webhook.action a, generate_series(1, 5000) i WHERE a.title <> 'send 3'});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT title || ': ' || queued, ', ' ORDER BY title || ': ' || queued) FROM webhook.stat_action}),
	'send 1: 5000, send 2: 5000, send 3: 0', 'eight queues of 5,000 are counted');
$node->safe_psql('postgres', q{
	INSERT INTO webhook.webhook_log (workflow_id, action_id, module, operation, retry_at, owner)
	SELECT a.workflow_id, a.action_id, 'deal'::regclass, 'INSERT', now(), current_user::regrole
	FROM webhook.action a, generate_series(1, 5000) i});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT title || ': ' || queued, ', ' ORDER BY title || ': ' || queued) FROM webhook.stat_action}),
	'send 1: 4166, send 2: 4166, send 3: 4166', 'twelve of them share 50,000');

# The report is of the last million, and says so; here of the last hundred
my $first = q{FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 1 OFFSET 99};
is($node->safe_psql('postgres', "SELECT f.log_id = (SELECT log_id $first) AND f.queued_at = (SELECT queued_at $first) FROM webhook.stat_first(now() - interval '1 day', 100) f"), 't',
	'the last so many');
is($node->safe_psql('postgres', q{SELECT f.log_id = (SELECT min(log_id) FROM webhook.webhook_log) AND f.queued_at = '2000-01-01' FROM webhook.stat_first('2000-01-01', 1000000) f}), 't',
	'or all since a moment');
unlike($node->safe_psql('postgres', 'SELECT * FROM webhook.report()'), qr/The last/, 'which is not worth a line');
$node->safe_psql('postgres', 'SELECT webhook.drop_workflow(name) FROM webhook.workflow; TRUNCATE webhook.webhook_log CASCADE');

# Names of triggers: 63 bytes, two that begin alike, one that is taken
$node->safe_psql('postgres', q{
	SELECT webhook.create_workflow(repeat('long ', 20) || i, 'deal', 'create') FROM generate_series(1, 2) i;
	CREATE TRIGGER webhook_taken_insert AFTER INSERT ON deal FOR EACH ROW WHEN (false) EXECUTE FUNCTION webhook.enqueue('0')});
my $id = $node->safe_psql('postgres', q{SELECT max(workflow_id) + 2 FROM webhook.workflow});
$node->safe_psql('postgres', qq{
	SELECT webhook.create_workflow('taken_$id', 'deal', 'create');
	SELECT webhook.create_workflow('taken', 'deal', 'create')});
is($node->safe_psql('postgres', q{SELECT count(DISTINCT tgname) FROM pg_trigger WHERE tgrelid = 'deal'::regclass}), '5', 'triggers of different names');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ '^webhook_long long long.*_\d+_insert$'}), '2', 'that tell the workflow');
is($node->safe_psql('postgres', qq{SELECT count(*) FROM pg_trigger WHERE tgname = 'webhook_taken_${id}_2_insert'}), '1', 'even where another workflow is called like the way out');

# Everything in the schema is described
is($node->safe_psql('postgres', q{
	SELECT string_agg(o.what, ', ') FROM (
		SELECT p.oid::regprocedure::text AS what, obj_description(p.oid, 'pg_proc') AS comment FROM pg_proc p WHERE p.pronamespace = 'webhook'::regnamespace
		UNION ALL SELECT c.oid::regclass::text, obj_description(c.oid, 'pg_class') FROM pg_class c WHERE c.relnamespace = 'webhook'::regnamespace AND c.relkind IN ('r', 'v')
		UNION ALL SELECT c.oid::regclass || '.' || a.attname, col_description(c.oid, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
			WHERE c.relnamespace = 'webhook'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND obj_description(c.oid, 'pg_class') !~ '^internal'
		UNION ALL SELECT t.tgname || ' on ' || t.tgrelid::regclass, obj_description(t.oid, 'pg_trigger') FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
			WHERE c.relnamespace = 'webhook'::regnamespace AND NOT t.tgisinternal
		UNION ALL SELECT p.polname || ' on ' || p.polrelid::regclass, obj_description(p.oid, 'pg_policy') FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
			WHERE c.relnamespace = 'webhook'::regnamespace) o WHERE o.comment IS NULL}), '', 'every object has a comment');
is($node->safe_psql('postgres', q{SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p
	WHERE p.pronamespace = 'webhook'::regnamespace AND p.pronargs > 0 AND (p.proargnames IS NULL OR '' = ANY (p.proargnames))}), '', 'every argument has a name');

# A launcher that somebody terminates comes back, and knows the workers
my $launcher_pid = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook launcher'};
my $launcher = $node->safe_psql('postgres', $launcher_pid);
my $worker = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
ok(wait_for_sql($node, "SELECT count(*) = 1 AND min(pid) <> $launcher FROM ($launcher_pid) l"), 'another launcher');
$node->safe_psql('nowhere', 'CREATE EXTENSION webhook');
ok(wait_for_sql($node, q{SELECT string_agg(database || ' ' || worker || ' ' || state, ', ' ORDER BY database) FROM webhook.stat_worker}, 'nowhere 0 running, postgres 0 running'),
	'starts what is missing, and nothing twice');
is(worker_pid($node), $worker, 'the worker is the same');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
worker_pid($node, $worker);
ok(wait_for_health('worker', '^ok: 1 worker is running'), 'one that ends has a successor');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook worker'}), '2', 'one each');

# No process for the worker
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
ok(wait_for_health('worker', '^critical: no worker runs in this database'), 'no room for a worker');
is($node->safe_psql('postgres', q{SELECT hint FROM webhook.health() WHERE "check" = 'worker'}),
	'The server log says why. If it is for lack of background workers, increase max_worker_processes.', 'and what to do');
like(check($nagios), qr/^2: WEBHOOK CRITICAL - worker: no worker runs in this database; .*settings: max_worker_processes/, 'critical for Nagios');
like(health('settings'), qr/^warning: max_worker_processes is 2, too small for a webhook worker and its launcher beside what PostgreSQL needs itself/, 'the setting');
ok(wait_for_sql($node, q{SELECT true}) && count_log('webhook launcher 53400 WARNING:  could not start a webhook worker: too many background workers') == 1, 'told once');
like(slurp_file($node->logfile), qr/53400 DETAIL:  Whether database "(postgres|template1|nowhere)" has webhooks can't be seen; deliveries wait in each database without a worker\./, 'with the database');

$receiver->stop;
$node->stop;
done_testing();
