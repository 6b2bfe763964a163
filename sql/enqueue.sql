-- What becomes of changes to a module.  The worker of this cluster is switched
-- off, so that the log stays as the triggers write it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
RESET client_min_messages;
SET timezone = 'UTC';

CREATE VIEW queued AS
	SELECT operation, record_id, record, old_record FROM webhook.webhook_log ORDER BY log_id;

-- Multi-row statements, savepoints, upserts, COPY, MERGE
CREATE TABLE deal (id int PRIMARY KEY, stage text, amount numeric(12,2),
	total numeric GENERATED ALWAYS AS (amount * 2) STORED);
SELECT webhook.create_workflow('won', 'deal', 'save', $$stage = 'Won' AND amount > 10$$) > 0 AS created;
SELECT webhook.create_action('won', 'invoice', 'http://127.0.0.1:9/') > 0 AS created;
INSERT INTO deal VALUES (1, 'Won', 20), (2, 'Open', 20), (3, 'Won', 5), (4, 'Won', 30);
SELECT * FROM queued;
TRUNCATE webhook.webhook_log;
UPDATE deal SET amount = amount + 10;
SELECT * FROM queued;
TRUNCATE webhook.webhook_log;
BEGIN;
INSERT INTO deal VALUES (5, 'Won', 50);
SAVEPOINT a;
INSERT INTO deal VALUES (6, 'Won', 60);
ROLLBACK TO a;
INSERT INTO deal VALUES (7, 'Won', 70);
RELEASE a;
COMMIT;
BEGIN;
INSERT INTO deal VALUES (8, 'Won', 80);
ROLLBACK;
SELECT record_id FROM queued;
TRUNCATE webhook.webhook_log;
INSERT INTO deal VALUES (5, 'Won', 55), (9, 'Won', 90)
	ON CONFLICT (id) DO UPDATE SET amount = excluded.amount;
INSERT INTO deal VALUES (5, 'Won', 56) ON CONFLICT DO NOTHING;
SELECT * FROM queued;
TRUNCATE webhook.webhook_log;
COPY deal (id, stage, amount) FROM stdin;
10	Won	100
11	Open	110
12	Won	120
\.
SELECT record_id FROM queued;
TRUNCATE webhook.webhook_log;
MERGE INTO deal d USING (VALUES (10, 'Won'), (11, 'Won'), (13, 'Won')) s (id, stage) ON d.id = s.id
	WHEN MATCHED AND d.id = 10 THEN DELETE
	WHEN MATCHED THEN UPDATE SET stage = s.stage
	WHEN NOT MATCHED THEN INSERT (id, stage, amount) VALUES (s.id, s.stage, 130);
SELECT operation, record_id FROM queued;
TRUNCATE webhook.webhook_log;

-- Each delivery is one row, due at once, with an id of its own
SELECT webhook.create_action('won', 'mail', 'http://127.0.0.1:9/') > 0 AS created;
INSERT INTO deal VALUES (20, 'Won', 200);
SELECT count(*), count(DISTINCT webhook_id), count(DISTINCT action_id),
	bool_and(status = 'Queued' AND attempts = 0 AND retry_at <= now() AND retry_at = queued_at
		AND dispatched_at IS NULL AND completed_at IS NULL AND error IS NULL) AS queued,
	min(module::text) AS module
	FROM webhook.webhook_log;
-- A disabled action queues nothing new, nor does a disabled workflow
SELECT webhook.enable_action(action_id, false) FROM webhook.action WHERE title = 'mail';
INSERT INTO deal VALUES (21, 'Won', 210);
SELECT count(*) FROM queued WHERE record_id = '21';
SELECT webhook.enable_workflow('won', false);
INSERT INTO deal VALUES (22, 'Won', 220);
SELECT count(*) FROM queued WHERE record_id = '22';
SELECT webhook.enable_workflow('won');
INSERT INTO deal VALUES (23, 'Won', 230);
SELECT count(*) FROM queued WHERE record_id = '23';
TRUNCATE webhook.webhook_log;
SELECT webhook.drop_workflow('won');

-- Recurrences
SELECT webhook.create_workflow('every', 'deal', 'save', $$stage = 'Won'$$) > 0 AS created;
SELECT webhook.create_workflow('change', 'deal', 'save', $$stage = 'Won'$$, 'change') > 0 AS created;
SELECT webhook.create_workflow('first', 'deal', 'save', $$stage = 'Won'$$, 'first') > 0 AS created;
SELECT count(webhook.create_action(name, 'x', 'http://127.0.0.1:9/')) FROM webhook.workflow;
CREATE VIEW by_workflow AS
	SELECT w.name, l.operation, l.record_id FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id)
	ORDER BY l.log_id;
INSERT INTO deal VALUES (100, 'Open', 1);
UPDATE deal SET stage = 'Won' WHERE id = 100;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
UPDATE deal SET amount = 2 WHERE id = 100;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
UPDATE deal SET stage = 'Open' WHERE id = 100;
UPDATE deal SET stage = 'Won' WHERE id = 100;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
UPDATE deal SET stage = NULL WHERE id = 100;
UPDATE deal SET stage = 'Won' WHERE id = 100;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
-- the key changes: the same record still; deleted and made again: a new one
UPDATE deal SET id = 101 WHERE id = 100;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
DELETE FROM deal WHERE id = 101;
INSERT INTO deal VALUES (101, 'Won', 1);
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
TRUNCATE deal;
SELECT count(*) FROM webhook.seen;
INSERT INTO deal VALUES (101, 'Won', 1);
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
SELECT webhook.drop_workflow(name) FROM webhook.workflow;
SELECT count(*) FROM webhook.seen;

-- delete, and old. in the criteria
SELECT webhook.create_workflow('gone', 'deal', 'delete', $$stage = 'Won'$$) > 0 AS created;
SELECT webhook.create_workflow('up', 'deal', 'save', $$amount > old.amount OR old.id IS NULL$$) > 0 AS created;
SELECT count(webhook.create_action(name, 'x', 'http://127.0.0.1:9/')) FROM webhook.workflow;
INSERT INTO deal VALUES (200, 'Open', 1);
UPDATE deal SET amount = 1 WHERE id = 200;
UPDATE deal SET amount = 2 WHERE id = 200;
DELETE FROM deal WHERE id IN (101, 200);
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
SELECT webhook.drop_workflow(name) FROM webhook.workflow;
DROP VIEW by_workflow;
DROP TABLE deal;

-- Names that need quotes, a schema outside the path, a composite key
CREATE SCHEMA "Sales Dept";
CREATE TABLE "Sales Dept"."Deal Item" ("Deal" int, "Line No" text, "Close Date" date, "old" bool,
	PRIMARY KEY ("Deal", "Line No"));
SELECT webhook.create_workflow('It''s "quoted"', '"Sales Dept"."Deal Item"', 'save',
	$$"Close Date" IS NOT NULL AND new."Deal" > 0 AND "old"$$) > 0 AS created;
SELECT webhook.create_action('It''s "quoted"', 'x', 'http://127.0.0.1:9/') > 0 AS created;
INSERT INTO "Sales Dept"."Deal Item" VALUES (1, 'a "b", c', '2026-03-29', true), (2, 'x', NULL, true), (3, 'y', '2026-03-29', false);
SELECT *  FROM queued;
SELECT module FROM webhook.webhook_log;
TRUNCATE webhook.webhook_log;
DROP SCHEMA "Sales Dept" CASCADE;
SELECT count(*) FROM webhook.workflow;

-- No key: no record_id
CREATE TABLE note (body text);
SELECT webhook.create_workflow('note', 'note') > 0 AS created;
SELECT webhook.create_action('note', 'x', 'http://127.0.0.1:9/') > 0 AS created;
INSERT INTO note VALUES ('hello');
SELECT * FROM queued;
TRUNCATE webhook.webhook_log;
DROP TABLE note;

-- Types: every digit, ISO 8601, hex, nested json, whatever the session's settings
CREATE TABLE typed (id bigint PRIMARY KEY, n numeric, f float8, b bool, ts timestamptz, t timestamp, d date,
	j json, jb jsonb, a int[], x bytea, i interval, r daterange, u uuid, e text);
SELECT webhook.create_workflow('typed', 'typed') > 0 AS created;
SELECT webhook.create_action('typed', 'x', 'http://127.0.0.1:9/') > 0 AS created;
SET bytea_output = 'escape'; SET extra_float_digits = -5; SET datestyle = 'German'; SET intervalstyle = 'sql_standard';
INSERT INTO typed VALUES (9223372036854775807, 12345678901234567890.12345678901234567890, 0.1::float8 + 0.2, true,
	'2026-03-29 01:30:00+00', '2026-03-29 01:30:00', '2026-03-29', '{"b": [1.50, {"c": null}], "a": "\u00e9"}', '{"k": 1e3}',
	'{1,NULL,3}', '\xdeadbeef', '1 day 02:03:04', '[2026-01-01,2026-02-01)', '00000000-0000-0000-0000-000000000001', '');
RESET bytea_output; RESET extra_float_digits; RESET datestyle; RESET intervalstyle;
SELECT jsonb_pretty(record) FROM webhook.webhook_log;
TRUNCATE webhook.webhook_log;
-- A record that can't be made into jsonb doesn't fail the writer
INSERT INTO typed (id, j) VALUES (1, '"\u0000"');
SELECT operation, record_id, record, status, retry_at, completed_at IS NOT NULL AS completed, error FROM webhook.webhook_log;
TRUNCATE webhook.webhook_log;
DROP TABLE typed;

-- A record is the same one, wherever it is written from
CREATE TABLE reading (at timestamptz, sensor text, v float8, PRIMARY KEY (at, sensor));
CREATE TABLE tick (at timestamptz PRIMARY KEY, v int);
SELECT webhook.create_workflow('reading', 'reading', recurrence => 'first') > 0 AS created;
SELECT webhook.create_workflow('tick', 'tick', recurrence => 'first') > 0 AS created;
CREATE TABLE about (class regclass PRIMARY KEY, v int);
SELECT webhook.create_workflow('about', 'about', recurrence => 'first') > 0 AS created;
SELECT count(webhook.create_action(name, 'x', 'http://127.0.0.1:9/')) FROM webhook.workflow;
SET timezone = 'Asia/Tokyo';
INSERT INTO reading VALUES ('2026-01-01 00:00+00', 'a', 1);
INSERT INTO tick VALUES ('2026-01-01 00:00+00', 1);
INSERT INTO about VALUES ('tick', 1);
SET timezone = 'UTC';
SET search_path = pg_catalog;
SET quote_all_identifiers = on;
UPDATE public.reading SET v = 2;
UPDATE public.tick SET v = 2;
UPDATE public.about SET v = 2;
RESET search_path;
RESET quote_all_identifiers;
SELECT record_id FROM webhook.webhook_log ORDER BY log_id;
SELECT body FROM webhook.webhook_log, webhook.preview(action_id, record_id) ORDER BY log_id;
TRUNCATE webhook.webhook_log;
DROP TABLE reading, tick, about;

-- Partitions: the parent is the module; a row that moves is updated
CREATE TABLE event (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE event_eu PARTITION OF event FOR VALUES IN ('eu');
CREATE TABLE event_us (v int, region text NOT NULL, id int NOT NULL);
ALTER TABLE event ATTACH PARTITION event_us FOR VALUES IN ('us');
SELECT webhook.create_workflow('c', 'event', 'create') > 0 AS created;
SELECT webhook.create_workflow('u', 'event', 'update', $$v > 1$$) > 0 AS created;
SELECT webhook.create_workflow('ch', 'event', 'save', $$v > 1$$, 'change') > 0 AS created;
SELECT webhook.create_workflow('f', 'event', 'save', $$v > 1$$, 'first') > 0 AS created;
SELECT webhook.create_workflow('d', 'event', 'delete') > 0 AS created;
SELECT count(webhook.create_action(name, 'x', 'http://127.0.0.1:9/')) FROM webhook.workflow;
CREATE VIEW by_workflow AS
	SELECT w.name, l.module, l.operation, l.record_id, l.record, l.old_record
	FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id) ORDER BY l.log_id;
INSERT INTO event VALUES (1, 'eu', 1), (2, 'us', 2);
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
UPDATE event SET region = 'us' WHERE id = 1;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
UPDATE event SET region = 'eu', v = v + 1;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
INSERT INTO event_us VALUES (7, 'us', 3);
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
DELETE FROM event WHERE id = 1;
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
CREATE TABLE event_asia PARTITION OF event FOR VALUES IN ('asia');
INSERT INTO event VALUES (4, 'asia', 4);
SELECT name, module, operation, record_id FROM by_workflow; TRUNCATE webhook.webhook_log;
-- What a row has by a column's default for rows of before, it had where it was
ALTER TABLE event ADD COLUMN n int DEFAULT 5;
CREATE TABLE event_africa PARTITION OF event FOR VALUES IN ('africa');
SELECT webhook.create_workflow('n', 'event', 'update', $$n = 5$$, 'change') > 0 AS created;
SELECT webhook.create_action('n', 'x', 'http://127.0.0.1:9/') > 0 AS created;
UPDATE event SET region = 'africa' WHERE id = 4;
UPDATE event SET region = 'us' WHERE region = 'eu';
SELECT * FROM by_workflow; TRUNCATE webhook.webhook_log;
ALTER TABLE event DETACH PARTITION event_asia;
INSERT INTO event_asia VALUES (5, 'asia', 5);
SELECT name, module, operation, record_id FROM by_workflow; TRUNCATE webhook.webhook_log;
DROP TABLE event, event_asia CASCADE;

-- A row that a trigger of somebody's keeps from arriving is not met in another one
CREATE TABLE visit (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE visit_eu PARTITION OF visit FOR VALUES IN ('eu');
CREATE TABLE visit_us PARTITION OF visit FOR VALUES IN ('us');
CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN CASE WHEN new.id > 1 THEN new END; END$$;
CREATE TRIGGER keep_out BEFORE INSERT ON visit_us FOR EACH ROW EXECUTE FUNCTION keep_out();
INSERT INTO visit VALUES (1, 'eu'), (2, 'eu'), (3, 'eu');
SELECT webhook.create_workflow('visit', 'visit') > 0 AS created;
SELECT webhook.create_action('visit', 'x', 'http://127.0.0.1:9/') > 0 AS created;
BEGIN;
UPDATE visit SET region = 'us' WHERE id = 1;
INSERT INTO visit VALUES (7, 'us');
UPDATE visit SET region = 'us' WHERE id = 2;
UPDATE visit SET region = 'us' WHERE id = 3;
UPDATE visit SET region = 'eu' WHERE id = 7;
COMMIT;
SELECT * FROM queued;
DROP TABLE visit;
DROP FUNCTION keep_out;
TRUNCATE webhook.webhook_log;

-- A cast that is called for a column may change the same table
CREATE TYPE temper AS ENUM ('calm', 'wild');
CREATE TABLE horse (id int PRIMARY KEY, t temper, filler text);
SELECT webhook.create_workflow('horse', 'horse') > 0 AS created;
SELECT webhook.create_action('horse', 'x', 'http://127.0.0.1:9/') > 0 AS created;
CREATE FUNCTION to_json(temper) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = 'wild' THEN
		GRANT SELECT ON public.horse TO PUBLIC;
		INSERT INTO public.horse VALUES (2, 'calm', 'new');
	END IF;
	RETURN pg_catalog.to_json($1::text);
END$$;
CREATE CAST (temper AS json) WITH FUNCTION to_json(temper);
INSERT INTO horse VALUES (1, 'wild', 'old');
SELECT * FROM queued;
DROP TABLE horse;
DROP TYPE temper CASCADE;
TRUNCATE webhook.webhook_log;

-- A trigger that somebody made by hand is no way in
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int PRIMARY KEY);
SELECT webhook.create_workflow('a', 'a') AS workflow_id \gset
SELECT webhook.create_action('a', 'x', 'http://127.0.0.1:9/') > 0 AS created;
CREATE TRIGGER forged AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION webhook.enqueue(:workflow_id);
INSERT INTO b VALUES (1);
DROP TRIGGER forged ON b;
CREATE TRIGGER forged AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION webhook.enqueue();
INSERT INTO b VALUES (1);
DROP TABLE a, b;
SELECT count(*) FROM queued;

-- A new session finds what is configured, whatever indexes a DBA has made
CREATE TABLE a (id int PRIMARY KEY);
SELECT count(webhook.create_workflow('w' || i, 'a', condition => 'id = ' || i)) FROM generate_series(1, 3) i;
SELECT count(webhook.create_action('w' || i, t, 'http://127.0.0.1:9/' || i || t, ordered => t = 'y')) FROM generate_series(1, 3) i, unnest('{x,y,z}'::text[]) t;
SELECT webhook.enable_action(action_id, false) FROM webhook.action WHERE url LIKE '%2z';
CREATE VIEW sent AS SELECT record_id, title, l.ordered FROM webhook.webhook_log l JOIN webhook.action USING (action_id) ORDER BY log_id;
DROP INDEX webhook.action_workflow_id_idx;
CREATE INDEX mine ON webhook.action USING hash (workflow_id);
CREATE INDEX his ON webhook.action (workflow_id) WHERE title = 'none';
\c -
INSERT INTO a VALUES (2);
DROP INDEX webhook.mine, webhook.his;
CREATE INDEX ours ON webhook.action (workflow_id DESC, title);
\c -
INSERT INTO a VALUES (1);
DROP INDEX webhook.ours;
CREATE INDEX action_workflow_id_idx ON webhook.action (workflow_id);
\c -
INSERT INTO a VALUES (3);
SELECT * FROM sent;
DROP TABLE a CASCADE;
