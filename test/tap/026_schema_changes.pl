# DDL under live workflows: sessions that write have their plans cached, the
# worker its templates, and the queue holds what was there before.  Each change
# is right, or refused with a hint.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use Test::More;
use WebhookTest;

my $receiver = start_receiver();
my $url = $receiver->url('/ok');
my $node = start_cluster('schema_changes');

# A session that stays open, with whatever it has cached.
my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timeout($WebhookTest::patience);
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
	'<', \$in, '>', \$out, '2>', \$err, $timer);

sub in_session
{
	my ($sql) = @_;

	($out, $err) = ('', '');
	$in = "$sql\n;\\echo done\n";
	$timer->start($WebhookTest::patience);
	$session->pump until $out =~ s/^done\n\z//m;
	is($err, '', "the open session: $sql");
	return $out;
}

# A change that is refused: with an error that says why and a hint that says
# what to do instead, and without a trace.
sub refused
{
	my ($sql, $error, $hint, $name) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', $sql);

	like($stderr, qr/^(?:psql:<stdin>:\d+: )?ERROR: .*$error/ms, $name || $sql);
	like($stderr, qr/^HINT: .*$hint/m, '... with a hint');
	return;
}

# The bodies that were sent since the last call, in the order of their text.
my $seen = 0;

sub sent
{
	my ($database) = @_;

	wait_for_delivery($node, $database);
	my @requests = $receiver->requests('/ok');
	my @new = @requests[ $seen .. $#requests ];

	$seen = @requests;
	return join ' ', sort map { $_->{body} } @new;
}

# Events queue up until release() is called: they meet the worker after the DDL.
sub hold { set_state('off', 'disabled') }
sub release { set_state('on', 'running') }

sub set_state
{
	my ($value, $state) = @_;

	$node->append_conf('postgresql.conf', "webhook.enabled = $value");
	$node->reload;
	wait_for_sql($node, "SELECT bool_and(state = '$state') FROM webhook.stat_worker");
	return;
}

my $criteria = 'without, make the change, and change it back';
my $met = 'It then has met no record yet';

# ---------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE SCHEMA app;
	CREATE TABLE app.country (id int PRIMARY KEY, name text);
	CREATE TABLE app.org (id int PRIMARY KEY, name text, country_id int REFERENCES app.country, junk text);
	CREATE TABLE app.deal (id int PRIMARY KEY, name text, stage text, amount int, org_id int REFERENCES app.org, spare text, spare2 text);
	INSERT INTO app.country VALUES (1, 'SE');
	INSERT INTO app.org VALUES (1, 'Acme', 1);
	SET search_path = app;
	SELECT webhook.create_workflow('won', 'deal', condition => \$\$stage = 'won'\$\$, recurrence => 'change');
	SELECT webhook.create_action('won', 'send', '$url', parameters =>
		'{"id": "\${id}", "n": "\${name}", "o": "\${org_id.name}", "c": "\${org_id.country_id.name}", "x": "\${= amount * 2}"}');
	SELECT webhook.create_workflow('large', 'deal', condition => 'amount > 100', recurrence => 'first');
	SELECT webhook.create_action('large', 'send', '$url', parameters => '{"large": "\${id}"}', ordered => true);
	SELECT webhook.create_workflow('gone', 'deal', 'delete');
	SELECT webhook.create_action('gone', 'send', '$url');
	SELECT webhook.create_workflow('nightly', 'deal', 'schedule', schedule => '1 day', condition => \$\$stage = 'won'\$\$);
	SELECT webhook.create_action('nightly', 'send', '$url', parameters => '{"nightly": "\${name}"}')});

sub won
{
	my ($id, $name, $org, $country, $x) = @_;

	return sprintf '{"id": %d, "n": "%s", "o": "%s", "c": "%s", "x": %s}', $id, $name, $org, $country, $x;
}

in_session(q{INSERT INTO app.deal VALUES (1, 'a', 'won', 5, 1)});
in_session(q{UPDATE app.deal SET stage = 'lost'; UPDATE app.deal SET stage = 'won'});
is(sent(), join(' ', (won(1, 'a', 'Acme', 'SE', 10)) x 2), 'two changes are sent');

# Used: refused, whoever asks for it how.
for my $column (qw(name stage amount org_id))
{
	refused("ALTER TABLE app.deal RENAME $column TO other", 'cannot change what workflow', $criteria);
	refused("ALTER TABLE app.deal DROP COLUMN $column", 'cannot (?:change what workflow|drop column)', $criteria);
	refused("ALTER TABLE app.deal DROP COLUMN $column CASCADE", 'cannot (?:change what workflow|drop column)', $criteria);
}
refused(q{ALTER TABLE app.deal ALTER stage TYPE varchar(20)}, 'cannot alter type of column "stage" of table "deal"\nDETAIL:  Workflow "won" uses it', $criteria);
refused(q{ALTER TABLE app.deal ADD extra int, ALTER amount TYPE bigint}, 'Workflow "large" uses it in its criteria', $criteria);
refused(q{ALTER TABLE app.country RENAME name TO title}, 'workflow "won" on table "deal" needs: .*"name" of table "country"', $criteria);
refused(q{ALTER TABLE app.country DROP COLUMN name}, 'workflow "won" on table "deal" needs', $criteria);
refused(q{DROP TABLE app.country CASCADE}, 'workflow "won" on table "deal" needs: .*"country_id" of table "org" has no foreign key', $criteria);
is(in_session('SELECT count(*) FROM pg_attribute WHERE attrelid = $$app.deal$$::regclass AND attnum > 0'), "7\n", 'nothing came of it');

# Not used, or followed: with a backlog, and in a session that has its plans.
hold();
in_session(q{INSERT INTO app.deal VALUES (2, 'b', 'won', 6, 1, 's', 't')});
$node->safe_psql('postgres', q{
	ALTER TABLE app.deal RENAME spare TO renamed;
	ALTER TABLE app.deal DROP COLUMN spare2;
	ALTER TABLE app.deal ADD COLUMN added int DEFAULT 7;
	ALTER TABLE app.deal ADD COLUMN added_at timestamptz DEFAULT clock_timestamp();
	ALTER TABLE app.deal ALTER name TYPE varchar(50);
	ALTER TABLE app.deal ALTER renamed TYPE json USING NULL;
	ALTER TABLE app.org DROP COLUMN junk;
	ALTER TABLE app.org ALTER name TYPE varchar(20);
	ALTER TABLE app.org ADD COLUMN more text;
	ALTER TABLE app.country RENAME TO land;
	ALTER TABLE app.org RENAME CONSTRAINT org_country_id_fkey TO to_land;
	ALTER SCHEMA app RENAME TO crm;
	ALTER TABLE crm.org SET SCHEMA public;
	ALTER TABLE crm.deal RENAME TO opportunity;
	ALTER TABLE crm.opportunity SET SCHEMA public;
	ALTER TABLE opportunity SET UNLOGGED;
	ALTER TABLE opportunity SET LOGGED;
	ALTER TABLE opportunity CLUSTER ON deal_pkey;
	CLUSTER opportunity;
	VACUUM FULL opportunity});
in_session(q{INSERT INTO opportunity (id, name, stage, amount, org_id) VALUES (3, 'c', 'won', 7, 1)});
in_session(q{UPDATE opportunity SET amount = 200 WHERE id = 3});
release();
is(sent(), join(' ', won(2, 'b', 'Acme', 'SE', 12), won(3, 'c', 'Acme', 'SE', 14), '{"large": 3}'),
	'what was queued before and what is written after');
is(row($node, q{SELECT record->>'added' AS added, module::text FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 1})->{added}, '7', 'a new column is in the record');
is(row($node, q{SELECT DISTINCT module::text FROM webhook.webhook_log})->{module}, 'opportunity', 'the log knows the module by its new name');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('nightly')}), '3', 'so does a run');
is(sent(), '{"nightly": "a"} {"nightly": "b"} {"nightly": "c"}', '... which is sent');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, parameters => '{"id": "${id}", "t": "${added}", "old": "${old.added}"}')});
in_session(q{UPDATE opportunity SET stage = 'lost' WHERE id = 1; UPDATE opportunity SET stage = 'won' WHERE id = 1});
is(sent(), '{"id": 1, "t": 7, "old": 7}', 'a new column can be asked for');

# A column may go with something else.
$node->safe_psql('postgres', qq{
	CREATE TYPE mood AS ENUM ('glad', 'sad');
	CREATE TABLE visit (id int PRIMARY KEY, mood mood);
	SELECT webhook.create_workflow('visits', 'visit');
	SELECT webhook.create_action('visits', 'send', '$url', parameters => '{"mood": "\${mood}"}')});
refused('DROP TYPE mood CASCADE', 'workflow "visits" on table "visit" needs: .*"mood" of table "visit"', $criteria);
$node->safe_psql('postgres', q{BEGIN; SELECT webhook.alter_action(action_id, parameters => '{"id": "${id}"}') FROM webhook.action JOIN webhook.workflow USING (workflow_id) WHERE name = 'visits'; DROP TYPE mood CASCADE; DROP TABLE visit; COMMIT});

# What the hints say works.
in_session('SELECT 1');
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT webhook.alter_workflow('won', condition => 'true'), webhook.alter_workflow('nightly', condition => 'true');
	ALTER TABLE opportunity RENAME stage TO state;
	ALTER TABLE opportunity ALTER state TYPE varchar(10);
	SELECT webhook.alter_workflow('won', condition => $$state = 'won'$$), webhook.alter_workflow('nightly', condition => $$state = 'won'$$);
	COMMIT});
in_session(q{UPDATE opportunity SET state = 'lost' WHERE id = 1; UPDATE opportunity SET state = 'won' WHERE id = 1});
is(sent(), '{"id": 1, "t": 7, "old": 7}', 'a column that the criteria use has another name and type');

# ---------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------

refused('ALTER TABLE opportunity ALTER id TYPE numeric(10,2)', 'cannot alter type of column "id" of table "opportunity"\nDETAIL:  Workflow "large" knows by it which records it has met', $met);
refused('ALTER TABLE opportunity ALTER id TYPE bigint USING id + 1', 'cannot alter type of column "id"', $met);
refused('ALTER TABLE opportunity DROP CONSTRAINT deal_pkey', 'recurrence "first" needs the primary key as it was', $met);
refused('ALTER TABLE opportunity DROP CONSTRAINT deal_pkey, ADD PRIMARY KEY (id, amount)', 'recurrence "first" needs the primary key as it was', $met);
refused('ALTER TABLE opportunity DROP COLUMN id CASCADE', 'cannot drop column "id"', $met);
$node->safe_psql('postgres', 'ALTER TABLE opportunity ALTER id TYPE bigint');
in_session('UPDATE opportunity SET id = 30000000000 WHERE id = 3');
in_session('UPDATE opportunity SET amount = 300 WHERE id = 30000000000');
in_session('INSERT INTO opportunity (id, amount) VALUES (3, 300)');
is(sent(), '{"large": 3}', 'a key that grows: "first" knows its records, and follows them');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'opportunity'::regclass AND tgname = 'webhook_large_forget_update'}), '1',
	'... by a trigger under its own name');
$node->safe_psql('postgres', 'ALTER TABLE opportunity ALTER id TYPE text USING id::text');
in_session(q{UPDATE opportunity SET amount = 400 WHERE id = '3'});
is(sent(), '', '... written as text as well');
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT webhook.alter_workflow('large', recurrence => 'every'); SELECT webhook.alter_action(2, ordered => false);
	ALTER TABLE opportunity DROP CONSTRAINT deal_pkey, ADD PRIMARY KEY (id, added);
	SELECT webhook.alter_workflow('large', recurrence => 'first'); SELECT webhook.alter_action(2, ordered => true);
	COMMIT});
in_session(q{UPDATE opportunity SET amount = 500 WHERE id = '3'; UPDATE opportunity SET amount = 600 WHERE id = '3'});
is(sent(), '{"large": "3"}', 'another key');
is(row($node, q{SELECT record_id FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 1})->{record_id}, '(3,7)', '... is the record_id');

# Without any, and with one later.
$node->safe_psql('postgres', qq{
	CREATE TABLE note (id int, t text);
	SELECT webhook.create_workflow('note', 'note');
	SELECT webhook.create_action('note', 'send', '$url')});
in_session(q{INSERT INTO note VALUES (1, 'x')});
$node->safe_psql('postgres', 'ALTER TABLE note ADD PRIMARY KEY (id)');
in_session(q{INSERT INTO note VALUES (2, 'x')});
$node->safe_psql('postgres', 'ALTER TABLE note DROP CONSTRAINT note_pkey');
in_session(q{INSERT INTO note VALUES (3, 'x')});
is(sent() =~ tr/{/{/, 3, 'a table without a key');
is(join(' ', map { $_->{record_id} // '-' } rows($node, q{SELECT record_id FROM webhook.webhook_log WHERE module = 'note'::regclass ORDER BY log_id})),
	'- 2 -', 'a key that comes and goes');

# ---------------------------------------------------------------------------
# What criteria and expressions name
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE SCHEMA lib;
	CREATE TYPE lib.kind AS ENUM ('hot', 'cold');
	CREATE DOMAIN lib.positive AS int CHECK (value > 0);
	CREATE COLLATION lib.plain FROM "C";
	CREATE SEQUENCE lib.number;
	CREATE FUNCTION lib.is_vip(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT \$1 > 3';
	CREATE TABLE lead (id int PRIMARY KEY, kind lib.kind, score lib.positive, note text);
	SELECT webhook.create_workflow('lead', 'lead', condition => \$\$kind = 'hot' AND lib.is_vip(score) AND note COLLATE lib.plain IS DISTINCT FROM 'x'\$\$);
	SELECT webhook.create_action('lead', 'send', '$url', parameters => '{"k": "\${= CASE kind WHEN ''hot'' THEN 1 END}", "s": "\${= 5::lib.positive}", "n": "\${= pg_sequence_last_value(''lib.number'')}"}')});
in_session(q{INSERT INTO lead VALUES (1, 'hot', 5)});
is(sent(), '{"k": 1, "s": 5, "n": null}', 'types and functions');
refused($_, 'cannot change what workflow "lead" on table "lead" needs', $criteria) for (
	q{ALTER TYPE lib.kind RENAME VALUE 'hot' TO 'warm'},
	'ALTER TYPE lib.kind RENAME TO sort',
	'ALTER DOMAIN lib.positive RENAME TO plus',
	'ALTER DOMAIN lib.positive SET SCHEMA public',
	'ALTER SCHEMA lib RENAME TO library',
	'ALTER SEQUENCE lib.number RENAME TO serial',
	'DROP COLLATION lib.plain CASCADE',
	'DROP SEQUENCE lib.number CASCADE',
	'DROP FUNCTION lib.is_vip(int) CASCADE');
$node->safe_psql('postgres', q{ALTER TYPE lib.kind ADD VALUE 'new'; CREATE OR REPLACE FUNCTION lib.is_vip(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 4'});
like(($node->psql('postgres', 'ALTER SCHEMA webhook RENAME TO hooks'))[2], qr/ERROR:  schema "webhook" can't be renamed\nDETAIL:  It is the schema of extension "webhook"/,
	'nor is the schema of all that is ours renamed');
in_session(q{INSERT INTO lead VALUES (2, 'hot', 4), (3, 'new', 5), (4, 'hot', 6)});
is(sent(), '{"k": 1, "s": 5, "n": null}', 'a new value and body are taken');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('lead')}), '2', '... by a run, too');
like(sent(), qr/^(\S+ \S+ \S+ \S+ \S+ \S+ ?){2}$/, '... which is sent');

# Criteria alone are followed, by the triggers and by a run.
$node->safe_psql('postgres', qq{
	CREATE SCHEMA lib2;
	CREATE TYPE lib2.mood AS ENUM ('good', 'bad');
	CREATE FUNCTION lib2.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * \$1';
	CREATE TABLE person (id int PRIMARY KEY, mood lib2.mood, score int);
	SELECT webhook.create_workflow('person', 'person', 'update', recurrence => 'change',
		condition => \$\$mood = 'good' AND lib2.twice(score) > 10 AND new IS DISTINCT FROM (0, 'bad', 0)::person\$\$);
	SELECT webhook.create_action('person', 'send', '$url', parameters => '{"person": "\${id}"}');
	INSERT INTO person VALUES (1, 'good', 6), (2, 'bad', 6), (3, 'good', 5)});
in_session(q{UPDATE person SET mood = 'bad'; UPDATE person SET mood = 'good'});
is(sent(), '{"person": 1} {"person": 2}', 'criteria that name a type, a function and the row');
$node->safe_psql('postgres', q{
	ALTER TYPE lib2.mood RENAME VALUE 'good' TO 'merry'; ALTER TYPE lib2.mood RENAME TO spirits;
	ALTER FUNCTION lib2.twice(int) RENAME TO doubled; ALTER SCHEMA lib2 RENAME TO lib3; ALTER TABLE person RENAME TO human});
in_session(q{UPDATE human SET mood = 'bad'; UPDATE human SET mood = 'merry'});
is(sent(), '{"person": 1} {"person": 2}', '... all of which were renamed');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('person')}), '2', '... find what they found');
is(sent(), '{"person": 1} {"person": 2}', '...');
refused('DROP FUNCTION lib3.doubled(int) CASCADE', 'cannot change what workflow "person" on table "human" needs', $criteria);

# So is the drop of what a schedule reads whose module has no key.
$node->safe_psql('postgres', q{
	CREATE TABLE place (id int PRIMARY KEY, name text);
	CREATE TABLE passage (place_id int REFERENCES place, at timestamptz);
	SELECT webhook.create_workflow('passages', 'passage', 'schedule', schedule => '1 day');
	SELECT webhook.create_action('passages', 'send', 'https://example.com/', parameters => '{"place": "${place_id.name}"}')});
refused('DROP TABLE place CASCADE', 'cannot change what workflow "passages" on table "passage" needs', $criteria);
$node->safe_psql('postgres', 'DROP TABLE place, passage');

# What a workflow's owner lacks is no reason to refuse other people's DDL.
$node->safe_psql('postgres', q{
	CREATE ROLE poor; GRANT USAGE ON SCHEMA webhook, lib TO poor; GRANT CREATE ON SCHEMA public TO poor;
	SET ROLE poor;
	CREATE TABLE mine (id int PRIMARY KEY);
	SELECT webhook.create_workflow('poor', 'mine', condition => 'lib.is_vip(id)');
	SELECT webhook.create_action('poor', 'send', 'https://example.com/', parameters => '{"x": "${= lib.is_vip(id)}"}');
	RESET ROLE;
	REVOKE USAGE ON SCHEMA lib FROM poor;
	CREATE TABLE unrelated (a int); CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql RETURN 1;
	ALTER TABLE unrelated RENAME TO unrelated2; ALTER FUNCTION unrelated() RENAME TO unrelated2;
	DROP FUNCTION unrelated2(); DROP TABLE unrelated2});
is($node->safe_psql('postgres', q{SELECT to_regclass('unrelated2') IS NULL}), 't', 'what another workflow lacks refuses nothing');

# ---------------------------------------------------------------------------
# Tables that are copied, inherit, are emptied, dropped, made again
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE TABLE base (id int PRIMARY KEY, t text);
	SELECT webhook.create_workflow('base', 'base', recurrence => 'first');
	SELECT webhook.create_action('base', 'send', '$url', parameters => '{"base": "\${id}", "t": "\${t}"}', ordered => true);
	SELECT webhook.create_workflow('base gone', 'base', 'delete');
	SELECT webhook.create_action('base gone', 'send', '$url', parameters => '{"gone": "\${id}"}');
	CREATE TABLE copied (LIKE base INCLUDING ALL);
	CREATE TABLE child (more text) INHERITS (base)});
in_session(q{INSERT INTO copied VALUES (1, 'copy'); INSERT INTO child VALUES (1, 'child'), (2, 'child')});
in_session(q{UPDATE base SET t = 'child'; INSERT INTO base VALUES (1, 'base')});
is(sent(), '{"base": 1, "t": "base"}', 'a copy and a child have no workflow');
my $base = $node->safe_psql('postgres', q{SELECT a.action_id FROM webhook.action a JOIN webhook.workflow w USING (workflow_id) WHERE w.name = 'base'});
is($node->safe_psql('postgres', "SELECT body FROM webhook.preview($base, '1')"), '{"base": 1, "t": "base"}', 'preview');
like(($node->psql('postgres', "SELECT webhook.preview($base, '2')"))[2], qr/record "2" of table "base" does not exist/, '... looks at no child');
is($node->safe_psql('postgres', q{SELECT webhook.run_workflow('base gone')}), '1', 'nor does a run');
is(sent(), '{"gone": 1}', '...');
$node->safe_psql('postgres', 'ALTER TABLE child NO INHERIT base; ALTER TABLE copied ADD COLUMN more text; ALTER TABLE copied INHERIT base');
in_session('TRUNCATE base');
in_session(q{INSERT INTO base VALUES (1, 'again')});
is(sent(), '{"base": 1, "t": "again"}', 'TRUNCATE sends nothing, and begins new lives');
hold();
in_session(q{INSERT INTO base VALUES (2, 'queued')});
$node->safe_psql('postgres', 'DROP TABLE base CASCADE; CREATE TABLE base (id int PRIMARY KEY, t text); INSERT INTO base VALUES (3)');
release();
is(sent(), '', 'a table that is made again has no workflow');
is($node->safe_psql('postgres', q{SELECT string_agg(error, ', ') FROM webhook.webhook_log WHERE record->>'t' = 'queued'}), 'workflow was dropped', '... and what was queued tells why it is not sent');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.workflow WHERE name LIKE 'base%'}), '0', '... any more');

# ---------------------------------------------------------------------------
# Partitions
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE TABLE visit (id int, at date, t text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
	SELECT webhook.create_workflow('visit', 'visit', condition => 't IS NOT NULL', recurrence => 'first');
	SELECT webhook.create_action('visit', 'send', '$url', parameters => '{"first": "\${id}"}', ordered => true);
	SELECT webhook.create_workflow('visit every', 'visit', condition => \$\$t = 'x'\$\$, recurrence => 'change');
	SELECT webhook.create_action('visit every', 'send', '$url', parameters => '{"v": "\${id}", "was": "\${old.at}", "u": "\${= upper(t)}"}');
	SELECT webhook.create_workflow('visit gone', 'visit', 'delete');
	SELECT webhook.create_action('visit gone', 'send', '$url', parameters => '{"gone": "\${id}"}')});
in_session(q{INSERT INTO visit VALUES (1, '2026-01-01', 'x')});
is(sent(), '{"first": 1} {"v": 1, "was": null, "u": "X"}', 'a partition from before');

# Attached with rows, and with its columns in another order.
$node->safe_psql('postgres', q{
	CREATE TABLE visit_2 (t text, junk int, at date NOT NULL, id int NOT NULL);
	ALTER TABLE visit_2 DROP COLUMN junk;
	INSERT INTO visit_2 VALUES ('x', '2026-02-02', 2), ('y', '2026-02-02', 3);
	ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')});
is(sent(), '', 'rows that come with a partition are no events');
in_session(q{UPDATE visit SET t = 'x' WHERE id = 3});
is(sent(), '{"first": 3} {"v": 3, "was": "2026-02-02", "u": "X"}', 'a change of one is');
in_session(q{UPDATE visit SET at = '2026-01-05', t = 'z' WHERE id = 2});
is(sent(), '{"first": 2}', 'a move is an update');
in_session(q{INSERT INTO visit_2 VALUES ('x', '2026-02-03', 4)});
in_session(q{DELETE FROM visit_2 WHERE id = 4});
is(sent(), '{"first": 4} {"gone": 4} {"v": 4, "was": null, "u": "X"}', 'so is what is written to the partition itself');
hold();
in_session(q{INSERT INTO visit VALUES (5, '2026-02-05', 'x')});
$node->safe_psql('postgres', 'ALTER TABLE visit DETACH PARTITION visit_2');
in_session(q{INSERT INTO visit_2 VALUES ('x', '2026-02-03', 6); DELETE FROM visit_2 WHERE id = 6});
release();
is(sent(), '{"first": 5} {"v": 5, "was": null, "u": "X"}', 'detached: what was queued is sent, what comes later is no event');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'visit_2'::regclass AND NOT tgisinternal}), '0', '... and no trigger is left');
$node->safe_psql('postgres', q{ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01'); ALTER TABLE visit_2 RENAME TO visit_february});
in_session(q{UPDATE visit SET t = 'q' WHERE id = 5; UPDATE visit SET t = 'x' WHERE id = 5});
is(sent(), '{"v": 5, "was": "2026-02-05", "u": "X"}', 'attached again and renamed: "first" knows its records');
$node->safe_psql('postgres', 'ALTER TABLE visit DETACH PARTITION visit_february CONCURRENTLY');
in_session(q{INSERT INTO visit_february VALUES ('x', '2026-02-03', 8)});
is(sent(), '', 'detached concurrently');
$node->safe_psql('postgres', 'DROP TABLE visit_february; DROP TABLE visit_1');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.workflow WHERE name LIKE 'visit%'}), '3', 'a dropped partition takes no workflow along');
$node->safe_psql('postgres', q{CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')});
in_session(q{INSERT INTO visit VALUES (1, '2026-01-01', 'y')});
is(sent(), '{"first": 1}', 'a record that went with its partition and is inserted again is a new one');
refused('ALTER TABLE visit ALTER t TYPE varchar(3)', 'cannot alter type of column "t" of table "visit"', $criteria);
refused('ALTER TABLE visit RENAME t TO text', 'cannot change what workflow', $criteria);
$node->safe_psql('postgres', 'ALTER TABLE visit ALTER id TYPE bigint');
in_session(q{UPDATE visit SET id = 10000000000 WHERE id = 1; UPDATE visit SET t = 'z'});
is(sent(), '', 'the key of a partitioned table grows');
$node->safe_psql('postgres', q{
	CREATE TABLE visit_9 PARTITION OF visit DEFAULT;
	SELECT webhook.create_workflow('ninth', 'visit_9');
	SELECT webhook.create_action('ninth', 'send', '} . $url . q{', parameters => '{"ninth": "${id}"}')});
in_session(q{INSERT INTO visit VALUES (9, '2027-01-01', 'x')});
is(sent(), '{"first": 9} {"ninth": 9} {"v": 9, "was": null, "u": "X"}', 'a partition that has a workflow of its own as well');
$node->safe_psql('postgres', q{
	SELECT webhook.create_workflow('ninth gone', 'visit_9', 'delete');
	SELECT webhook.create_action('ninth gone', 'send', '} . $url . q{', parameters => '{"ninth gone": "${id}"}')});
in_session(q{UPDATE visit SET at = '2026-01-09' WHERE id = 9});
is(sent(), '{"ninth gone": 9}', '... for which a row that moves on is gone');
in_session(q{UPDATE visit SET at = '2027-01-09' WHERE id = 9});
is(sent(), '{"ninth": 9}', '... and one that moves in is new');
$node->safe_psql('postgres', 'ALTER TABLE visit DETACH PARTITION visit_9');
in_session(q{INSERT INTO visit_9 VALUES (10, '2027-01-01', 'x')});
is(sent(), '{"ninth": 10}', '... keeps it');

# ---------------------------------------------------------------------------
# Roles
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE ROLE crm_admin; GRANT USAGE ON SCHEMA webhook TO crm_admin;
	CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE carol; GRANT crm_admin TO alice, bob;
	GRANT CREATE ON SCHEMA public TO crm_admin; CREATE TABLE shared (id int PRIMARY KEY); GRANT ALL ON shared TO crm_admin;
	CREATE SCHEMA own; GRANT ALL ON SCHEMA own TO crm_admin;
	SET ROLE alice;
	CREATE TABLE own.person (id int PRIMARY KEY, name text); INSERT INTO own.person VALUES (1, 'Ann');
	CREATE TABLE own.task (id int PRIMARY KEY, person_id int REFERENCES own.person);
	SELECT webhook.create_workflow('task', 'own.task'), webhook.create_workflow('shared', 'shared');
	SELECT webhook.create_action('task', 'send', '$url', parameters => '{"task": "\${id}", "p": "\${person_id.name}"}');
	SELECT webhook.create_action('shared', 'send', '$url', parameters => '{"shared": "\${id}"}')});
in_session('INSERT INTO own.task VALUES (1, 1)');
is(sent(), '{"task": 1, "p": "Ann"}', 'with the rights of alice');
$node->safe_psql('postgres', 'ALTER TABLE shared OWNER TO bob');
in_session('INSERT INTO shared VALUES (1)');
is(sent(), '{"shared": 1}', 'another owner of the table changes nothing');
my ($rc, $stdout, $stderr) = $node->psql('postgres', 'DROP ROLE alice');
like($stderr, qr/^DETAIL:.*privileges for column owner of table webhook\.workflow$/ms, 'a role that has workflows can not be dropped');
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
($rc, $stdout, $stderr) = $node->psql('elsewhere', 'DROP ROLE alice');
like($stderr, qr/role "alice" cannot be dropped/, '... from another database either');
refused('REASSIGN OWNED BY alice TO carol', 'permission denied for schema own', 'Grant the role "carol" what it lacks');
refused('GRANT USAGE ON SCHEMA own TO carol; REASSIGN OWNED BY alice TO carol', 'permission denied for table "shared"', 'GRANT TRIGGER, SELECT ON TABLE public.shared TO carol');
refused('BEGIN; ALTER TABLE own.person OWNER TO postgres; REASSIGN OWNED BY alice TO bob', 'permission denied for table person', 'Grant the role "bob" what it lacks');
hold();
in_session('INSERT INTO own.task VALUES (2, 1)');
$node->safe_psql('postgres', 'REASSIGN OWNED BY alice TO bob; DROP OWNED BY alice; DROP ROLE alice');
in_session('INSERT INTO own.task VALUES (3, 1)');
release();
is(sent(), '{"task": 2, "p": "Ann"} {"task": 3, "p": "Ann"}', 'REASSIGN OWNED: bob\'s now');
is($node->safe_psql('postgres', q{SET ROLE bob; SELECT string_agg(DISTINCT owner::text, ' ') || count(*) FROM webhook.webhook_log WHERE workflow_id = (SELECT workflow_id FROM webhook.workflow WHERE name = 'task')}),
	'bob3', '... with their deliveries');
$node->safe_psql('postgres', q{CREATE TABLE not_his (id int PRIMARY KEY); GRANT ALL ON not_his TO bob});
$node->safe_psql('postgres', qq{SET ROLE bob; SELECT webhook.create_workflow('not his', 'not_his'); SELECT webhook.create_action('not his', 'send', '$url')});
($rc, $stdout, $stderr) = $node->psql('postgres', 'DROP OWNED BY bob CASCADE');
like($stderr, qr/NOTICE:  drop cascades to workflow "not his"/, 'DROP OWNED tells of workflows');
$node->safe_psql('postgres', 'DROP ROLE bob');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.workflow WHERE name IN ('task', 'shared', 'not his')}), '0', '... which it drops');
in_session('INSERT INTO not_his VALUES (1)');
is(sent(), '', '... on tables of others, too');

# A dropped workflow lets its owner go.
$node->safe_psql('postgres', q{
	CREATE ROLE dora; GRANT USAGE ON SCHEMA webhook TO dora; GRANT ALL ON not_his TO dora;
	SET ROLE dora; SELECT webhook.create_workflow('dora', 'not_his'); SELECT webhook.drop_workflow('dora');
	RESET ROLE; REVOKE USAGE ON SCHEMA webhook FROM dora; REVOKE ALL ON not_his FROM dora; DROP ROLE dora});
pass('a role whose workflows are dropped can be');

# Who is a member of a role but may not act as it sees its workflows, and no more.
SKIP:
{
	skip 'memberships without INHERIT and SET came with PostgreSQL 16', 10 if $node->safe_psql('postgres', 'SHOW server_version_num') < 160000;
	$node->safe_psql('postgres', qq{
		CREATE ROLE fay; CREATE ROLE gus; CREATE ROLE hal; GRANT USAGE ON SCHEMA webhook TO fay, gus, hal; GRANT ALL ON not_his TO fay;
		GRANT fay TO gus WITH INHERIT FALSE, SET FALSE; GRANT fay TO hal WITH INHERIT FALSE, SET TRUE;
		SET ROLE fay;
		SELECT webhook.create_workflow('fay', 'not_his', 'create', condition => 'id = 7');
		SELECT webhook.create_action('fay', 'send', '$url');
		RESET ROLE; INSERT INTO not_his VALUES (7)});
	is(sent(), '{"id": 7}', 'fay\'s');
	my ($action, $log) = split /\|/, $node->safe_psql('postgres', q{SELECT action_id, max(log_id) FROM webhook.webhook_log JOIN webhook.workflow USING (workflow_id) WHERE name = 'fay' GROUP BY 1});
	is($node->safe_psql('postgres', 'SET ROLE gus; SELECT count(*) FROM webhook.action; SELECT webhook.retry_failed()'), "1\n0", 'a member sees them');
	for my $call ("alter_action($action, parameters => '{\"x\": \"\${= current_user}\"}')", "preview($action, '7')", "test($action, '7')", "run_workflow('fay')", "retry($log)", "stat_reset($action)")
	{
		($rc, $stdout, $stderr) = $node->psql('postgres', "SET ROLE gus; SELECT webhook.$call");
		like($stderr, qr/ERROR:  (?:webhook action|workflow|delivery) .* does not exist/, "... and may not call $call");
	}
	is($node->safe_psql('postgres', "SET ROLE hal; SELECT body FROM webhook.preview($action, '7')"), '{"id": 7}', 'who may become the role may');
	is($node->safe_psql('postgres', "SET ROLE hal; SELECT webhook.retry($log)"), '', '... retry');
	sent();
}

# In a dump and its copy.
$node->safe_psql('postgres', q{
	CREATE ROLE eve; GRANT USAGE ON SCHEMA webhook TO eve; GRANT ALL ON not_his TO eve;
	SET ROLE eve; SELECT webhook.create_workflow('eve', 'not_his')});
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'bash', '-c', 'pg_dump -d "$0" | psql -XqAt -v ON_ERROR_STOP=1 -d "$1"', $node->connstr('postgres'), $node->connstr('restored') ], 'a dump is restored');
is($node->safe_psql('restored', q{SELECT count(*) FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid WHERE b.datname = 'restored' AND d.refobjid = 'eve'::regrole AND d.objsubid > 0}), '1',
	'... which knows the owners of its workflows');

$in = "\\q\n";
$timer->start($WebhookTest::patience);
$session->finish;
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Failed' AND error NOT LIKE '%was dropped'}), '0', 'nothing failed');
$receiver->stop;
$node->stop;
done_testing();
