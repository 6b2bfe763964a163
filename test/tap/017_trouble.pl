# What a production server does to a worker and its writers: settings that are
# meant for sessions, locks, limits, no room.  The worker waits and goes on; a
# writer never gets an error that is only the worker's.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $receiver = start_receiver();
my $ok = $receiver->url('/ok');
my $node = start_cluster('trouble', conf => q{
statement_timeout = '1s'
lock_timeout = '100ms'
idle_in_transaction_session_timeout = '200ms'
idle_session_timeout = '500ms'
default_transaction_read_only = on
default_transaction_isolation = 'serializable'
default_transaction_deferrable = on
row_security = off
search_path = ''
DateStyle = 'SQL, DMY'
IntervalStyle = 'iso_8601'
bytea_output = 'escape'
extra_float_digits = -5
work_mem = '64kB'
temp_file_limit = 0
exit_on_error = on
max_connections = 6
superuser_reserved_connections = 1
max_wal_senders = 0
webhook.smtp_url = 'smtp://127.0.0.1:} . closed_port() . q{'
webhook.smtp_from = 'crm@example.com'
}, extension => 0);

# A session that may idle.
sub start_session
{
	local $ENV{PGOPTIONS} = '-c idle_session_timeout=0';

	return $node->background_psql('postgres');
}

sub sql { return $node->safe_psql('postgres', 'SET default_transaction_read_only = off; SET statement_timeout = 0; ' . shift) }

sql('CREATE EXTENSION webhook');
sql(qq{
	CREATE TABLE public.event (id int PRIMARY KEY, at timestamptz, span interval, raw bytea, f float8);
	SELECT webhook.create_workflow('events', 'public.event');
	SELECT webhook.create_action('events', 'send', '$ok', retry_schedule => '{200ms,200ms,200ms,200ms,200ms}')});

# Settings for sessions stop neither the worker nor change what is sent.
sql(q{INSERT INTO public.event VALUES (1, '2026-02-03 04:05:06+00', '1 day 02:03:04', '\xdead', 1.0 / 3)});
ok(wait_for_sql($node, q{SELECT count(*) = 1 FROM webhook.webhook_log WHERE status = 'Success'}), 'sent under settings for sessions');
is(($receiver->requests)[0]{body}, '{"f": 0.3333333333333333, "at": "2026-02-03T04:05:06+00:00", "id": 1, "raw": "\\\\xdead", "span": "1 day 02:03:04"}',
	'in the forms that never change');

# Nor do those of the database, of which one would have the worker be somebody else.
my $last_worker = worker_pid($node);
sql(q{CREATE ROLE app; ALTER DATABASE postgres SET exit_on_error = on; ALTER DATABASE postgres SET role = 'app'; ALTER DATABASE postgres SET session_authorization = 'app'});
kill 'TERM', $last_worker;
my $itself = q{SET role = 'none'; SET session_authorization = 'postgres'};
ok(wait_for_sql($node, "$itself; SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND pid <> $last_worker"), 'another worker');
sql(qq{$itself; INSERT INTO public.event VALUES (0)});
ok(wait_for_sql($node, qq{$itself; SELECT count(*) = 1 FROM webhook.webhook_log WHERE record_id = '0' AND status = 'Success'}), 'nor under those of the database');
sql(qq{$itself; ALTER DATABASE postgres RESET ALL; DROP ROLE app; DELETE FROM webhook.webhook_log WHERE record_id = '0'});

# Nor does a serializable transaction that goes on keep a worker from being started.
$last_worker = worker_pid($node);
my $long = start_session();
$long->query_safe('SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; SELECT count(*) FROM public.event; CREATE TABLE public.written ()');
kill 'TERM', $last_worker;
ok(wait_for_sql($node, "SET default_transaction_deferrable = off; SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'webhook worker' AND pid <> $last_worker"), 'a worker is started');
$long->query_safe('ROLLBACK');
$long->quit;

# A catalog that somebody has locked when settings are reloaded: they are read later.
$last_worker = worker_pid($node);
$long = start_session();
$long->query_safe('SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; SET default_transaction_read_only = off; SET default_transaction_deferrable = off; SET lock_timeout = 0');
my $log_size = -s $node->logfile;
$long->query_safe('ALTER DATABASE postgres CONNECTION LIMIT 100');
$long->query_safe('BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE; SELECT pg_reload_conf()');
ok($node->wait_for_log(qr/\[$last_worker\] ERROR:  canceling statement due to lock timeout/, $log_size), 'settings are reloaded while a catalog is locked');
$long->query_safe('COMMIT; ALTER DATABASE postgres CONNECTION LIMIT -1');
$long->quit;
is(worker_pid($node), $last_worker, 'the worker is the same');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/FATAL:.*lock timeout/, 'and so is the launcher');

# What session_replication_role means for triggers is what it means here.
sql('SET session_replication_role = replica; INSERT INTO public.event VALUES (2)');
sql('INSERT INTO public.event VALUES (3)');
ok(wait_for_sql($node, q{SELECT string_agg(record_id, ',' ORDER BY record_id) = '1,3' FROM webhook.webhook_log WHERE status = 'Success'}), 'a replica role queues nothing');

# A log that is locked: the worker waits; a writer waits as for any lock, not for the worker.
my $session = start_session();
$session->query_safe(q{SET default_transaction_read_only = off; SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE webhook.webhook_log IN EXCLUSIVE MODE});
is($node->psql('postgres', q{SET default_transaction_read_only = off; SET lock_timeout = 0; SELECT 1 FROM webhook.webhook_log LIMIT 1}), 0, 'the log can be read');
sleep 1.2;
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.stat_worker WHERE pid IS NOT NULL}), 1, 'the worker is there');
$session->query_safe('COMMIT');
$session->quit;
sql('INSERT INTO public.event VALUES (4)');
ok(wait_for_sql($node, q{SELECT count(*) = 3 FROM webhook.webhook_log WHERE status = 'Success'}), 'and goes on');

# A row that somebody holds: the others are settled, and it is, later.
sql(qq{SELECT webhook.alter_action(1, url => '} . $receiver->url('/slow?ms=400') . q{')});
$session = start_session();
sql('INSERT INTO public.event SELECT generate_series(11, 20)');
ok(wait_for_sql($node, q{SELECT count(*) = 10 FROM webhook.webhook_log WHERE status = 'Dispatched'}), 'ten are under way');
$session->query_safe(q{SET default_transaction_read_only = off; SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN ISOLATION LEVEL READ COMMITTED; SELECT FROM webhook.webhook_log WHERE record_id = '15' FOR UPDATE});
ok(wait_for_sql($node, q{SELECT count(*) = 12 FROM webhook.webhook_log WHERE status = 'Success'}), 'nine are settled');
$session->query_safe('COMMIT');
$session->quit;
ok(wait_for_sql($node, q{SELECT count(*) = 13 FROM webhook.webhook_log WHERE status = 'Success'}), 'and the tenth');
is(scalar(grep { $_->{path} =~ /slow/ } $receiver->requests), 10, 'each was sent once');
sql(qq{SELECT webhook.alter_action(1, url => '$ok')});

# Out of connections: writers queue, the worker has its own slot.
my @sessions = map { start_session() } 1 .. 4;
$sessions[0]->query_safe('SET default_transaction_read_only = off; INSERT INTO public.event VALUES (30)');
my $deadline = time + 20;
sleep 0.05 while $receiver->count < 15 && time < $deadline;
is($receiver->count, 15, 'it sends while all connections are taken');
$_->quit for @sessions;

# No descriptor: no attempt, and soon again.
my $few = start_cluster('few', conf => 'max_files_per_process = 64');
my $hang = $receiver->url('/slow?ms=300');
$few->safe_psql('postgres', qq{CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event');
	SELECT webhook.create_action('events', 'send', '$hang', max_in_flight => 200)});
my $pid = worker_pid($few);
my $limits = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/limits");
like($limits, qr/Max open files/, 'limits are known');
my $open = () = glob("/proc/$pid/fd/*");
system('prlimit', "--pid=$pid", '--nofile=' . ($open + 12));
$few->safe_psql('postgres', 'INSERT INTO event SELECT generate_series(1, 100)');
ok(wait_for_sql($few, q{SELECT count(*) = 100 FROM webhook.webhook_log WHERE status = 'Success'}), 'all are delivered with twelve descriptors');
is($few->safe_psql('postgres', q{SELECT DISTINCT attempts FROM webhook.webhook_log}), 1, 'no delivery took a second attempt');
is($few->safe_psql('postgres', q{SELECT string_agg(DISTINCT error, '; ') FROM webhook.webhook_attempt WHERE error IS NOT NULL}), '', 'what failed for want of one cost no attempt');

# A database whose sessions have another role from the start.
{
	local $ENV{PGOPTIONS} = '-c role=none';

	$few->safe_psql('postgres', q{CREATE DATABASE lent; CREATE ROLE tenant; ALTER DATABASE lent SET role = 'tenant'});
	$few->safe_psql('lent', qq{CREATE EXTENSION webhook; CREATE TABLE event (id int PRIMARY KEY);
		SELECT webhook.create_workflow('events', 'event');
		SELECT webhook.create_action('events', 'send', '$ok');
		SELECT webhook.create_workflow('each second', 'event', 'schedule', schedule => '1 second', recurrence => 'first');
		SELECT webhook.create_action('each second', 'send', '$ok');
		INSERT INTO event VALUES (1)});
	ok(wait_for_sql($few, q{SELECT string_agg(DISTINCT operation, ' ') FROM webhook.webhook_log WHERE status = 'Success'}, 'INSERT SCHEDULE', 'lent'), 'the role of its sessions is not the worker\'s, nor a run\'s');
}
$few->stop;

# No memory: no attempt, and the worker goes on by itself.
{
	my $lean = start_cluster('lean');
	my $patient = start_receiver();

	$lean->safe_psql('postgres', q{CREATE TABLE event (id int PRIMARY KEY, filler text);
		SELECT webhook.create_workflow('events', 'event');
		SELECT webhook.create_action('events', 'send', '} . $patient->url('/slow?ms=100') . q{', max_in_flight => 200, retry_schedule => '{}');
		INSERT INTO event VALUES (0, 'x')});
	ok(wait_for_sql($lean, q{SELECT count(*) = 1 FROM webhook.webhook_log WHERE status = 'Success'}), 'there is memory for one');
	my $worker = worker_pid($lean);
	my ($size) = PostgreSQL::Test::Utils::slurp_file("/proc/$worker/status") =~ /^VmSize:\s+(\d+) kB/m;
	is(system('prlimit', "--pid=$worker", '--as=' . ($size * 1024 + (2 << 20)) . ':unlimited'), 0, 'two megabytes more, and no more');
	$lean->safe_psql('postgres', q{INSERT INTO event SELECT i, repeat(md5(i::text), 20000) FROM generate_series(1, 100) i});
	ok(wait_for_sql($lean, q{SELECT state = 'backoff' AND last_error LIKE 'out of memory%' FROM webhook.stat_worker}), 'no memory: the worker waits, and says why');
	system('prlimit', "--pid=$worker", '--as=unlimited:unlimited');
	ok(wait_for_sql($lean, q{SELECT count(*) = 101 FROM webhook.webhook_log WHERE status = 'Success'}), 'memory again: everything is sent');
	is($lean->safe_psql('postgres', q{SELECT max(attempts) FROM webhook.webhook_log}), 1, 'at the first attempt');
	is(worker_pid($lean), $worker, 'by the same worker');

	# There may be enough for a record, but not for the body that is made of it.
	$lean->safe_psql('postgres', q{ALTER SYSTEM SET webhook.max_payload_size = '64MB'});
	$lean->reload;
	$lean->safe_psql('postgres', q{CREATE TABLE tome (id int PRIMARY KEY, filler text);
		SELECT webhook.create_workflow('tomes', 'tome');
		SELECT webhook.create_action('tomes', 'send', '} . $patient->url('/ok') . q{', parameters => '{"four": "${filler} ${filler} ${filler} ${filler}"}', retry_schedule => '{}');
		INSERT INTO tome VALUES (0, 'x')});
	my $tome = q{FROM webhook.webhook_log WHERE module = 'tome'::regclass AND record_id =};
	ok(wait_for_sql($lean, "SELECT status $tome '0'", 'Success'), 'a small body');
	($size) = PostgreSQL::Test::Utils::slurp_file("/proc/$worker/status") =~ /^VmSize:\s+(\d+) kB/m;
	system('prlimit', "--pid=$worker", '--as=' . ($size * 1024 + (60 << 20)) . ':unlimited');
	$lean->safe_psql('postgres', q{INSERT INTO tome VALUES (1, repeat('abcdefghij', 800000))});
	ok(wait_for_sql($lean, "SELECT concat_ws(' ', status, attempts, error) $tome '1'", 'Queued 0 out of memory'), 'no memory for a large one: it is not given up');
	system('prlimit', "--pid=$worker", '--as=unlimited:unlimited');
	ok(wait_for_sql($lean, "SELECT concat_ws(' ', status, attempts, error) $tome '1'", 'Success 1'), 'memory again: it is sent');
	is(worker_pid($lean), $worker, 'and still by the same worker');
	$lean->safe_psql('postgres', q{ALTER SYSTEM RESET webhook.max_payload_size});
	$lean->stop;

	# What is large is not claimed by the number.
	$lean->start;
	$worker = worker_pid($lean);
	$lean->safe_psql('postgres', q{INSERT INTO event SELECT i, repeat(md5(i::text), 250000) FROM generate_series(1001, 1016) i});
	my ($peak, $deadline) = (0, time + $WebhookTest::patience);
	my $done = 0;
	while ($done < 16 && time < $deadline)
	{
		my ($now) = PostgreSQL::Test::Utils::slurp_file("/proc/$worker/status") =~ /^RssAnon:\s+(\d+) kB/m;

		$peak = $now if $now > $peak;
		$done = $lean->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Failed'});
	}
	is($done, 16, '16 records of 8 MB, too large to be sent');
	cmp_ok($peak, '<', 110_000, "are not all claimed at once: $peak kB");
	$lean->stop;
	$patient->stop;
}

# No room on the disk, of which a limit of the size of files takes the place:
# what was sent waits to be recorded, and is not sent again.  Rows of 1955 bytes fill
# their pages: even an attempt without its bodies finds no room there.
{
	my $full = start_cluster('full', conf => q{
autovacuum = off
log_min_messages = warning
});
	my $quick = start_receiver();

	$full->safe_psql('postgres', q{CREATE TABLE event (id int PRIMARY KEY, filler text);
		SELECT webhook.create_workflow('events', 'event');
		SELECT webhook.create_action('events', 'send', '} . $quick->url('/ok') . q{');
		INSERT INTO webhook.webhook_attempt SELECT -i, 1, now(), '1 s', 200, NULL, repeat('x', 1955) FROM generate_series(1, 10000) i});    # no page has room for one more
	my $worker = worker_pid($full);
	cmp_ok($full->safe_psql('postgres', q{SELECT pg_relation_size('webhook.webhook_attempt')}), '>', 17 << 20, 'a table that is larger than a segment of WAL');
	is(system('prlimit', "--pid=$worker", '--fsize=' . (17 << 20) . ':unlimited'), 0, 'no file may grow beyond 17 MB');
	$full->safe_psql('postgres', q{INSERT INTO event SELECT i, repeat('x', 900) FROM generate_series(1, 100) i});
	ok(wait_for_sql($full, q{SELECT last_error LIKE '%could not extend file%' FROM webhook.stat_worker}), 'no room: the worker says so');
	$full->safe_psql('postgres', 'INSERT INTO event VALUES (101)');
	my $told = $full->safe_psql('postgres', 'SELECT clock_timestamp()');
	ok(wait_for_sql($full, "SELECT last_turn_at > '$told'::timestamptz + interval '1 s' FROM webhook.stat_worker"), 'it has tried again');
	is($full->safe_psql('postgres', q{SELECT state, last_error LIKE '%could not extend file%' FROM webhook.stat_worker}), 'backoff|t', 'and goes on saying so');
	is($full->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Success'}), 0, 'nothing is recorded');
	system('prlimit', "--pid=$worker", '--fsize=unlimited:unlimited');
	ok(wait_for_sql($full, q{SELECT count(*) = 101 FROM webhook.webhook_log WHERE status = 'Success'}), 'room again: everything is recorded');
	ok(wait_for_sql($full, 'SELECT state FROM webhook.stat_worker', 'running'), 'and the worker is in no trouble');
	is($quick->count, 101, 'and nothing was sent twice');
	is(worker_pid($full), $worker, 'by the same worker');
	is(scalar(() = PostgreSQL::Test::Utils::slurp_file($full->logfile) =~ /could not extend file/g), 1, 'the log has one line of it');
	$full->stop;
	$quick->stop;
}

# A name server that isn't there is no receiver's failure.  (RFC 6761: never resolves.)
{
	sql(q{SELECT webhook.alter_action(1, url => 'http://nowhere.invalid/')});
	sql('INSERT INTO public.event VALUES (40)');
	ok(wait_for_sql($node, q{SELECT error LIKE '%nowhere.invalid%' FROM webhook.webhook_log WHERE record_id = '40'}), 'a name that can\'t be found is told');
	sql(qq{SELECT webhook.alter_action(1, url => '$ok')});
}

# Failures are gathered for mails by more than fits into work_mem.
sql(q{INSERT INTO webhook.admin VALUES ('dba@example.com'); SELECT webhook.alter_action(1, url => '} . $receiver->url('/status/500') . q{')});
sql('INSERT INTO public.event SELECT i FROM generate_series(1001, 2000) i');
ok(wait_for_sql($node, q{SELECT count(*) = 1000 FROM webhook.webhook_log WHERE http_status = 500}), 'a thousand fail');
ok(wait_for_sql($node, 'SELECT count(*) = 0 FROM webhook.mail_note'), 'and are told of');

$node->stop;
is(scalar(() = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /PANIC|server process .* was terminated/g), 0, 'nothing crashed');
done_testing();
