# Beside other extensions, poolers and logical replication.  What Debian has of
# them is unpacked by the harness; a part whose package is not there is skipped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $receiver = start_receiver();
my $url = $receiver->url('/ok');
my ($share) = PostgreSQL::Test::Utils::run_command([ 'pg_config', '--sharedir' ]);
my %secret = (password => 'pass-geheim', signing => 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');

sub has_extension { return -e "$share/extension/$_[0].control" }

# The bodies that were sent since the last call, in the order of their text.
my $seen = 0;

sub sent
{
	my @requests = $receiver->requests('/ok');
	my @new = @requests[ $seen .. $#requests ];

	$seen = @requests;
	return join ' ', sort map { $_->{body} } @new;
}

# A table with a workflow that sends each row's id, and what the row says.
sub make_module
{
	my ($node, $name, $say) = @_;

	$node->safe_psql('postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, t text);
		SELECT webhook.create_workflow('$name', '$name');
		SELECT webhook.create_action('$name', 'send', '$url', parameters => '{"$say": "\${id}"}')});
	return;
}

# ---------------------------------------------------------------------------
# Loaded together, in either order
# ---------------------------------------------------------------------------

my %library = (pg_stat_statements => 'pg_stat_statements', pg_cron => 'pg_cron', pgaudit => 'pgaudit', pg_partman => 'pg_partman_bgw');
my @others = grep { has_extension($_) } sort keys %library;
my @libraries = map { $library{$_} } @others;
my $conf = q{
max_worker_processes = 20
};
$conf .= "pg_stat_statements.track = all\npg_stat_statements.track_utility = on\n" if has_extension('pg_stat_statements');
$conf .= "cron.database_name = 'postgres'\ncron.use_background_workers = on\n" if has_extension('pg_cron');
$conf .= "pg_partman_bgw.dbname = 'postgres'\npg_partman_bgw.interval = 1\n" if has_extension('pg_partman');
$conf .= "pgaudit.log = 'all'\npgaudit.log_parameter = on\npgaudit.log_relation = on\n" if has_extension('pgaudit');
note("beside: @others");

my $node = start_cluster('beside', extension => 0, init => { allows_streaming => 'logical' }, conf => $conf . "shared_preload_libraries = '" . join(',', @libraries, 'webhook') . "'\n");

sub create_extensions
{
	for my $extension (@_)
	{
		$node->safe_psql('postgres', $extension eq 'pg_partman' ? 'CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman' : "CREATE EXTENSION $extension");
	}
	return;
}

create_extensions('webhook', @others);
make_module($node, 'deal', 'deal');
$node->safe_psql('postgres', 'INSERT INTO deal VALUES (1)');
ok(wait_for_delivery($node), 'loaded last, created first');
is(sent(), '{"deal": 1}', '... webhooks are sent');
$node->safe_psql('postgres', 'DROP TABLE deal; DROP EXTENSION webhook; ' . join '; ', map { "DROP EXTENSION $_" } @others);
$node->safe_psql('postgres', 'DROP SCHEMA IF EXISTS partman');
$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . join(',', 'webhook', @libraries) . "'");
$node->restart;
create_extensions(@others, 'webhook');
make_module($node, 'deal', 'deal');
$node->safe_psql('postgres', 'INSERT INTO deal VALUES (2)');
ok(wait_for_delivery($node), 'loaded first, created last');
is(sent(), '{"deal": 2}', '... webhooks are sent');
is($node->safe_psql('postgres', q{SELECT string_agg(status || ' ' || "check", ', ') FROM webhook.health() WHERE status <> 'ok'}), '', '... and all is well');

# ---------------------------------------------------------------------------
# pg_stat_statements
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'pg_stat_statements is not there', 7 unless has_extension('pg_stat_statements');

	# One after the other, so that the worker has as many turns as deliveries.
	$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
	$node->safe_psql('postgres', "INSERT INTO deal VALUES (10, 'x'); SELECT webhook.wait()");
	my $few = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%webhook%'});
	$node->safe_psql('postgres', join '; ', map { "INSERT INTO deal VALUES ($_, 'x'); SELECT webhook.wait()" } 11 .. 60);
	my $many = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%webhook%'});
	is(scalar(split / /, sent()), 51 * 2, 'deliveries one by one');
	cmp_ok($many - $few, '<', 20, "add no statements each ($few, then $many)");
	$node->safe_psql('postgres', qq{
		SELECT webhook.create_action('deal', 'secret', '$url', username => 'crm', password => '$secret{password}', signing_secret => 'whsec_$secret{signing}', parameters => '{"secret": "\${id}"}');
		SELECT webhook.rotate_secret(2, 'whsec_$secret{signing}')});
	my $statements = $node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements');
	like($statements, qr/SELECT webhook\.create_action\(\$1, \$2, \$3, username => \$4, password => \$5, signing_secret => \$6/, 'statements are normalized');
	unlike($statements, qr/$secret{password}|$secret{signing}/, '... and have no secrets');
	$node->safe_psql('postgres', q{INSERT INTO deal VALUES (70, 'x')});
	ok(wait_for_delivery($node), 'with which webhooks are sent');
	is(sent(), '{"deal": 70} {"secret": 70}', '... to all actions');
	unlike($node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements'), qr/$secret{password}|$secret{signing}/, '... and nothing is told');
	$node->safe_psql('postgres', 'SELECT webhook.drop_action(2)');
}

# ---------------------------------------------------------------------------
# pgaudit
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'pgaudit is not there', 4 unless has_extension('pgaudit');

	# What doc/security.md says of statements with secrets: they are given in a
	# session that logs none.
	my $offset = -s $node->logfile;
	$node->safe_psql('postgres', qq{
		SET log_statement = none; SET log_min_error_statement = panic; SET pgaudit.log = none;
		SELECT webhook.create_action('deal', 'audited', '$url', username => 'crm', password => '$secret{password}',
			signing_secret => 'whsec_$secret{signing}', parameters => '{"audited": "\${id}"}')});
	$node->safe_psql('postgres', q{INSERT INTO deal VALUES (80, 'x'), (81, 'x')});
	$node->safe_psql('postgres', q{SELECT * FROM webhook.preview((SELECT max(action_id) FROM webhook.action), '80'); SELECT webhook.export()});
	$node->safe_psql('postgres', q{SELECT webhook.alter_action((SELECT max(action_id) FROM webhook.action), title => 'audited still')});
	ok(wait_for_delivery($node), 'audited');
	is(sent(), '{"audited": 80} {"audited": 81} {"deal": 80} {"deal": 81}', '... triggers and worker go on');
	my $log = substr(slurp_file($node->logfile), $offset);
	like($log, qr/AUDIT: SESSION,.*WRITE,INSERT,TABLE,public\.deal,/, '... what users do is in the log');
	my @leaks = grep { /$secret{password}|$secret{signing}|\Q${\encode_base64("crm:$secret{password}", '')}\E/ } split /\n/, $log;
	is("@leaks", '', '... and no secret is');
	my $lines = () = $log =~ /AUDIT: .*webhook\.webhook_log/g;
	note("$lines lines about the log");
	$node->safe_psql('postgres', 'SELECT webhook.drop_action((SELECT max(action_id) FROM webhook.action))');
}

# ---------------------------------------------------------------------------
# pg_cron
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'pg_cron is not there', 4 unless has_extension('pg_cron');

	# Its schedules know minutes; what runs when it starts runs at once.
	$node->safe_psql('postgres', q{
		SELECT cron.schedule('write', '@reboot', $$INSERT INTO deal VALUES (90, 'cron')$$);
		SELECT cron.schedule('run', '@reboot', $$SELECT webhook.run_workflow('deal')$$)});
	$node->restart;
	ok(wait_for_sql($node, q{SELECT count(*) = 2 FROM cron.job_run_details WHERE status = 'succeeded'}), 'jobs of pg_cron have run')
	  or diag($node->safe_psql('postgres', 'SELECT command, status, return_message FROM cron.job_run_details'));
	ok(wait_for_delivery($node), '... what they wrote and what they ran is sent');
	my %count;
	$count{$_}++ for split / (?=\{)/, sent();
	my $run = row($node, q{SELECT count(*)::int AS n FROM webhook.webhook_log WHERE operation = 'MANUAL'})->{n};
	is($count{'{"deal": 90}'}, 1 + ($run == row($node, 'SELECT count(*)::int AS n FROM deal')->{n}), '... as often as asked for');
	is(eval { my $n = 0; $n += $_ for values %count; $n }, 1 + $run, '... and nothing else');
	$node->safe_psql('postgres', q{SELECT cron.unschedule(jobid) FROM cron.job});
}

# ---------------------------------------------------------------------------
# pg_partman
# ---------------------------------------------------------------------------

# Wait until pg_partman's own process has done something.  It ends by an error where
# one that it starts is over before it looks, and then is not there for ten
# minutes: a server that is started anew has it at once.
sub wait_for_partman
{
	my ($query) = @_;
	my $deadline = time + $WebhookTest::patience;
	my $restart_at = time + $WebhookTest::patience / 4;

	until ($node->safe_psql('postgres', "SELECT $query") eq 't')
	{
		return wait_for_sql($node, "SELECT $query") if time > $deadline;
		if (time > $restart_at)
		{
			$node->restart;
			$restart_at = time + $WebhookTest::patience / 4;
		}
		sleep 0.1;
	}
	return 1;
}

SKIP:
{
	skip 'pg_partman is not there', 12 unless has_extension('pg_partman');
	$node->safe_psql('postgres', qq{
		CREATE TABLE visit (id int, at date, t text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
		CREATE TABLE visit_template (LIKE visit);
		SELECT webhook.create_workflow('first', 'visit', recurrence => 'first');
		SELECT webhook.create_action('first', 'send', '$url', parameters => '{"first": "\${id}"}', ordered => true);
		SELECT webhook.create_workflow('change', 'visit', condition => \$\$t = 'x'\$\$, recurrence => 'change');
		SELECT webhook.create_action('change', 'send', '$url', parameters => '{"change": "\${id}"}');
		SELECT webhook.create_workflow('gone', 'visit', 'delete');
		SELECT webhook.create_action('gone', 'send', '$url', parameters => '{"gone": "\${id}"}');
		SELECT webhook.create_workflow('nightly', 'visit', 'schedule', schedule => '1 day');
		SELECT webhook.create_action('nightly', 'send', '$url', parameters => '{"nightly": "\${id}"}');
		SELECT partman.create_parent('public.visit', 'at', 'native', 'daily', p_premake := 1,
			p_start_partition := (current_date - 6)::text);
		INSERT INTO visit SELECT i, current_date - i, 'x' FROM generate_series(-1, 6) i});
	ok(wait_for_delivery($node), 'a partitioned module that pg_partman made the partitions of');
	is(sent(), join(' ', sort map { (qq({"first": $_}), qq({"change": $_})) } -1 .. 6), '... sends');

	# Its own process makes, detaches and drops partitions, while what is of their
	# records waits in the queue.
	$node->append_conf('postgresql.conf', 'webhook.enabled = off');
	$node->reload;
	ok(wait_for_sql($node, q{SELECT bool_and(state = 'disabled') FROM webhook.stat_worker}), 'the worker is off');
	$node->safe_psql('postgres', q{
		UPDATE visit SET t = 'y' WHERE id >= 4; UPDATE visit SET t = 'x' WHERE id >= 4;
		UPDATE partman.part_config SET premake = 4, retention = '5 days', retention_keep_table = true WHERE parent_table = 'public.visit'});
	ok(wait_for_partman(q{to_regclass(format('visit_p%s', to_char(current_date + 4, 'YYYY_MM_DD'))) IS NOT NULL
		AND NOT EXISTS (SELECT FROM visit WHERE id = 6)}), 'pg_partman made and detached partitions');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger t WHERE NOT tgisinternal
		AND tgrelid = to_regclass(format('visit_p%s', to_char(current_date - 6, 'YYYY_MM_DD')))}), '0', '... which have no triggers any more');
	$node->safe_psql('postgres', q{UPDATE partman.part_config SET retention = '3 days', retention_keep_table = false WHERE parent_table = 'public.visit'});
	ok(wait_for_partman(q{to_regclass(format('visit_p%s', to_char(current_date - 4, 'YYYY_MM_DD'))) IS NULL}), '... and dropped some');
	$node->safe_psql('postgres', q{INSERT INTO visit VALUES (100, current_date + 4, 'x'); UPDATE visit SET t = 'z' WHERE id = 100; DELETE FROM visit WHERE id = 100;
		INSERT INTO visit VALUES (101, current_date, 'x'); UPDATE visit SET at = current_date + 3 WHERE id = 101});
	$node->append_conf('postgresql.conf', 'webhook.enabled = on');
	$node->reload;
	ok(wait_for_sql($node, q{SELECT bool_and(state = 'running') FROM webhook.stat_worker}), 'the worker is on');
	ok(wait_for_delivery($node), 'what was queued before, and what was written to a new partition');
	is(sent(), join(' ', sort map({ qq({"change": $_}) } 4, 5, 6, 100, 101), '{"first": 100}', '{"first": 101}', '{"gone": 100}'), '... are sent, and nothing of what was dropped');
	is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('nightly')}), $node->safe_psql('postgres', 'SELECT count(*) FROM visit'), 'a run finds what is there');
	ok(wait_for_delivery($node), '...');
	sent();
	is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.workflow WHERE module = 'visit'::regclass}), '4', 'no workflow went with a partition');
	$node->safe_psql('postgres', q{DELETE FROM partman.part_config; DROP TABLE visit, visit_template CASCADE});
}

# ---------------------------------------------------------------------------
# pgbouncer, in transaction mode
# ---------------------------------------------------------------------------

SKIP:
{
	my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split /:/, $ENV{PATH};
	skip 'pgbouncer is not there', 4 unless $pgbouncer;
	my $port = closed_port();
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/pgbouncer";
	my $socket = PostgreSQL::Test::Utils::tempdir_short();

	mkdir $dir;
	PostgreSQL::Test::Utils::append_to_file("$dir/users.txt", qq{"postgres" ""\n"writer" ""\n});
	PostgreSQL::Test::Utils::append_to_file("$dir/pgbouncer.ini", qq{
[databases]
postgres = host=${\$node->host} port=${\$node->port} dbname=postgres pool_size=2
[pgbouncer]
listen_addr =
unix_socket_dir = $socket
listen_port = $port
auth_type = trust
auth_file = $dir/users.txt
pool_mode = transaction
logfile = $dir/log
pidfile = $dir/pid
});
	$node->safe_psql('postgres', 'CREATE ROLE writer LOGIN; CREATE ROLE admin; GRANT USAGE ON SCHEMA webhook TO admin; GRANT CREATE ON SCHEMA public TO admin');
	$node->append_conf('postgresql.conf', 'webhook.retry_schedule = 1s');
	my $pooler = IPC::Run::start([ $pgbouncer, "$dir/pgbouncer.ini" ], '<', \undef, '>', "$dir/out", '2>&1');
	my $deadline = time + $WebhookTest::patience;
	sleep 0.05 until -S "$socket/.s.PGSQL.$port" || time > $deadline;
	my @psql = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', "host=$socket port=$port dbname=postgres user=postgres");

	sub pooled { return PostgreSQL::Test::Utils::run_command([ @_[ 1 .. $#_ ], '-c', $_[0] ]) }
	my ($made, $problem) = pooled(q{BEGIN; SET LOCAL ROLE admin; CREATE TABLE pooled (id int PRIMARY KEY, t text); SELECT webhook.create_workflow('pooled', 'pooled');
		SELECT webhook.create_action('pooled', 'send', '} . $url . q{', parameters => '{"pooled": "${id}", "t": "${= upper(t)}"}'); GRANT INSERT, UPDATE ON pooled TO writer; COMMIT}, @psql);
	is($problem, '', 'a workflow is made through pgbouncer');

	# More clients than server connections, of which each does as others' did.
	my @clients = map {
		my $client = $_;
		my $script = join '', map { my $id = 100 * $client + $_; "BEGIN; SET LOCAL ROLE writer; INSERT INTO pooled VALUES ($id, 'a'); COMMIT;\n" } 1 .. 20;
		my $lost = "BEGIN; INSERT INTO pooled VALUES (100 * $client + 50, 'lost'); ROLLBACK;\n";

		IPC::Run::start([ @psql ], '<', \($script . $lost), '>', \my $o, '2>', \my $e);
	} 1 .. 5;
	$_->finish for @clients;
	ok(wait_for_delivery($node), 'clients that share sessions');
	is(sent(), join(' ', sort map { my $c = $_; map { my $id = 100 * $c + $_; qq({"pooled": $id, "t": "A"}) } 1 .. 20 } 1 .. 5), '... each delivery once, none of what was rolled back');
	pooled(q{SELECT webhook.alter_action(max(action_id), parameters => '{"other": "${id}"}') FROM webhook.action}, @psql);
	pooled(q{INSERT INTO pooled VALUES (9, 'a')}, @psql);
	pooled(q{SELECT webhook.wait()}, @psql);
	is(sent(), '{"other": 9}', 'all sessions know of a change');
	$pooler->signal('INT');
	$pooler->finish;
}

# ---------------------------------------------------------------------------
# Row security
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE ROLE seller LOGIN; GRANT USAGE ON SCHEMA webhook TO seller; CREATE ROLE clerk LOGIN;
	CREATE TABLE account (id int PRIMARY KEY, tenant text, name text);
	CREATE TABLE bill (id int PRIMARY KEY, tenant text, account_id int REFERENCES account);
	GRANT SELECT, TRIGGER ON account, bill TO seller; GRANT ALL ON account, bill TO clerk;
	INSERT INTO account VALUES (1, 'seller', 'Mine'), (2, 'other', 'Hidden');
	ALTER TABLE account ENABLE ROW LEVEL SECURITY; ALTER TABLE bill ENABLE ROW LEVEL SECURITY;
	CREATE POLICY tenant ON account TO seller USING (tenant = current_user); CREATE POLICY tenant ON bill TO seller USING (tenant = current_user);
	CREATE POLICY everything ON bill TO clerk USING (true); CREATE POLICY everything ON account TO clerk USING (true);
	SET ROLE seller;
	SELECT webhook.create_workflow('bill', 'bill');
	SELECT webhook.create_action('bill', 'send', '$url', parameters => '{"bill": "\${id}", "account": "\${account_id.name}"}', retry_schedule => '{}');
	SELECT webhook.create_workflow('bills', 'bill', 'schedule', schedule => '1 day');
	SELECT webhook.create_action('bills', 'send', '$url', parameters => '{"listed": "\${id}"}')});
my $action = $node->safe_psql('postgres', q{SELECT action_id FROM webhook.action a JOIN webhook.workflow w USING (workflow_id) WHERE name = 'bill'});
$node->safe_psql('postgres', q{SET ROLE clerk; INSERT INTO bill VALUES (1, 'seller', 1), (2, 'seller', 2), (3, 'other', 1)});
ok(wait_for_delivery($node), 'row security');
is(sent(), '{"bill": 1, "account": "Mine"} {"bill": 2, "account": null} {"bill": 3, "account": "Mine"}',
	'the row that was written is sent; of related ones what the workflow\'s owner may see');
$node->safe_psql('postgres', q{SET row_security = off; INSERT INTO bill VALUES (4, 'seller', 1)});
ok(wait_for_delivery($node), 'row_security = off, as dumps set it');
is(sent(), '{"bill": 4, "account": "Mine"}', '... is not the owner\'s affair');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('bill')}), '3', 'a run sees what the owner sees, whoever calls for it');
ok(wait_for_delivery($node), '...');
is(sent(), '{"bill": 1, "account": "Mine"} {"bill": 2, "account": null} {"bill": 4, "account": "Mine"}', '... no more');
is($node->safe_psql('postgres', "SELECT body FROM webhook.preview($action, '2')"), '{"bill": 2, "account": null}', 'so does preview');
my ($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT webhook.preview($action, '3')");
like($stderr, qr/record "3" of table "bill" does not exist/, '... which does not know of what is hidden');
($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT webhook.test($action, '3')");
like($stderr, qr/record "3" of table "bill" does not exist/, '... nor does test');
$node->safe_psql('postgres', q{UPDATE webhook.workflow SET next_run_at = now(), enabled = true WHERE name = 'bills'});
ok(wait_for_sql($node, q{SELECT next_run_at > now() FROM webhook.workflow WHERE name = 'bills'}), 'a schedule');
ok(wait_for_delivery($node), '... has run');
is(sent(), '{"listed": 1} {"listed": 2} {"listed": 4}', '... with the same eyes');

# A table's owner is above its policies, unless he is forced.
$node->safe_psql('postgres', 'ALTER TABLE bill OWNER TO seller');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('bill')}), '4', 'the table\'s owner sees all');
$node->safe_psql('postgres', 'ALTER TABLE bill FORCE ROW LEVEL SECURITY');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('bill')}), '3', '... unless row security is forced');
$node->safe_psql('postgres', 'ALTER TABLE bill DISABLE ROW LEVEL SECURITY');
ok(wait_for_delivery($node), '...');
sent();

# ---------------------------------------------------------------------------
# Logical replication
# ---------------------------------------------------------------------------

my $subscriber = start_cluster('subscriber');
my $tables = q{
	CREATE TABLE item (id int PRIMARY KEY, t text);
	CREATE TABLE moving (id int, at date, t text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE moving_1 PARTITION OF moving FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
	CREATE TABLE moving_2 PARTITION OF moving FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')};
my %at = (publisher => $node, subscriber => $subscriber);
for my $where (keys %at)
{
	$at{$where}->safe_psql('postgres', qq{$tables;
		SELECT webhook.create_workflow('item', 'item');
		SELECT webhook.create_action('item', 'send', '$url', parameters => '{"$where": "\${id}"}');
		SELECT webhook.create_workflow('item first', 'item', recurrence => 'first');
		SELECT webhook.create_action('item first', 'send', '$url', parameters => '{"$where, first": "\${id}"}');
		SELECT webhook.create_workflow('moving', 'moving', 'update');
		SELECT webhook.create_action('moving', 'send', '$url', parameters => '{"$where, moved": "\${id}"}')});
}

# What the subscriber's apply process commits, at an odd moment, wakes the worker
# as well: it doesn't wait until the worker looks by itself, every 30 seconds.
sub wait_for_replication
{
	my $limit = $WebhookTest::patience > 60 ? $WebhookTest::patience : 20;

	$node->wait_for_catchup('sub');
	is($_->safe_psql('postgres', "SELECT webhook.wait('$limit s')"), 't', 'delivered') for $node, $subscriber;
	return;
}

$node->safe_psql('postgres', q{INSERT INTO item VALUES (1, 'before'); CREATE PUBLICATION pub FOR TABLE item, moving});
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($node, 'sub');
$node->safe_psql('postgres', q{INSERT INTO item VALUES (2, 'after'); UPDATE item SET t = 'x'; INSERT INTO moving VALUES (1, '2026-01-01'); UPDATE moving SET at = '2026-02-02'});
wait_for_replication();
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM item JOIN moving ON true'), '2', 'a subscriber has the rows');
is(sent(), '{"publisher": 1} {"publisher": 1} {"publisher": 2} {"publisher": 2} {"publisher, first": 1} {"publisher, first": 2} {"publisher, moved": 1}', 'only the publisher sends');
$subscriber->safe_psql('postgres', q{INSERT INTO item VALUES (1000, 'own')});
ok(wait_for_delivery($subscriber), 'what is written on the subscriber');
is(sent(), '{"subscriber": 1000} {"subscriber, first": 1000}', '... is the subscriber\'s');

# As ALTER TABLE says.
my $always = q{
	SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger
	WHERE tgrelid IN ('item'::regclass, 'moving'::regclass) AND tgfoid IN ('webhook.enqueue'::regproc, 'webhook.forget'::regproc) \gexec
};
$subscriber->safe_psql('postgres', $always);
$node->safe_psql('postgres', q{INSERT INTO item VALUES (3, 'always'); UPDATE item SET t = 'y' WHERE id = 3; UPDATE moving SET at = '2026-01-02'});
wait_for_replication();
# Of a move between partitions replication makes a delete and an insert.
is(sent(), '{"publisher": 3} {"publisher": 3} {"publisher, first": 3} {"publisher, moved": 1} {"subscriber": 3} {"subscriber": 3} {"subscriber, first": 3}', 'triggers that fire always do so on a subscriber');
$subscriber->safe_psql('postgres', q{SELECT webhook.enable_workflow('item', false), webhook.enable_workflow('item first', false), webhook.enable_workflow('moving', false)});
$node->safe_psql('postgres', q{INSERT INTO item VALUES (4, 'disabled'); UPDATE moving SET at = '2026-02-02'});
wait_for_replication();
is(sent(), '{"publisher": 4} {"publisher, first": 4} {"publisher, moved": 1}', '... unless the workflow is disabled');
$subscriber->safe_psql('postgres', q{SELECT webhook.enable_workflow('item'), webhook.enable_workflow('item first'), webhook.alter_workflow('item', condition => 'id > 0'), webhook.alter_workflow('item first', condition => 'id > 0')});
$node->safe_psql('postgres', q{INSERT INTO item VALUES (5, 'again')});
wait_for_replication();
is(sent(), '{"publisher": 5} {"publisher, first": 5} {"subscriber": 5} {"subscriber, first": 5}', '... and go on doing so after a change of it');

# A configuration that comes by replication is noticed by the sessions that know
# another one.
my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timeout($WebhookTest::patience);
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $subscriber->connstr('postgres') ],
	'<', \$in, '>', \$out, '2>', \$err, $timer);

sub in_session
{
	my ($sql) = @_;

	$out = '';
	$in = "$sql;\n\\echo done\n";
	$timer->start($WebhookTest::patience);
	$session->pump until $out =~ /^done$/m;
	return;
}

in_session(q{INSERT INTO item VALUES (1001, 'own')});
ok(wait_for_delivery($subscriber), 'a session of the subscriber');
is(sent(), '{"subscriber": 1001} {"subscriber, first": 1001}', '... that sends');
$node->safe_psql('postgres', q{UPDATE webhook.action SET title = 'renamed' WHERE title = 'send'; CREATE PUBLICATION configuration FOR TABLE webhook.action});
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub2 CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION configuration WITH (copy_data = false)");
my $id = $subscriber->safe_psql('postgres', q{SELECT min(action_id) FROM webhook.action});
$node->safe_psql('postgres', qq{UPDATE webhook.action SET enabled = NOT enabled WHERE action_id = $id; UPDATE webhook.action SET enabled = false WHERE action_id = $id});
$node->wait_for_catchup('sub2');
in_session(q{INSERT INTO item VALUES (1002, 'own')});
ok(wait_for_delivery($subscriber), 'another configuration');
is(sent(), '{"subscriber, first": 1002}', '... is known to it');
$in = "\\q\n";
$timer->start($WebhookTest::patience);
$session->finish;
$node->safe_psql('postgres', qq{UPDATE webhook.action SET enabled = true WHERE action_id = $id; DROP PUBLICATION configuration});
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub2; SELECT webhook.drop_workflow(name) FROM webhook.workflow');

# Sessions that act as replicas.
my $replica = q{SET session_replication_role = replica; };
$node->safe_psql('postgres', $replica . q{INSERT INTO item VALUES (2000, 'x'); UPDATE item SET t = 'r'; DELETE FROM item WHERE id = 2000; UPDATE moving SET at = '2026-01-02'});
$node->safe_psql('postgres', q{SET session_replication_role = local; INSERT INTO item VALUES (2001, 'x')});
ok(wait_for_delivery($node), 'session_replication_role');
is(sent(), '{"publisher": 2001} {"publisher, first": 2001}', '... is obeyed');
$node->safe_psql('postgres', 'ALTER TABLE moving ENABLE REPLICA TRIGGER webhook_moving_move_delete; ALTER TABLE moving ENABLE ALWAYS TRIGGER webhook_moving_move_insert; ALTER TABLE moving ENABLE REPLICA TRIGGER webhook_moving_update');
$node->safe_psql('postgres', q{UPDATE moving SET at = '2026-02-02'});
$node->safe_psql('postgres', $replica . q{UPDATE moving SET at = '2026-01-02'});
ok(wait_for_delivery($node), 'a move between partitions');
is(sent(), '{"publisher, moved": 1}', '... obeys it as well');
is($node->safe_psql('postgres', $replica . qq{
	SELECT webhook.alter_action(a.action_id, parameters => '{"changed": "\${id}"}') FROM webhook.action a JOIN webhook.workflow w USING (workflow_id) WHERE w.name = 'item'}), '', 'configured as a replica');
$node->safe_psql('postgres', q{UPDATE item SET t = 'c' WHERE id = 1});
ok(wait_for_delivery($node), '...');
is(sent(), '{"changed": 1}', '... everybody knows');
$node->safe_psql('postgres', $replica . 'DROP TABLE moving');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.workflow WHERE name = 'moving'}), '0', 'a module that is dropped by a replica takes its workflows along');

# The log itself is published: to an archive, and to a copy of everything.
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
$subscriber->safe_psql('postgres', q{
	DROP EXTENSION webhook CASCADE; CREATE SCHEMA webhook;
	CREATE TABLE webhook.webhook_log (log_id bigint PRIMARY KEY, webhook_id uuid, record_id text, record jsonb, status text, attempts int, retry_at timestamptz);
	CREATE TABLE webhook.webhook_attempt (log_id bigint, attempt int, http_status int, request_body text, PRIMARY KEY (log_id, attempt))});
$node->safe_psql('postgres', q{CREATE PUBLICATION log FOR TABLE webhook.webhook_log (log_id, webhook_id, record_id, record, status, attempts, retry_at), webhook.webhook_attempt (log_id, attempt, http_status, request_body)});
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION log");
$subscriber->wait_for_subscription_sync($node, 'sub');
$node->safe_psql('postgres', q{INSERT INTO item SELECT i, 'archived' FROM generate_series(3001, 3050) i});
ok(wait_for_delivery($node), 'deliveries');
$node->wait_for_catchup('sub');
my $told = q{SELECT count(*) || ' ' || count(*) FILTER (WHERE l.status::text = 'Success' AND l.retry_at IS NULL AND a.http_status = 200) FROM webhook.webhook_log l JOIN webhook.webhook_attempt a USING (log_id) WHERE l.record->>'t' = 'archived'};
is($subscriber->safe_psql('postgres', $told), '100 100', 'a subscriber to the log has them with their attempts');
sent();
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub; DROP SCHEMA webhook CASCADE; DROP TABLE item, moving');

# Moving to another server: the schema by a dump, everything else by replication.
$node->safe_psql('postgres', q{DROP PUBLICATION log; DROP PUBLICATION pub; CREATE PUBLICATION everything FOR ALL TABLES});
$node->safe_psql('postgres', join '; ', map { "DROP EXTENSION $_ CASCADE" } @others);
$node->command_ok([ 'bash', '-c', '{ pg_dumpall --globals-only -d "$0"; pg_dump --schema-only -d "$0"; } | psql -XqAt -d "$1"', $node->connstr('postgres'), $subscriber->connstr('postgres') ], 'a copy is made');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($node, 'sub');
$node->safe_psql('postgres', q{INSERT INTO item SELECT i, 'copied' FROM generate_series(4001, 4010) i});
ok(wait_for_delivery($node), 'deliveries');
is(sent() =~ tr/{/{/, 20, '... are sent by the publisher');
$node->wait_for_catchup('sub');
ok(wait_for_sql($subscriber, q{SELECT state = 'paused: copy' FROM webhook.stat_worker}), 'the copy is silent');
$node->stop;
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub; SELECT webhook.resume()');
$subscriber->safe_psql('postgres', q{INSERT INTO item VALUES (5001, 'now'); UPDATE item SET t = 'now' WHERE id = 4001});
ok(wait_for_delivery($subscriber), 'it takes over');
is(sent(), '{"changed": 4001} {"changed": 5001} {"publisher, first": 5001}', '... and knows what was sent');

$receiver->stop;
$subscriber->stop;
done_testing();
