-- Schedules, and runs by hand.  The worker of this cluster is switched off.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
DROP ROLE IF EXISTS regress_schedule;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO';
ALTER SEQUENCE webhook.action_action_id_seq RESTART WITH 401;
ALTER SEQUENCE webhook.webhook_log_log_id_seq RESTART;
CREATE FUNCTION pg_temp.runs(zone text, schedule text, after timestamptz, n int DEFAULT 3) RETURNS TABLE (utc timestamptz, local timestamp) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		after := webhook.next_run(schedule, after, zone);
		utc := after;
		local := after AT TIME ZONE zone;
		RETURN NEXT;
	END LOOP;
END $$;

SELECT s AS schedule, webhook.next_run(s, '2026-11-24 10:30:20+00', 'UTC') FROM unnest(ARRAY[
	'* * * * *', '*/20 * * * *', '5,35 8-18/2 * * *', '0 0 1 jan *', '0 12 * * MON,wed', '30 4 1,15 * 5', '0 0 29 2 *', '59 23 31 12 7', '10/25 * * * *',
	'@hourly', '@daily', '@Weekly', '@monthly', '@yearly', E'\t0  9   * * sun ', '1 hour', '90 seconds', '1 day 12:00', 'PT36H', '2 weeks']) s;
SELECT s AS schedule, webhook.next_run(s, '2026-11-24 10:30:20+00', 'UTC') FROM unnest(ARRAY[
	'0 9 1 jan mon', '0 0 1 jan,jul 0', '@daily ', '1-2 3 days 4 hours', '0 0 31 2 1']) s;
SELECT * FROM pg_temp.runs('UTC', '0 9 * * 1-5', '2026-11-27 08:00+00');
SELECT * FROM pg_temp.runs('UTC', '15 minutes', '2026-11-27 08:00:30+00', 2);
\set VERBOSITY terse
SELECT webhook.next_run('61 * * * *');
SELECT webhook.next_run('* 24 * * *');
SELECT webhook.next_run('* * 0 * *');
SELECT webhook.next_run('* * * 13 *');
SELECT webhook.next_run('* * * * 8');
SELECT webhook.next_run('* * * *');
SELECT webhook.next_run('* * * * * *');
SELECT webhook.next_run('5-1 * * * *');
SELECT webhook.next_run('*/0 * * * *');
SELECT webhook.next_run('* * * */jan *');
SELECT webhook.next_run('0 0 30 2 *');
SELECT webhook.next_run('@often');
SELECT webhook.next_run('sometimes');
SELECT webhook.next_run('-1 hour');
SELECT webhook.next_run('0');
SELECT webhook.next_run('');
SELECT webhook.next_run('1 hour', now(), 'Nowhere');
SELECT webhook.next_run(NULL), webhook.next_run('1 hour', 'infinity');
\set VERBOSITY default
SELECT webhook.next_run('every hour');

-- Europe/Berlin puts its clocks forward on 2027-03-28 at 2:00: what is skipped runs
-- at the change, what goes by the clock goes on
SELECT * FROM pg_temp.runs('Europe/Berlin', '30 2 * * *', '2027-03-26 12:00+00');
SELECT * FROM pg_temp.runs('Europe/Berlin', '0 3 * * *', '2027-03-27 12:00+00', 2);
SELECT * FROM pg_temp.runs('Europe/Berlin', '*/30 * * * *', '2027-03-28 00:00+00', 4);
SELECT * FROM pg_temp.runs('Europe/Berlin', '15 * * * *', '2027-03-27 23:30+00', 3);
SELECT * FROM pg_temp.runs('Europe/Berlin', '1 hour', '2027-03-28 00:10+00', 3);
SELECT * FROM pg_temp.runs('Europe/Berlin', '1 day', '2027-03-27 11:00+00', 2);
-- and back on 2027-10-31 at 3:00: a given time runs once, the clock both times
SELECT * FROM pg_temp.runs('Europe/Berlin', '30 2 * * *', '2027-10-29 12:00+00', 4);
SELECT * FROM pg_temp.runs('Europe/Berlin', '*/30 * * * *', '2027-10-30 23:40+00', 7);
SELECT * FROM pg_temp.runs('Europe/Berlin', '15 * * * *', '2027-10-30 23:30+00', 4);
SELECT * FROM pg_temp.runs('Europe/Berlin', '0 2,3 * * *', '2027-10-30 12:00+00', 3);
SELECT * FROM pg_temp.runs('Europe/Berlin', '1 day', '2027-10-30 10:00+00', 2);
-- zones without a change, and with one of half an hour
SELECT * FROM pg_temp.runs('Asia/Kolkata', '30 2 * * *', '2027-03-27 12:00+00');
SELECT * FROM pg_temp.runs('Asia/Kolkata', '30 2 * * *', '2027-10-30 12:00+00');
SELECT * FROM pg_temp.runs('Australia/Lord_Howe', '15 2 * * *', '2027-10-01 12:00+00');
SELECT * FROM pg_temp.runs('Australia/Lord_Howe', '45 1 * * *', '2027-04-02 12:00+00');
-- and one that changes its clocks at a quarter to three and to four
SELECT * FROM pg_temp.runs('Pacific/Chatham', '*/5 3 * * *', '2026-09-26 13:30+00', 3);
SELECT * FROM pg_temp.runs('Pacific/Chatham', '*/5 2 * * *', '2027-04-03 13:40+00', 5);

-- workflows
CREATE TABLE task (id int PRIMARY KEY, due date, done boolean, n int);
CREATE TABLE plain (a int);
\set VERBOSITY terse
SELECT webhook.create_workflow('late', 'task', 'schedule');
SELECT webhook.create_workflow('late', 'task', 'save', schedule => '1 hour');
SELECT webhook.create_workflow('late', 'task', 'schedule', schedule => 'whenever');
SELECT webhook.create_workflow('late', 'task', 'schedule', 'true', 'change', '1 hour');
SELECT webhook.create_workflow('late', 'task', 'schedule', 'old.done', schedule => '1 hour');
SELECT webhook.create_workflow('late', 'task', 'schedule', 'nothing', schedule => '1 hour');
SELECT webhook.create_workflow('late', 'plain', 'schedule', recurrence => 'first', schedule => '1 hour');
\set VERBOSITY default
CREATE SCHEMA helper;
CREATE FUNCTION helper.is_late(d date) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT d < '2026-11-01' $$;
SET search_path = public, helper;
SELECT webhook.create_workflow('late', 'task', 'schedule', 'is_late(due) AND NOT new.done', schedule => '0 9 * * 1-5') > 0 AS created;
RESET search_path;
SELECT webhook.create_action('late', 'remind', 'https://example.com/', parameters => '{"id": "${id}", "twice": "${= n * 2}"}') AS action_id;
SELECT condition_sql, next_run_at > now() AS planned, next_run_at = webhook.next_run(schedule) AS as_told FROM webhook.workflow WHERE name = 'late';
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'task'::regclass;
INSERT INTO task SELECT i, date '2026-10-25' + i, i % 3 = 0, i FROM generate_series(1, 20) i;
SELECT count(*) FROM webhook.webhook_log;
SELECT webhook.run_workflow('late');
SELECT log_id, operation, module, record_id, record, computed, status FROM webhook.webhook_log ORDER BY 1;
ALTER TABLE task DROP COLUMN due;
ALTER TABLE task RENAME done TO finished;
ALTER FUNCTION helper.is_late(date) RENAME TO is_past;
DROP FUNCTION helper.is_late(date);
SELECT webhook.enable_workflow('late', false);
SELECT enabled, next_run_at FROM webhook.workflow WHERE name = 'late';
SELECT webhook.run_workflow('late');
SELECT webhook.enable_workflow('late');
SELECT enabled, next_run_at IS NOT NULL AS planned FROM webhook.workflow WHERE name = 'late';
SELECT webhook.alter_workflow('late', schedule => '2 days', condition => '');
SELECT next_run_at BETWEEN now() + interval '47 hours' AND now() + interval '49 hours' AS planned, condition_sql FROM webhook.workflow WHERE name = 'late';
DELETE FROM webhook.webhook_log;
SELECT webhook.run_workflow('late');
SELECT webhook.alter_workflow('late', trigger => 'save', condition => 'n > 18');
SELECT trigger, schedule, next_run_at FROM webhook.workflow WHERE name = 'late';
SELECT webhook.alter_workflow('late', trigger => 'schedule');
SELECT webhook.alter_workflow('late', trigger => 'schedule', schedule => '1 hour', recurrence => 'first');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'task'::regclass ORDER BY 1;

-- first: once in a record's life, whichever way it comes
DELETE FROM webhook.webhook_log;
SELECT webhook.run_workflow('late');
SELECT webhook.run_workflow('late');
INSERT INTO task VALUES (21, NULL, false, 21);
SELECT webhook.run_workflow('late');
SELECT webhook.alter_workflow('late', trigger => 'create');
INSERT INTO task VALUES (22, NULL, false, 22);
SELECT webhook.run_workflow('late');
DELETE FROM task WHERE id = 22;
INSERT INTO task VALUES (22, NULL, false, 22);
SELECT operation, count(*) FROM webhook.webhook_log GROUP BY 1 ORDER BY 1;
SELECT webhook.drop_workflow('late');

-- any workflow by hand: of a change every record that meets it now, old rows are null
DELETE FROM webhook.webhook_log;
SELECT webhook.create_workflow('change', 'task', 'save', 'n > 15', 'change') > 0 AS created;
SELECT webhook.create_action('change', 'a', 'https://example.com/') > 0 AS created;
SELECT webhook.create_workflow('gone', 'task', 'delete', 'n = 3 OR old.n = 4') > 0 AS created;
SELECT webhook.create_action('gone', 'a', 'https://example.com/') > 0 AS created;
SELECT webhook.create_workflow('more', 'task', 'update', 'new.n > 5 AND old.n IS NULL') > 0 AS created;
SELECT webhook.create_action('more', 'a', 'https://example.com/') > 0 AS created;
SELECT webhook.create_workflow('empty', 'task') > 0 AS created;
SELECT webhook.run_workflow('change'), webhook.run_workflow('gone'), webhook.run_workflow('more'), webhook.run_workflow('empty');
SELECT webhook.run_workflow('unknown');
-- a value that fails fails its delivery, a condition that fails the run
SELECT webhook.alter_workflow('gone', condition => '1 / (n - 5) > 0');
SELECT webhook.run_workflow('gone');
-- with the owner's rights, for members only
CREATE ROLE regress_schedule;
GRANT USAGE ON SCHEMA webhook TO regress_schedule;
SET ROLE regress_schedule;
SELECT webhook.run_workflow('change');
RESET ROLE;
GRANT SELECT, TRIGGER ON task TO regress_schedule;
ALTER TABLE task ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON task FOR SELECT TO regress_schedule USING (id <= 2);
SET ROLE regress_schedule;
SELECT webhook.create_workflow('mine', 'task', 'schedule', schedule => '1 hour') > 0 AS created;
SELECT webhook.create_action('mine', 'a', 'https://example.com/') > 0 AS created;
SELECT webhook.run_workflow('mine');
RESET ROLE;
SELECT webhook.run_workflow('mine');
REVOKE SELECT ON task FROM regress_schedule;
SELECT webhook.run_workflow('mine');
-- partitions; children that inherit are other tables
CREATE TABLE visit (id int, at date, new int, t int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE visit_1 (t int, at date NOT NULL, new int, id int NOT NULL);
ALTER TABLE visit ATTACH PARTITION visit_1 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO visit VALUES (1, '2026-05-05', 7, 8), (2, '2026-05-06', 9, 10);
SELECT webhook.create_workflow('visit', 'visit', 'schedule', 'new > 7', schedule => '1 hour') > 0 AS created;
SELECT webhook.create_action('visit', 'a', 'https://example.com/') AS visit_id \gset
SELECT webhook.run_workflow('visit');
SELECT module, record_id, record FROM webhook.webhook_log WHERE operation = 'MANUAL' AND module = 'visit'::regclass;
SELECT body FROM webhook.preview(:visit_id, '(1,2026-05-05)');
CREATE TABLE child () INHERITS (plain);
INSERT INTO plain VALUES (1);
INSERT INTO child VALUES (2);
SELECT webhook.create_workflow('plain', 'plain', 'schedule', schedule => '1 hour') > 0 AS created;
SELECT webhook.create_action('plain', 'a', 'https://example.com/') > 0 AS created;
SELECT webhook.run_workflow('plain');
-- not even a superuser takes the schedule from under it
DO $$ BEGIN UPDATE webhook.workflow SET schedule = NULL WHERE name = 'plain';
EXCEPTION WHEN check_violation THEN RAISE NOTICE '%', SQLERRM; END $$;
SELECT json_array_length(webhook.export()->'workflows'), (webhook.export()->'workflows'->5)::jsonb - 'actions' AS mine;

SET client_min_messages = warning;
DROP TABLE task, plain, child, visit CASCADE;
DROP SCHEMA helper CASCADE;
DELETE FROM webhook.webhook_log;
DROP OWNED BY regress_schedule;
DROP ROLE regress_schedule;
