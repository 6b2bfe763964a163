# Many of something: databases, actions, receivers that hang.  What is counted here
# must not grow with them, or come after a minute.

use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $n_databases = 12;
my $n_actions = 300;

my $node = start_cluster('many', conf => qq{
max_worker_processes = 30
webhook.timeout = '40s'
});
my $receiver = start_receiver(terse => 1);
my $ok = $receiver->url('/ok');

sub sql { return $node->safe_psql('postgres', shift) }

# The launcher starts a few at a time, and the next ones when these have looked
# around, not when it looks for new databases.
sql("CREATE DATABASE many_$_") for 2 .. $n_databases;
$node->safe_psql("many_$_", 'CREATE EXTENSION webhook') for 2 .. $n_databases;
$node->restart;
my $started_at = time;
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.stat_worker WHERE state = 'running'}, $n_databases),
	'each of many databases has a worker after a restart');
cmp_ok(time - $started_at, '<', 30, '... soon');

# Of more actions than a commit can tell of one by one none waits; and an action
# is read anew when it has something to send and the configuration has changed,
# not whenever there is much to tell of, or an other one was changed.
sql(qq{CREATE TABLE event (id int PRIMARY KEY);
	CREATE TABLE single (id int PRIMARY KEY);
	SELECT webhook.create_workflow('singles', 'single');
	SELECT webhook.create_action('singles', 'send', '$ok');
	SELECT count(webhook.create_workflow('events ' || i, 'event')) FROM generate_series(1, $n_actions / 3) i;
	SELECT count(webhook.create_action('events ' || i, 'send ' || j, '$ok')) FROM generate_series(1, $n_actions / 3) i, generate_series(1, 3) j});

# The worker's counters come with a later turn.
my $n_sent = 0;
my $n_ticks = 0;
sub count_reads
{
	my $wanted = $n_sent;
	my $deadline = time + 60;

	while (sql(q{SELECT n_tup_ins FROM pg_stat_user_tables WHERE relid = 'webhook.webhook_attempt'::regclass}) < $wanted && time < $deadline)
	{
		sql('INSERT INTO single VALUES (1000 + ' . $n_ticks++ . ')');
		$n_sent++;
		sleep 0.5;
	}
	return sql(q{SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relid = 'webhook.action'::regclass});
}

sub send_all
{
	my ($table, $id, $n) = @_;

	sql("INSERT INTO $table VALUES ($id)");
	$n_sent += $n;
	ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}, $n_sent), "$table $id is sent by every action");
	return count_reads();
}

my $before = sql(q{SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relid = 'webhook.action'::regclass});
my $first = send_all('event', 1, $n_actions);
cmp_ok($first - $before, '>=', $n_actions, 'each action is read');

# What was not used for a minute is read anew, which a slow machine may meet once.
sub few_reads
{
	my ($most, $send) = @_;
	my $n;

	for (1 .. 3)
	{
		my $read = count_reads();

		$n = $send->($_) - $read;
		last if $n < $most;
	}
	return $n;
}
my $few = $n_actions / 3 + 50;
cmp_ok(few_reads($few, sub { send_all('event', 1 + $_[0], $n_actions) }), '<', $few, '... and for the next event by the session only, by workflow');
$few = 50;
cmp_ok(few_reads($few, sub {
			sql(qq{SELECT webhook.alter_action(min(action_id), title => 'other $_[0]') FROM webhook.action});
			return send_all('single', $_[0], 1);
		}), '<', $few, '... nor when another one has changed');

# Many that hang, with more due than is claimed ahead: a receiver at work has room.
my $hanging = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 512) or die $!;
my $hung = 'http://127.0.0.1:' . $hanging->sockport . '/';
sql(qq{CREATE TABLE hung (id int PRIMARY KEY);
	SELECT count(webhook.create_workflow('hung ' || i, 'hung')) FROM generate_series(1, 800) i;
	SELECT count(webhook.create_action('hung ' || i, 'send ' || j, '$hung')) FROM generate_series(1, 800) i, generate_series(1, 3) j});
send_all('single', 900, 1);
sql('INSERT INTO hung SELECT generate_series(1, 2)');
ok(wait_for_sql($node, q{SELECT count(*) > 50 FROM webhook.webhook_log WHERE status = 'Dispatched'}), 'many receivers hang');
$started_at = time;
for my $i (3 .. 12)
{
	sql("INSERT INTO single VALUES ($i)");
	$n_sent++;
}
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}, $n_sent), 'another one is sent what is queued');
cmp_ok(time - $started_at, '<', 20, '... before they have timed out');

$receiver->stop;
$node->stop;
done_testing();
