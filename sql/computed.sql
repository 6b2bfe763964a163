-- Related and computed values: checked when configured, read once an event.
-- The worker of this cluster is switched off.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
DROP ROLE IF EXISTS regress_computed_owner, regress_computed_user, regress_computed_boss;
RESET client_min_messages;
-- Whoever made the cluster: what is read with the owner's rights shows his name.
CREATE ROLE regress_computed_boss SUPERUSER;
SET SESSION AUTHORIZATION regress_computed_boss;
SET timezone = 'UTC';
ALTER SEQUENCE webhook.action_action_id_seq RESTART WITH 101;
ALTER SEQUENCE webhook.webhook_log_log_id_seq RESTART;
CREATE SCHEMA sales;
CREATE SCHEMA "Base Data";
CREATE TABLE "Base Data".country (code text PRIMARY KEY, "Full Name" text);
CREATE TABLE sales.organization (
	tenant int, id int, name text, country text REFERENCES "Base Data".country,
	founded date, tags text[], info jsonb, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
CREATE TABLE sales.organization_1 PARTITION OF sales.organization FOR VALUES IN (1);
CREATE TABLE sales.organization_2 (
	info jsonb, id int NOT NULL, tenant int NOT NULL, tags text[], name text, founded date, country text);
ALTER TABLE sales.organization ATTACH PARTITION sales.organization_2 FOR VALUES IN (2);
CREATE TABLE sales.contact (id int PRIMARY KEY, name text, email text, "Boss" int REFERENCES sales.contact);
CREATE TABLE sales.task (deal_id int, hours numeric);
CREATE TABLE sales.deal (
	id int PRIMARY KEY, tenant int, organization_id int, contact_id int REFERENCES sales.contact,
	amount numeric(12,2), divisor int DEFAULT 1, no_key int,
	FOREIGN KEY (tenant, organization_id) REFERENCES sales.organization);
INSERT INTO "Base Data".country VALUES ('DE', 'Germany'), ('FR', 'France');
INSERT INTO sales.organization VALUES (1, 7, 'Müller', 'DE', '2001-02-03', '{a,b}', '{"x": [1.10]}'),
	(2, 7, 'Lefèvre', 'FR', NULL, NULL, NULL);
INSERT INTO sales.contact VALUES (1, 'Boss', 'boss@example.com', NULL), (2, 'Ann', 'ann@example.com', 1);
INSERT INTO sales.task VALUES (1, 1.5), (1, 2.25), (2, 8);

SET search_path = sales, public;
SELECT webhook.create_workflow('deal', 'deal', owner_email => '${contact_id.email}, ${= lower(new.id || ''@example.com'')}') > 0 AS created;
SELECT webhook.create_action('deal', 'all', 'https://example.com/${organization_id.country.code}', headers => '{"X-Boss": "${contact_id.\"Boss\".name}"}',
	parameters => '{"organization": "${organization_id.name}", "country": "${organization_id.country.\"Full Name\"}", "founded": "${organization_id.founded}",
	"tags": "${organization_id.tags}", "info": "${organization_id.info}", "boss": "${contact_id.Boss.email}", "old": "${old.contact_id.name}",
	"total": "${= round(amount * 1.19, 2)}", "tasks": "${= (SELECT count(*) FROM task t WHERE t.deal_id = new.id)}",
	"hours": "${= (SELECT sum(hours) FROM task WHERE deal_id = id)}", "more": "${= new.amount > coalesce(old.amount, 0)}",
	"text": "Total ${= amount || ''!''} for ${organization_id.name}", "none": "${= NULL}", "row": "${= to_jsonb(new) - ''amount''}",
	"list": "${= ARRAY(SELECT hours FROM task t WHERE t.deal_id = new.id ORDER BY 1)}", "who": "${= current_user}", "safe": "${= 10 / nullif(divisor, 0)}"}') AS action_id \gset
-- the SQL, all names qualified
SELECT key, value FROM webhook.action, jsonb_each_text(computed) WHERE action_id = :action_id ORDER BY key COLLATE "C";
SELECT computed FROM webhook.workflow WHERE name = 'deal';

-- what is refused when it is configured
CREATE FUNCTION pg_temp.try(parameters json) RETURNS TABLE (code text, message text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM webhook.create_action('deal', 'bad', 'https://example.com', parameters => parameters);
	RETURN QUERY SELECT 'accepted', '', '';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN NEXT;
END $$;
CREATE TEMP TABLE mine (a int);
\x
SELECT p AS parameters, t.* FROM unnest(ARRAY[
	'{"a": "${no_key.name}"}', '{"a": "${nowhere.name}"}', '{"a": "${contact_id.nothing}"}', '{"a": "${contact_id.name.x}"}',
	'{"a": "${tenant.name}"}', '{"a": "${= amount +}"}', '{"a": "${= nothing}"}', '{"a": "${= new.nothing}"}', '{"a": "${= (SELECT nothing FROM task)}"}',
	'{"a": "${= sum(amount)}"}', '{"a": "${= generate_series(1, 2)}"}', '{"a": "${= (SELECT a FROM mine)}"}', '{"a": "${= 1, 2}"}', '{"a": "${= 1 AS x}"}',
	'{"a": "${= 1; DROP TABLE deal}"}', '{"a": "${= $1}"}', '{"a": "${= (DELETE FROM task RETURNING 1)}"}', '{"a": "${=}"}', '{"a": "${= row_number() OVER ()}"}',
	'{"a": "${= (SELECT 1, 2)}"}', '{"a": "${= pg_notify(''a'', ''b'')}"}']) p, pg_temp.try(p::json) t;
\x

-- what an event gives; each value once, however many actions use it
CREATE FUNCTION noisy(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'computing %', n; RETURN n; END $$;
SELECT webhook.create_action('deal', 'again', 'https://example.com/', parameters => '{"a": "${= noisy(id)}", "b": "${= noisy(id)}", "c": "${= noisy(id)} ${organization_id.name}"}') > 0 AS created;
SELECT webhook.create_action('deal', 'third', 'https://example.com/${= noisy(id)}', parameters => '{"id": "${id}"}') > 0 AS created;
RESET search_path;
INSERT INTO sales.deal VALUES (1, 1, 7, 2, 100), (2, NULL, NULL, NULL, NULL);
SELECT log_id, action_id, status, jsonb_pretty(computed) FROM webhook.webhook_log ORDER BY log_id;
-- as of the event, not as of the delivery
UPDATE sales.organization SET name = 'Renamed';
SELECT l.log_id, v.key, v.value FROM webhook.webhook_log l, jsonb_each(computed) v WHERE key = 'organization_id.name' ORDER BY 1;
-- in the transaction that queues: it sees what the transaction did
BEGIN;
INSERT INTO sales.contact VALUES (3, 'New', 'new@example.com', 2);
UPDATE sales.deal SET contact_id = 3, tenant = 2, organization_id = 7, amount = 50 WHERE id = 1;
COMMIT;
SELECT key, value FROM webhook.webhook_log, jsonb_each(computed) WHERE operation = 'UPDATE' AND action_id = :action_id ORDER BY key COLLATE "C";
\x
SELECT method, url, body, headers->>'X-Boss' AS boss FROM webhook.preview(:action_id, '1');
\x
SELECT webhook.test(:action_id, '1') AS log_id \gset
SELECT operation, status, computed->'organization_id.name' AS name FROM webhook.webhook_log WHERE log_id = :log_id;

-- a value that fails fails its action's delivery and nothing else
TRUNCATE webhook.webhook_log;
SELECT webhook.alter_action(:action_id, parameters => '{"safe": "${= 10 / divisor}", "organization": "${organization_id.name}"}');
CREATE FUNCTION sales.fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO sales.task VALUES (99); RAISE EXCEPTION 'not today' USING ERRCODE = 'P0042'; END $$;
SELECT webhook.alter_workflow('deal', owner_email => '${= sales.fail()}');
SELECT action_id AS second_id FROM webhook.action WHERE title = 'again' \gset
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= sales.fail()}"}');
INSERT INTO sales.deal VALUES (3, 1, 7, 2, 100, 0);
SELECT action_id - :action_id AS n, status, retry_at IS NULL AS ended, completed_at IS NOT NULL AS completed, error, computed FROM webhook.webhook_log ORDER BY 1;
SELECT count(*) AS undone FROM sales.task WHERE deal_id = 99;
-- to be sent again by hand after mending: what is missing is computed then
SELECT log_id AS first_log FROM webhook.webhook_log WHERE action_id = :action_id \gset
SELECT log_id AS second_log FROM webhook.webhook_log WHERE action_id = :second_id \gset
SELECT webhook.retry(:second_log);
CREATE OR REPLACE FUNCTION sales.fail() RETURNS text LANGUAGE sql AS $$ SELECT 'mended' $$;
SELECT webhook.retry_failed();
SELECT action_id - :action_id AS n, status, error, computed FROM webhook.webhook_log ORDER BY 1;
SELECT webhook.alter_action(:action_id, parameters => '{"safe": "${= 10 / nullif(divisor, 0)}", "organization": "${organization_id.name}"}');
SELECT webhook.retry(:first_log);
SELECT status, error, computed FROM webhook.webhook_log WHERE log_id = :first_log;
-- of a row that went "old" is that row then, too
CREATE TABLE sales.bin (id int PRIMARY KEY, v int);
CREATE FUNCTION sales.shy(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not yet'; END $$;
SELECT webhook.create_workflow('bin', 'sales.bin', 'delete') > 0 AS created;
SELECT webhook.create_action('bin', 'a', 'https://example.com/', parameters => '{"a": "${= sales.shy(old.v)}", "b": "${= sales.shy(v)}"}') > 0 AS created;
INSERT INTO sales.bin VALUES (1, 5);
DELETE FROM sales.bin;
SELECT error FROM webhook.webhook_log WHERE module = 'sales.bin'::regclass;
CREATE OR REPLACE FUNCTION sales.shy(n int) RETURNS int LANGUAGE sql AS $$ SELECT n $$;
SELECT webhook.retry(log_id) FROM webhook.webhook_log WHERE module = 'sales.bin'::regclass;
SELECT status, computed FROM webhook.webhook_log WHERE module = 'sales.bin'::regclass;
DROP TABLE sales.bin;

-- a cancel is the session's, and a save goes on where the value's SQL is gone
SET statement_timeout = '200ms';
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= pg_sleep(10)::text}"}');
INSERT INTO sales.deal VALUES (4, 1, 7, 2, 100);
RESET statement_timeout;
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= sales.noisy(id)}"}');

-- old rows: of an update, on a create, on a delete
TRUNCATE webhook.webhook_log;
CREATE TABLE sales.log_entry (id int PRIMARY KEY, contact_id int REFERENCES sales.contact, n int);
SELECT webhook.create_workflow('gone', 'sales.log_entry', 'delete') > 0 AS created;
SELECT webhook.create_action('gone', 'a', 'https://example.com', parameters => '{"new": "${n}", "old": "${old.n}", "bare": "${= n}", "o": "${= old.n + 1}", "path": "${contact_id.name}", "old_path": "${old.contact_id.name}"}') > 0 AS created;
INSERT INTO sales.log_entry VALUES (1, 2, 5);
DELETE FROM sales.log_entry;
SELECT operation, record, old_record, computed FROM webhook.webhook_log;

-- rights: the owner's, not the writer's, and not more than the owner's
CREATE ROLE regress_computed_owner;
CREATE ROLE regress_computed_user;
GRANT USAGE ON SCHEMA webhook TO regress_computed_owner;
GRANT USAGE, CREATE ON SCHEMA sales TO regress_computed_owner;
GRANT USAGE ON SCHEMA sales TO regress_computed_user;
GRANT SELECT, TRIGGER ON sales.log_entry TO regress_computed_owner;
GRANT INSERT ON sales.log_entry TO regress_computed_user;
SELECT webhook.drop_workflow('gone');
SET ROLE regress_computed_owner;
SELECT webhook.create_workflow('mine', 'sales.log_entry', owner_email => '${contact_id.email}');
SELECT webhook.create_workflow('mine', 'sales.log_entry') > 0 AS created;
SELECT webhook.create_action('mine', 'a', 'https://example.com', parameters => '{"a": "${contact_id.name}"}');
SELECT webhook.create_action('mine', 'a', 'https://example.com', parameters => '{"a": "${= (SELECT name FROM sales.contact c WHERE c.id = new.contact_id)}"}');
RESET ROLE;
GRANT SELECT (id, name) ON sales.contact TO regress_computed_owner;
SET ROLE regress_computed_owner;
SELECT webhook.create_action('mine', 'a', 'https://example.com', parameters => '{"a": "${contact_id.email}"}');
SELECT webhook.create_action('mine', 'a', 'https://example.com', parameters => '{"a": "${contact_id.name}", "me": "${= current_user}"}') > 0 AS created;
SET ROLE regress_computed_user;
INSERT INTO sales.log_entry VALUES (2, 2, 1);
RESET ROLE;
SELECT status, computed FROM webhook.webhook_log WHERE record_id = '2';
REVOKE SELECT (id, name) ON sales.contact FROM regress_computed_owner;
SET ROLE regress_computed_user;
INSERT INTO sales.log_entry VALUES (3, 2, 1);
RESET ROLE;
SELECT status, error, computed FROM webhook.webhook_log WHERE record_id = '3';
-- a function's owner's trick: what a restricted context refuses
CREATE FUNCTION sales.trick() RETURNS text LANGUAGE plpgsql AS $$ BEGIN SET ROLE regress_computed_user; RETURN current_user; END $$;
SELECT webhook.alter_action(action_id, parameters => '{"a": "${= sales.trick()}"}') FROM webhook.action JOIN webhook.workflow USING (workflow_id) WHERE name = 'mine';
INSERT INTO sales.log_entry VALUES (4, 2, 1);
SELECT status, error FROM webhook.webhook_log WHERE record_id = '4';
SELECT webhook.drop_workflow('mine');

-- names that change: a path follows, an expression's are kept from changing
ALTER TABLE sales.organization RENAME TO company;
ALTER SCHEMA "Base Data" RENAME TO base;
SELECT key, value FROM webhook.action, jsonb_each_text(computed) WHERE action_id = :action_id ORDER BY key COLLATE "C";
ALTER TABLE sales.company RENAME name TO title;
ALTER TABLE sales.company DROP COLUMN name CASCADE;
ALTER FUNCTION sales.noisy(int) RENAME TO quiet;
DROP FUNCTION sales.noisy(int);
DROP TABLE sales.contact CASCADE;
ALTER TABLE sales.deal RENAME divisor TO d;
ALTER TABLE sales.deal ALTER divisor TYPE bigint;
ALTER TABLE sales.deal ALTER contact_id TYPE bigint;
INSERT INTO sales.deal VALUES (5, 1, 7, 2, 100, 3);
SELECT action_id - :action_id AS n, status, computed FROM webhook.webhook_log WHERE record_id = '5' ORDER BY 1;

-- a partition whose columns are in another order
CREATE TABLE sales.visit (id int, at date, contact_id int REFERENCES sales.contact, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sales.visit_1 (note text, at date NOT NULL, gone int, id int NOT NULL, contact_id int);
ALTER TABLE sales.visit_1 DROP COLUMN gone;
ALTER TABLE sales.visit ATTACH PARTITION sales.visit_1 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
SELECT webhook.create_workflow('visit', 'sales.visit') > 0 AS created;
SELECT webhook.create_action('visit', 'a', 'https://example.com', parameters => '{"a": "${contact_id.name}", "b": "${= note || id}", "c": "${= new}"}') > 0 AS created;
INSERT INTO sales.visit VALUES (9, '2026-05-05', 2, 'hello');
UPDATE sales.visit SET note = 'bye', contact_id = NULL;
SELECT operation, computed FROM webhook.webhook_log WHERE module = 'sales.visit'::regclass ORDER BY log_id;

-- values that queue events of their own
CREATE FUNCTION sales.book(d int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO sales.visit VALUES (d, '2026-06-06', 2, 'booked'); RETURN d; END $$;
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= sales.book(id)}"}');
INSERT INTO sales.deal VALUES (6, 1, 7, 2, 100, 3), (7, 1, 7, 2, 100, 3);
SELECT l.module, record_id, a.title, status, l.computed FROM webhook.webhook_log l JOIN webhook.action a USING (action_id)
	WHERE record_id LIKE '6%' OR record_id = '(6,2026-06-06)' OR record_id LIKE '(6%' ORDER BY log_id;

-- a function finds what it does not qualify only with a search path of its own
SET search_path = sales, public;
CREATE FUNCTION visits() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM visit); END';
CREATE FUNCTION visitors() RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS 'BEGIN RETURN (SELECT count(*) FROM visit); END';
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= visits()}"}');
SELECT body FROM webhook.preview(:second_id, '7');
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= visitors()}"}');
SELECT body FROM webhook.preview(:second_id, '7');
-- a setting that is not there is no matter of the search path
CREATE FUNCTION tenant() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_setting('crm.tenant'); END $$;
SELECT webhook.alter_action(:second_id, parameters => '{"a": "${= tenant()}"}');
SELECT body FROM webhook.preview(:second_id, '7');
RESET search_path;

-- constants are the same whatever the settings of who configures, and of who writes
CREATE TABLE sales.lease (id int PRIMARY KEY, since date, rate float8, term interval, raw bytea);
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'postgres_verbose';
SET extra_float_digits = -15;
SET bytea_output = 'escape';
SELECT webhook.create_workflow('lease', 'sales.lease', 'schedule', $$since > date '2026-02-03' AND rate <> '0.125'::float8 AND raw <> '\x5c'$$, schedule => '1 day') > 0 AS created;
SELECT webhook.create_action('lease', 'a', 'https://example.com', parameters => $${"after": "${= since > date '2026-02-03'}",
	"at": "${= since > timestamptz '2026-02-03 04:05:06+00'}", "rate": "${= rate * '0.125'::float8}", "long": "${= term > interval '1 mon -2 days'}",
	"raw": "${= raw || '\\x5c00'::bytea}", "text": "${= 'a\\b' || id}"}$$) > 0 AS created;
SET DateStyle = 'Postgres, MDY';
SET IntervalStyle = 'sql_standard';
SET standard_conforming_strings = off;
SET escape_string_warning = off;
INSERT INTO sales.lease VALUES (1, '2026-02-20', 0.5, '1 month', 'b'), (2, '2026-02-01', 0.5, '1 week', 'b'), (3, '2026-02-20', 0.125, '1 week', 'b');
SELECT webhook.run_workflow('lease');
SELECT record_id, error, computed FROM webhook.webhook_log WHERE module = 'sales.lease'::regclass ORDER BY log_id;
RESET standard_conforming_strings;
RESET escape_string_warning;
RESET bytea_output;
RESET extra_float_digits;
RESET IntervalStyle;
RESET DateStyle;

SET client_min_messages = warning;
DROP SCHEMA sales CASCADE;
DROP SCHEMA base CASCADE;
SELECT count(*) FROM webhook.workflow WHERE name IN ('deal', 'visit');
DELETE FROM webhook.webhook_log;
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_computed_owner, regress_computed_user, regress_computed_boss;
DROP ROLE regress_computed_owner, regress_computed_user, regress_computed_boss;
