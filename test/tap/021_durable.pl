# Nothing is sent that a crash or a failover could still undo.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $node = start_cluster('durable',
	init => { allows_streaming => 1 },
	conf => "wal_writer_delay = '10s'\nwal_writer_flush_after = '1GB'\nrestart_after_crash = on\nsynchronous_commit = local\nfsync = on");
my $receiver = start_receiver();

$node->safe_psql('postgres', q{
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '} . $receiver->url('/event') . q{',
		parameters => '{"id": "${id}"}')});

sub sent
{
	my %sent = map { $_->{body} =~ /([0-9]+)/ => 1 } $receiver->requests('/event');

	return sort { $a <=> $b } keys %sent;
}

# With synchronous_commit off a commit can be seen before it is on the disk.
for my $id (1 .. 3)
{
	my $walwriter = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	my $worker = worker_pid($node);

	# Asleep, or else it may hold a lock that everybody needs.
	wait_for_delivery($node);
	wait_for_sql($node, qq{SELECT wait_event = 'WalWriterMain' FROM pg_stat_activity WHERE pid = $walwriter});
	kill 'STOP', $walwriter;
	$node->safe_psql('postgres', "SET synchronous_commit = off; INSERT INTO event VALUES ($id)");
	ok($receiver->wait_for($id), "event $id is sent");
	kill 'KILL', $walwriter;
	worker_pid($node, $worker);
}
my %there = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT id FROM event');
is(join(' ', grep { !$there{$_} } sent()), '', 'what was sent is there after the crash');
ok(wait_for_delivery($node), 'delivered');

# A commit can be seen before it is on the standby, if the wait is canceled.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_retrieve_retry_interval = '100ms'");
$standby->start;
set_conf($node, q{synchronous_standby_names = '*'
synchronous_commit = on});
$node->safe_psql('postgres', 'INSERT INTO event VALUES (10)');
ok(wait_for_delivery($node), 'a standby that follows holds nothing up');
is((sent())[-1], 10, 'sent');
$standby->stop;

my ($in, $out, $err) = ('', '', '');
my $writer = IPC::Run::start(
	[ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', 'INSERT INTO event VALUES (11)' ],
	'<', \$in, '>', \$out, '2>', \$err);
ok(wait_for_sql($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}),
	'a writer waits for the standby');
$node->safe_psql('postgres', q{
	WITH waiting AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep')
	SELECT pg_cancel_backend(pid) FROM waiting});
$writer->finish;
like($err, qr/canceling wait for synchronous replication/, 'and is told that the event is only here');
ok(wait_for_sql($node, 'SELECT count(*) = 1 FROM event WHERE id = 11'), 'where all can see it');
my $said = eval { $node->wait_for_log(qr/webhooks wait for a synchronous standby/); 1 };
ok($said, 'webhooks wait, and the server log says so');
is((sent())[-1], 10, 'it is not sent');
is($node->safe_psql('postgres', q{SELECT status FROM webhook.webhook_log WHERE record_id = '11'}), 'Dispatched', 'only claimed');
$standby->start;
ok(wait_for_delivery($node), 'delivered, once the standby has it');
is((sent())[-1], 11, 'sent');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM event WHERE id = 11'), '1', 'and the standby has it');

# Without synchronous standbys there is nothing to wait for.
$standby->stop;
set_conf($node, q{synchronous_standby_names = ''});
$node->safe_psql('postgres', 'INSERT INTO event VALUES (12)');
ok(wait_for_delivery($node), 'nothing waits for a standby that need not follow');
is((sent())[-1], 12, 'sent');

# Every writer flushes its own commit, and the worker nothing of what others have written since, lest writers queue
# behind it.
my $flushes = $node->safe_psql('postgres', q{SELECT current_setting('server_version_num')::int >= 180000}) eq 't'
	? q{SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'}
	: q{SELECT wal_sync FROM pg_stat_wal};
$node->safe_psql('postgres', 'CREATE TABLE noise (i int)');
my $noise = IPC::Run::start(
	[ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', 'DO $$BEGIN LOOP INSERT INTO noise VALUES (1); END LOOP; END$$' ],
	'<', \'', '>', '/dev/null', '2>', '/dev/null');
ok(wait_for_sql($node, q{SELECT pg_relation_size('noise') > 0}), 'somebody writes, and does not commit');
my $before = $node->safe_psql('postgres', $flushes);
$node->safe_psql('postgres', join(' ', map { "INSERT INTO event VALUES ($_); SELECT webhook.wait();" } 100 .. 199));
my $teller = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($teller)");
worker_pid($node, $teller);
my $made = $node->safe_psql('postgres', $flushes) - $before;
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^DO'});
$noise->finish;
cmp_ok($made, '>=', 100, 'each of a hundred commits is flushed');
cmp_ok($made, '<', 150, 'and by its writer only');

$node->stop;
done_testing();
