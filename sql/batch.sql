-- Rows of the log are written many at a time, and nobody can tell.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = ISO;
SET intervalstyle = postgres;
TRUNCATE webhook.webhook_log;

CREATE TABLE parcel (id int PRIMARY KEY, state text);
SELECT webhook.create_workflow('parcel', 'parcel', 'save') > 0 AS created;
SELECT webhook.create_action('parcel', 'one', 'http://127.0.0.1:9/') > 0 AS created;

-- More than fit into a batch; the same transaction's next statement sees them all
BEGIN;
INSERT INTO parcel SELECT i, 'new' FROM generate_series(1, 1000) i;
SELECT count(*), count(DISTINCT log_id), count(DISTINCT webhook_id), min(record_id::int), max(record_id::int)
	FROM webhook.webhook_log;
WITH changed AS (UPDATE parcel SET state = 'sent' WHERE id <= 3 RETURNING id)
	SELECT count(*) FROM changed;
SELECT count(*) FROM webhook.webhook_log;
ROLLBACK;
SELECT count(*) FROM webhook.webhook_log;

-- Nothing of what failed half way
INSERT INTO parcel SELECT i % 500, 'new' FROM generate_series(1, 1000) i;
SELECT count(*) FROM webhook.webhook_log;

-- Triggers of others in between, with subtransactions that fail or don't, and
-- with changes of their own: each row stays with the subtransaction it is of
CREATE TABLE note (id int PRIMARY KEY, what text);
SELECT webhook.create_workflow('note', 'note', 'create') > 0 AS created;
SELECT webhook.create_action('note', 'two', 'http://127.0.0.1:9/') > 0 AS created;
CREATE FUNCTION take_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO note VALUES (new.id, 'noted');
		IF new.id % 2 = 0 THEN
			RAISE division_by_zero;
		END IF;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	RETURN NULL;
END$$;
CREATE TRIGGER zz_note AFTER INSERT ON parcel FOR EACH ROW EXECUTE FUNCTION take_note();
INSERT INTO parcel SELECT i, 'new' FROM generate_series(1, 6) i;
SELECT module, string_agg(record_id, ' ' ORDER BY log_id) FROM webhook.webhook_log GROUP BY module ORDER BY module::text;

-- The trigger that comes first begins them, too
TRUNCATE webhook.webhook_log, parcel, note;
CREATE TRIGGER aa_note AFTER INSERT ON parcel FOR EACH ROW EXECUTE FUNCTION take_note();
DROP TRIGGER zz_note ON parcel;
INSERT INTO parcel SELECT i, 'new' FROM generate_series(1, 6) i;
SELECT module, string_agg(record_id, ' ' ORDER BY log_id) FROM webhook.webhook_log GROUP BY module ORDER BY module::text;
DROP TRIGGER aa_note ON parcel;

-- A statement of a trigger, that queues nothing, doesn't have them written singly
TRUNCATE webhook.webhook_log, parcel, note;
CREATE TABLE audit (id int, n_written int);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit VALUES (new.id, (SELECT count(*) FROM webhook.webhook_log));
	RETURN NULL;
END$$;
CREATE TRIGGER zz_audit AFTER INSERT ON parcel FOR EACH ROW EXECUTE FUNCTION audit();
INSERT INTO parcel SELECT i, 'new' FROM generate_series(1, 500) i;
SELECT n_written, min(id), max(id) FROM audit GROUP BY n_written ORDER BY n_written;
SELECT count(*) FROM webhook.webhook_log;
DROP TRIGGER zz_audit ON parcel;

-- Within a function each statement sees what the one before has queued
TRUNCATE webhook.webhook_log, parcel, note;
CREATE FUNCTION count_queued() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text := '';
BEGIN
	FOR i IN 1..3 LOOP
		INSERT INTO parcel VALUES (i, 'new'), (i + 10, 'new');
		seen := seen || ' ' || (SELECT count(*) FROM webhook.webhook_log);
		BEGIN
			INSERT INTO parcel VALUES (i + 20, 'new');
			seen := seen || '/' || (SELECT count(*) FROM webhook.webhook_log);
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
	RETURN seen;
END$$;
SELECT count_queued();
SELECT string_agg(record_id, ' ' ORDER BY log_id) FROM webhook.webhook_log;

-- Cascades, deferred constraints' triggers, cursors
TRUNCATE webhook.webhook_log, parcel, note;
CREATE TABLE item (id int PRIMARY KEY, parcel_id int REFERENCES parcel ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
SELECT webhook.create_workflow('item', 'item', 'delete') > 0 AS created;
SELECT webhook.create_action('item', 'three', 'http://127.0.0.1:9/') > 0 AS created;
INSERT INTO parcel VALUES (1, 'new'), (2, 'new');
INSERT INTO item SELECT i, 1 + i % 2 FROM generate_series(1, 10) i;
TRUNCATE webhook.webhook_log;
DELETE FROM parcel WHERE id = 1;
SELECT string_agg(record_id, ' ' ORDER BY record_id::int) FROM webhook.webhook_log;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO parcel VALUES (new.id + 100, 'late'); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION late();
TRUNCATE webhook.webhook_log;
BEGIN;
INSERT INTO note VALUES (1, 'a'), (2, 'b');
SELECT count(*) FROM webhook.webhook_log;
COMMIT;
SELECT string_agg(module || ' ' || record_id, ', ' ORDER BY log_id) FROM webhook.webhook_log;

-- Runs
TRUNCATE webhook.webhook_log;
SELECT webhook.run_workflow('parcel');
SELECT count(*) FROM webhook.webhook_log;
DROP TABLE item, parcel, note, audit CASCADE;

-- A record is what to_jsonb makes of the row, whatever its types
CREATE TYPE mood AS ENUM ('calm', 'not so');
CREATE DOMAIN cents AS numeric(12,2);
CREATE DOMAIN words AS text[];
CREATE TYPE place AS (street text, number int);
CREATE TABLE everything (
	id bigint PRIMARY KEY, b boolean, i2 smallint, i4 int, o oid, f4 real, f8 double precision, n numeric, m cents,
	t text, v varchar(20), c char(8), "char" "char", nm name, by bytea, d date, ti time, tz timetz, ts timestamp,
	tstz timestamptz, iv interval, u uuid, j json, jb jsonb, ip inet, ci cidr, mac macaddr, e mood, w words,
	ia int[], ta text[], pl place, pla place[], r int4range, x xml, bits bit(4), pt point, mo money,
	dropped text, "Ärger, ""quoted""" text, g text GENERATED ALWAYS AS (upper(t)) STORED);
ALTER TABLE everything DROP COLUMN dropped;
SELECT webhook.create_workflow('everything', 'everything') > 0 AS created;
SELECT webhook.create_action('everything', 'all', 'http://127.0.0.1:9/') > 0 AS created;
TRUNCATE webhook.webhook_log;
INSERT INTO everything VALUES (9223372036854775807, true, -32768, -2147483648, 4294967295, 1.1, 1e308, 12345678901234567890.123456789, 0.10,
	E'a "text"\twith \\ all', 'varchar', 'char', 'x', 'name', '\xdeadbeef', '2026-02-28', '12:34:56.789', '12:34:56+02', '2026-02-28 12:34:56.789',
	'2026-02-28 12:34:56.789+02', '1 year 2 days', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b": 1, "a": [1, 2.50, null], "b": 2}', '{"x": {"y": []}}',
	'10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', 'not so', '{a,"b c",NULL}', '{{1,2},{3,NULL}}', '{}', ROW('street', 1), ARRAY[ROW('s', NULL)::place],
	'[1,5)', '<a>1</a>', B'1010', '(1,2)', 12.34, 'Ä');
INSERT INTO everything (id, n, f4, f8, d, ts, tstz, jb, j, ta) VALUES
	(1, 'NaN', 'NaN', '-Infinity', 'infinity', '-infinity', 'infinity', '"scalar"', '17', '{NULL}'),
	(2, 'Infinity', 0, -0.0, '4713-01-01 BC', '294276-12-31', '0044-03-15 12:00:00 BC', 'null', '[]', NULL),
	(3, 0.00, 1e-7, 0.1, NULL, NULL, NULL, '3.50', 'true', '{"{}"}');
SELECT id, l.record = to_jsonb(whole) AS is_same, l.record::text = to_jsonb(whole)::text AS prints_the_same
	FROM everything whole JOIN webhook.webhook_log l ON l.record_id = whole.id::text ORDER BY id;
DROP TABLE everything;
DROP TYPE mood, place CASCADE;
DROP DOMAIN words, cents;
DROP FUNCTION take_note, count_queued, late;
TRUNCATE webhook.webhook_log;

-- What somebody has done to the log is heeded, whoever writes: defaults and what is
-- generated, constraints, deferrable ones too, triggers and partitions
CREATE ROLE regress_clerk;
CREATE TABLE letter (id int PRIMARY KEY);
GRANT INSERT ON letter TO regress_clerk;
SELECT webhook.create_workflow('letter', 'letter', 'create') > 0 AS created;
SELECT webhook.create_action('letter', 'one', 'http://127.0.0.1:9/') > 0 AS created;
BEGIN;
ALTER TABLE webhook.webhook_log ADD plain text, ADD certain int NOT NULL DEFAULT 7, ADD twice bigint GENERATED ALWAYS AS (attempts + 2) STORED;
INSERT INTO letter VALUES (1), (2);
SELECT record_id, status, plain, certain, twice FROM webhook.webhook_log ORDER BY log_id;
ROLLBACK;
\set VERBOSITY terse
BEGIN;
ALTER TABLE webhook.webhook_log ADD CHECK (record_id <> '2');
INSERT INTO letter VALUES (1), (2);
ROLLBACK;
BEGIN;
ALTER TABLE webhook.webhook_log ADD UNIQUE (workflow_id) DEFERRABLE;
INSERT INTO letter VALUES (1), (2);
ROLLBACK;
\set VERBOSITY default
BEGIN;
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '%', concat_ws(' ', TG_LEVEL, new.record_id, current_user = (SELECT relowner::regrole::text FROM pg_class WHERE oid = TG_RELID));
	IF new.record_id = '1' THEN
		INSERT INTO public.letter VALUES (3);
	END IF;
	RETURN new;
END$$;
CREATE TRIGGER hear BEFORE INSERT ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TRIGGER hear_all AFTER INSERT ON webhook.webhook_log EXECUTE FUNCTION hear();
SET LOCAL ROLE regress_clerk;
INSERT INTO letter VALUES (1), (2);
RESET ROLE;
SELECT string_agg(record_id, ' ' ORDER BY record_id) FROM webhook.webhook_log;
ROLLBACK;
BEGIN;
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'heard'; RETURN new; END$$;
CREATE TRIGGER hear BEFORE UPDATE OR DELETE ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION hear();
INSERT INTO letter VALUES (1), (2);
SELECT count(*) FROM webhook.webhook_log;
ROLLBACK;
BEGIN;
ALTER TABLE webhook.webhook_log RENAME TO old_log;
CREATE TABLE webhook.webhook_log (LIKE webhook.old_log INCLUDING ALL) PARTITION BY RANGE (log_id);
CREATE TABLE webhook.all_log PARTITION OF webhook.webhook_log DEFAULT;
INSERT INTO letter SELECT i FROM generate_series(1, 300) i;
SELECT count(*) FROM webhook.all_log;
ROLLBACK;
INSERT INTO letter VALUES (1), (2);
SELECT string_agg(record_id, ' ' ORDER BY record_id) FROM webhook.webhook_log;
DROP TABLE letter;
DROP ROLE regress_clerk;
TRUNCATE webhook.webhook_log;
