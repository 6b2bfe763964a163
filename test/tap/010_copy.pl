# A copy of a database sends nothing that it inherited until it is told to:
# a template, a dump in all its forms, another cluster; a promoted standby does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use WebhookTest;

my $receiver = start_receiver();
my $node = start_cluster('origin', init => { allows_streaming => 1 }, conf => 'max_worker_processes = 20');
my $ok = $receiver->url('/ok');
my $dir = $PostgreSQL::Test::Utils::tmp_check;

$node->safe_psql('postgres', qq{
	CREATE ROLE clerk; CREATE ROLE owner;
	CREATE TABLE event (id int PRIMARY KEY, n int);
	CREATE SCHEMA crm; CREATE TABLE crm.person (id int PRIMARY KEY, name text); CREATE TABLE crm.deal (id int PRIMARY KEY, person_id int REFERENCES crm.person);
	GRANT USAGE ON SCHEMA webhook TO owner; GRANT SELECT, TRIGGER ON event TO owner;
	INSERT INTO webhook.admin VALUES ('root\@example.com');
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '$ok', username => 'u', password => 'p', signing_secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
	SELECT webhook.create_workflow('first', 'crm.deal', recurrence => 'first');
	SELECT webhook.create_action('first', 'send', '$ok', parameters => '{"name": "\${person_id.name}", "x": "\${= id + 1}"}');
	SELECT webhook.create_workflow('daily', 'event', 'schedule', schedule => '1 day');
	SELECT webhook.create_workflow('weekly', 'crm.deal', 'schedule', schedule => '1 week', owner_email => '\${person_id.name}\@example.com');
	SELECT webhook.create_action('weekly', 'send', '$ok', parameters => '{"name": "\${person_id.name}"}');
	CREATE TABLE crm.visit (person_id int REFERENCES crm.person);
	SELECT webhook.create_workflow('visits', 'crm.visit', 'schedule', schedule => '1 week');
	SELECT webhook.create_action('visits', 'send', '$ok', parameters => '{"name": "\${person_id.name}"}');
	SELECT webhook.create_workflow('told', 'crm.deal', owner_email => '\${person_id.name}\@example.com');
	SET ROLE owner; SELECT webhook.create_workflow('mine', 'event', 'delete'); RESET ROLE;
	INSERT INTO event SELECT generate_series(1, 10);
	INSERT INTO crm.person VALUES (1, 'Ann'); INSERT INTO crm.deal VALUES (1, 1)});
ok(wait_for_delivery($node), 'the original sends');
is($receiver->count, 11, 'all');
is($node->safe_psql('postgres', 'SELECT webhook.resume()'), '', 'nothing to resume in the original');

# Some that wait: disabled, and so in the queue; one of them under way.
$node->append_conf('postgresql.conf', 'webhook.enabled = off');
$node->reload;
ok(wait_for_sql($node, q{SELECT state = 'disabled' FROM webhook.stat_worker}), 'switched off');
$node->safe_psql('postgres', q{INSERT INTO event SELECT generate_series(101, 110); UPDATE webhook.webhook_log SET status = 'Dispatched', worker = 0 WHERE record_id = '101'});
my $queue = q{SELECT string_agg(record_id || ' ' || status, ', ' ORDER BY log_id) FROM webhook.webhook_log WHERE retry_at IS NOT NULL};
my $queued = $node->safe_psql('postgres', $queue);
$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', "$dir/plain.sql", 'postgres' ], 'pg_dump');
$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '--inserts', '-f', "$dir/inserts.sql", 'postgres' ], 'pg_dump --inserts');
$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-Fc', '-f', "$dir/custom.dump", 'postgres' ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dumpall', '-p', $node->port, '-h', $node->host, '-f', "$dir/all.sql" ], 'pg_dumpall');
$node->backup('standby');
$node->safe_psql('postgres', q{CREATE DATABASE copy TEMPLATE postgres});
$node->append_conf('postgresql.conf', 'webhook.enabled = on');
$node->reload;

sub check_copy
{
	my ($copy, $database, $what) = @_;

	ok(wait_for_sql($copy, qq{SELECT state = 'paused: copy' FROM webhook.stat_worker WHERE database = '$database'}), "$what: paused");
	is($copy->safe_psql($database, $queue), $queued, "$what: the queue is there, untouched");
	is($copy->safe_psql($database, q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NULL}), 0, "$what: without the history") if $what =~ /dump/;
	is($copy->safe_psql($database, q{SELECT string_agg(name || ' ' || owner, ', ' ORDER BY name) FROM webhook.workflow}),
		$node->safe_psql('postgres', q{SELECT string_agg(name || ' ' || owner, ', ' ORDER BY name) FROM webhook.workflow}), "$what: workflows and owners");
	is($copy->safe_psql($database, 'SELECT webhook.export()'), $node->safe_psql('postgres', 'SELECT webhook.export()'), "$what: the same configuration");
	is($copy->safe_psql($database, q{SELECT password, signing_secret IS NOT NULL, (SELECT email FROM webhook.admin), (SELECT record_id FROM webhook.seen) FROM webhook.action_secret WHERE action_id = 1}),
		'p|t|root@example.com|1', "$what: secrets, admins, first-time records");
	# New events of the copy wait, too; ids go on.
	$copy->safe_psql($database, q{INSERT INTO event VALUES (999); INSERT INTO crm.deal VALUES (2, 1); UPDATE crm.deal SET person_id = 1});
	is($copy->safe_psql($database, q{SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL AND log_id > (SELECT max(log_id) FROM webhook.webhook_log WHERE record_id = '110')}), 2, "$what: the triggers work, log_ids go on");
	is($copy->safe_psql($database, q{SELECT computed->>'person_id.name' FROM webhook.webhook_log WHERE module = 'crm.deal'::regclass AND record_id = '2'}), 'Ann', "$what: related values, too");
	is($copy->safe_psql($database, q{SELECT status FROM webhook.health() WHERE detail LIKE '%copy%' OR hint LIKE '%resume%'}), 'critical', "$what: health says so");
	is($copy->safe_psql($database, q{SELECT webhook.create_workflow('new', 'event', 'delete') > 0}), 't', "$what: a new workflow");
	is($copy->safe_psql($database, q{SELECT webhook.wait('300 ms')}), 'f', "$what: does not end the pause");
	return;
}

sub sent_by { my ($since) = @_; return $receiver->count - $since; }

ok(wait_for_delivery($node), 'the original goes on');
my $count = $receiver->count;
is($count, 21, 'with what waited');
check_copy($node, 'copy', 'template');
for my $case ([ 'plain', [ 'psql', '-q', '-X', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql" ] ],
	[ 'inserts', [ 'psql', '-q', '-X', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/inserts.sql" ] ],
	[ 'parallel', [ 'pg_restore', '-j', '3', "$dir/custom.dump" ] ],
	[ 'serial', [ 'pg_restore', '--disable-triggers', "$dir/custom.dump" ] ])
{
	my ($name, $command) = @$case;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->command_ok([ @$command, '-p', $node->port, '-h', $node->host, '-d', $name ], "restore of a $name dump");
	check_copy($node, $name, "$name dump");
}
is($receiver->count, $count, 'no copy has sent anything');

# What is there is taken down piece by piece, and comes back.
$node->command_ok([ 'pg_restore', '--clean', '--if-exists', '--single-transaction', "$dir/custom.dump", '-p', $node->port, '-h', $node->host, '-d', 'serial' ], 'pg_restore --clean');
check_copy($node, 'serial', 'clean dump');

# resume: for superusers
isnt($node->psql('copy', 'SET ROLE owner; SELECT webhook.resume()'), 0, 'not everybody can resume');
$node->safe_psql('copy', 'SELECT webhook.resume()');
ok(wait_for_sql($node, q{SELECT state = 'running' FROM webhook.stat_worker WHERE database = 'copy'}), 'the copy resumes');
ok($node->poll_query_until('copy', q{SELECT count(*) = 0 FROM webhook.webhook_log WHERE retry_at IS NOT NULL}), 'and sends');
is(sent_by($count), 12, 'what it inherited, under way or not, and its own');
$count = $receiver->count;
$node->safe_psql('plain', 'SELECT webhook.resume(true)');
ok(wait_for_sql($node, q{SELECT state = 'running' FROM webhook.stat_worker WHERE database = 'plain'}), 'another resumes without its queue');
is($node->safe_psql('plain', q{SELECT DISTINCT status, error FROM webhook.webhook_log}), 'Failed|discarded: it was inherited from the database that this one is a copy of, or queued before webhook.resume', 'which is discarded');
$node->safe_psql('plain', 'INSERT INTO event VALUES (1001)');
ok($node->poll_query_until('plain', q{SELECT count(*) = 1 FROM webhook.webhook_log WHERE status = 'Success'}), 'new events are sent');
is(sent_by($count), 1, 'and nothing else');
like($node->safe_psql('plain', q{SELECT webhook.resume(true); SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}), qr/1$/, 'once resumed, resume changes nothing');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/paused: this database is a copy.*\n.*\n.*HINT:.*webhook\.resume/, 'the server log says what to do');

# The same name and place again: drop and restore.
$count = $receiver->count;
$node->safe_psql('copy', 'DROP TABLE event, crm.visit, crm.deal, crm.person; DROP SCHEMA crm; DROP EXTENSION webhook CASCADE');
$node->command_ok([ 'psql', '-q', '-X', '-v', 'ON_ERROR_STOP=1', '-p', $node->port, '-h', $node->host, '-d', 'copy', '-f', "$dir/plain.sql" ], 'a restore in place');
ok(wait_for_sql($node, q{SELECT state = 'paused: copy' FROM webhook.stat_worker WHERE database = 'copy'}), 'is a copy');

# Another cluster: everything restored there.
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->append_conf('postgresql.conf', "shared_preload_libraries = 'webhook'\nwebhook.allowed_networks = '127.0.0.0/8'\nfsync = off\nmax_worker_processes = 20\n");
$other->start;
$other->command_ok([ 'psql', '-q', '-X', '-p', $other->port, '-h', $other->host, '-d', 'postgres', '-f', "$dir/all.sql" ], 'pg_dumpall restored');
check_copy($other, 'postgres', 'pg_dumpall dump');
$other->stop;

# pg_upgrade makes a cluster with another system identifier.
my $new = PostgreSQL::Test::Cluster->new('upgraded');
$new->init;
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'webhook'\nwebhook.allowed_networks = '127.0.0.0/8'\nfsync = off\nmax_worker_processes = 20\n");
$node->safe_psql('postgres', "DROP DATABASE $_") for qw(copy inserts parallel serial plain);
$node->append_conf('postgresql.conf', 'webhook.enabled = off');
$node->reload;
ok(wait_for_sql($node, q{SELECT state = 'disabled' FROM webhook.stat_worker}), 'switched off');
$node->safe_psql('postgres', q{INSERT INTO event SELECT generate_series(201, 205)});
$queued = $node->safe_psql('postgres', $queue);
my $history = $node->safe_psql('postgres', 'SELECT count(*) FROM webhook.webhook_log');
my $bin = $node->config_data('--bindir');
$node->stop;
chdir $dir;
PostgreSQL::Test::Utils::command_ok([ 'pg_upgrade', '-b', $bin, '-B', $bin, '-d', $node->data_dir, '-D', $new->data_dir,
	'-p', $node->port, '-P', $new->port, '-s', $node->host, '--no-sync' ], 'pg_upgrade');
$new->start;
ok(wait_for_sql($new, q{SELECT state = 'paused: copy' FROM webhook.stat_worker WHERE database = 'postgres'}), 'an upgraded cluster is paused');
is($new->safe_psql('postgres', $queue), $queued, 'with its queue');
is($new->safe_psql('postgres', 'SELECT count(*) FROM webhook.webhook_log'), $history, 'and its history');
$count = $receiver->count;
$new->safe_psql('postgres', 'SELECT webhook.resume()');
ok(wait_for_delivery($new), 'and goes on when told to');
is(sent_by($count), 5, 'with what waited');
$new->stop;

# A standby that is promoted goes on by itself.
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'standby');
$standby->append_conf('postgresql.conf', "webhook.enabled = on\n");
$standby->set_standby_mode();
$count = $receiver->count;
$standby->start;
$standby->promote;
ok(wait_for_delivery($standby), 'a promoted standby sends');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}), 21, 'what waited');
is(sent_by($count), 10, 'by itself');
$standby->stop;
done_testing();
