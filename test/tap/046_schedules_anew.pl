# What is planned stays right: when the clock is turned back, when webhook.timezone
# changes, with and without the server, and while a run is under way.  Many runs
# that are due at the same moment follow each other closely; one that comes to
# nothing is not begun over and over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $node = PostgreSQL::Test::Cluster->new('schedules_anew');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'webhook'
webhook.timezone = 'Europe/Berlin'
max_worker_processes = 12
fsync = off
});
start_with_clock($node, 3600);

sub sql { return $node->safe_psql('postgres', shift) }

sub create
{
	my ($name, $schedule, $condition) = @_;

	return sql(qq{SELECT webhook.create_workflow('$name', 'task', 'schedule', '$condition', schedule => '$schedule');
		SELECT webhook.create_action('$name', 'send', 'http://127.0.0.1:1/'); SELECT webhook.enable_action(action_id, false) FROM webhook.action});
}

sub is_planned
{
	my ($name, $expected, $what) = @_;

	return ok(wait_for_sql($node, "SELECT next_run_at = $expected FROM webhook.workflow WHERE name = '$name'"), $what);
}

sub set
{
	my ($setting) = @_;

	sql("ALTER SYSTEM SET $setting");
	$node->reload;
	return;
}

sql(q{CREATE EXTENSION webhook; CREATE TABLE task (id int PRIMARY KEY); INSERT INTO task VALUES (1)});
create('minutely', '* * * * *', 'true');
create('interval', '10 minutes', 'true');
create('daily', '0 9 * * *', 'true');
create('monthly', '1 month', 'true');

# The clock is turned back by an hour.
my $pid = worker_pid($node);
my $monthly = sql(q{SELECT next_run_at FROM webhook.workflow WHERE name = 'monthly'});
set_clock(0);
$node->reload;
isnt(worker_pid($node, $pid), $pid, 'another worker');
ok(wait_for_sql($node, q{SELECT bool_and(next_run_at <= now() + interval '10 min') FROM webhook.workflow WHERE name IN ('minutely', 'interval')}),
	'what was planned by the clock as it was is planned by the clock as it is');
ok(wait_for_sql($node, qq{SELECT next_run_at BETWEEN '$monthly'::timestamptz - interval '61 min' AND '$monthly'::timestamptz - interval '59 min' FROM webhook.workflow WHERE name = 'monthly'}),
	'a month is no longer than it was');
sql(q{SELECT webhook.drop_workflow('minutely'), webhook.drop_workflow('interval')});

# Another zone, by a reload, and by a restart
my $before = sql(q{SELECT next_run_at FROM webhook.workflow WHERE name = 'monthly'});
set(q{webhook.timezone = 'Asia/Kolkata'});
is_planned('daily', q{webhook.next_run('0 9 * * *', now(), 'Asia/Kolkata')}, 'a reload');
is(sql(q{SELECT next_run_at FROM webhook.workflow WHERE name = 'monthly'}), $before, 'an interval stays');
sql(q{ALTER SYSTEM SET webhook.timezone = 'America/New_York'});
$node->stop;
start_with_clock($node, 0);
is_planned('daily', q{webhook.next_run('0 9 * * *', now(), 'America/New_York')}, 'a restart');

# What is due is not forgotten over it.
set('webhook.enabled = off');
ok(wait_for_sql($node, q{SELECT bool_and(state = 'disabled') FROM webhook.stat_worker}), 'switched off');
sql(q{UPDATE webhook.workflow SET next_run_at = now() - interval '1 h' WHERE name = 'daily'; SELECT webhook.enable_action(action_id) FROM webhook.action});
set(q{webhook.timezone = 'Asia/Tokyo'});
ok(wait_for_sql($node, q{SELECT setting = 'Asia/Tokyo' FROM pg_settings WHERE name = 'webhook.timezone'}), 'another zone meanwhile');
set('webhook.enabled = on');
is_planned('daily', q{webhook.next_run('0 9 * * *', now(), 'Asia/Tokyo')}, 'on again');
is(sql('SELECT count(*) FROM webhook.webhook_log'), '1', 'what was due has run');
sql(q{SELECT webhook.enable_action(action_id, false) FROM webhook.action});

# A driver's own time zone is not the server's.
set(q{webhook.timezone = ''});
set(q{timezone = 'Asia/Tokyo'});
is_planned('daily', q{webhook.next_run('0 9 * * *', now(), 'Asia/Tokyo')}, 'the server\'s zone');
{
	local $ENV{PGTZ} = 'America/New_York';

	is(sql(q{SHOW timezone}), 'America/New_York', 'a session has another one from the start');
	is(sql(q{SELECT webhook.next_run('0 9 * * *') = webhook.next_run('0 9 * * *', now(), 'Asia/Tokyo')}), 't', 'which schedules don\'t go by');
	create('driver', '0 9 * * *', 'true');
	is(sql(q{SELECT next_run_at = webhook.next_run('0 9 * * *', now(), 'Asia/Tokyo') FROM webhook.workflow WHERE name = 'driver'}), 't', 'nor does a workflow that it makes');
	sql(q{SELECT webhook.drop_workflow('driver')});
}

# While a workflow is held by somebody: others are planned, and run, and it is not
# forgotten.
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN; SELECT webhook.alter_workflow('daily', description => 'held')});
create('often', '0 10 * * *', 'true');
set(q{webhook.timezone = 'UTC'});
is_planned('often', q{webhook.next_run('0 10 * * *', now(), 'UTC')}, 'another one is planned');
isnt(sql(q{SELECT next_run_at FROM webhook.workflow WHERE name = 'daily'}), sql(q{SELECT webhook.next_run('0 9 * * *', now(), 'UTC')}), 'not the one that is held');
sql(q{UPDATE webhook.workflow SET next_run_at = now() - interval '1 s' WHERE name = 'often'});
$node->reload;
is_planned('often', q{webhook.next_run('0 10 * * *', now(), 'UTC')}, 'another one runs');
$holder->query_safe('COMMIT');
$holder->quit;
$node->reload;
is_planned('daily', q{webhook.next_run('0 9 * * *', now(), 'UTC')}, 'it is, once it is free');
unlike(slurp_file($node->logfile), qr/webhook worker.*canceling statement/, 'and nothing was waited for');

# Many at once
sql(q{SELECT webhook.drop_workflow(name) FROM webhook.workflow;
	SELECT webhook.create_workflow('w' || i, 'task', 'schedule', schedule => '1 day') FROM generate_series(1, 40) i;
	SELECT webhook.create_action('w' || i, 'send', 'http://127.0.0.1:1/') FROM generate_series(1, 40) i;
	SELECT webhook.enable_action(action_id, false) FROM webhook.action;
	UPDATE webhook.workflow SET next_run_at = now() - interval '1 s'});
my $start = time;
$node->reload;
ok(wait_for_sql($node, 'SELECT bool_and(next_run_at > now()) FROM webhook.workflow'), 'forty that are due at once run');
cmp_ok(time - $start, '<', 15, 'one after the other, without a pause');
sql('SELECT webhook.drop_workflow(name) FROM webhook.workflow');

# A run that can't even plan the next one
sql(q{CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planning is forbidden'; END $$});
create('stuck', '1 day', 'true');
sql(q{CREATE TRIGGER forbid BEFORE UPDATE OF next_run_at ON webhook.workflow FOR EACH ROW EXECUTE FUNCTION forbid();
	ALTER TABLE webhook.workflow DISABLE TRIGGER forbid; UPDATE webhook.workflow SET next_run_at = now() - interval '1 s'; ALTER TABLE webhook.workflow ENABLE TRIGGER forbid});
my $offset = -s $node->logfile;
$node->reload;
ok(wait_for_sql($node, q{SELECT last_error LIKE '%planning is forbidden' FROM webhook.stat_worker WHERE worker = 0}), 'it fails');
my $until = time + 5;
$node->reload, Time::HiRes::sleep(0.2) while time < $until;
my @failures = slurp_file($node->logfile, $offset) =~ /ERROR:  planning is forbidden/g;
cmp_ok(scalar @failures, '<=', 2, 'and is not begun over and over');
sql(q{DROP TRIGGER forbid ON webhook.workflow; SELECT webhook.drop_workflow('stuck')});

# An interval counts from where it began: the last of a month stays the last, an
# hour that one day lacks is back on the next, a restart makes no difference; nor
# does a run that comes late, but one that somebody has moved begins anew.
set(q{webhook.timezone = 'Europe/Berlin'});
my $ahead = 0;

sub turn_to
{
	my ($moment) = @_;

	$ahead = int(sql("SELECT extract(epoch FROM $moment)") - time);
	set_clock($ahead);
	$node->reload;
	return;
}

sub next_at { return sql(q{SELECT to_char(next_run_at AT TIME ZONE 'Europe/Berlin', 'MM-DD HH24:MI') FROM webhook.workflow}) }

# Turn the clock to the next run, or to so long after it; when does the one after come?
sub run_next
{
	my ($late) = @_;
	my $before = next_at();

	turn_to(q{(SELECT next_run_at + interval '} . ($late || 0) . q{' FROM webhook.workflow)});
	wait_for_sql($node, qq{SELECT to_char(next_run_at AT TIME ZONE 'Europe/Berlin', 'MM-DD HH24:MI') <> '$before' FROM webhook.workflow});
	return next_at();
}

my $year = 1 + sql(q{SELECT extract(year FROM now())});
$year++ if $year % 4 == 0;
turn_to("timestamptz '$year-01-31 02:30:20 Europe/Berlin'");
create('last', '1 month', 'true');
is_deeply([ next_at(), run_next() ], [ '02-28 02:30', '03-31 02:30' ], 'months');
$node->stop;
start_with_clock($node, $ahead);
is_deeply([ run_next(), run_next('50 days') ], [ '04-30 02:30', '06-30 02:30' ], 'and on');
sql(q{UPDATE webhook.workflow SET next_run_at = next_run_at - interval '1 day'});
is_deeply([ run_next(), run_next() ], [ '07-29 02:30', '08-29 02:30' ], 'and from another day');
sql(q{SELECT webhook.drop_workflow('last')});

my $day = sql(qq{SELECT d::date FROM generate_series('$year-03-25'::timestamp, '$year-03-31', '1 day') d WHERE extract(dow FROM d) = 6});
turn_to("timestamptz '$day 02:30:20 Europe/Berlin'");
create('daily', '1 day', 'true');
like(join(', ', next_at(), run_next()), qr/^[0-9-]+ 03:30, [0-9-]+ 02:30$/, 'days');
$node->stop;
done_testing();
