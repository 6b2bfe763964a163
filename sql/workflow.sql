--
-- Workflows: criteria and recurrence made into triggers
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
ALTER SEQUENCE webhook.workflow_workflow_id_seq RESTART WITH 1001;
CREATE SCHEMA crm;
SET search_path = crm, public;

CREATE TABLE deal (
	id integer PRIMARY KEY,
	stage text,
	amount numeric,
	won boolean,
	doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
);
CREATE TABLE "Deal Item" (
	"Deal" integer,
	"No" text,
	"Close Date" date,
	"new" integer,
	PRIMARY KEY ("Deal", "No")
);
CREATE TABLE note (body text);
CREATE TABLE account (id bigint, region text, name text, PRIMARY KEY (region, id))
	PARTITION BY LIST (region);
CREATE TABLE account_eu PARTITION OF account FOR VALUES IN ('eu');
CREATE TABLE account_us (name text, id bigint NOT NULL, region text NOT NULL);
ALTER TABLE account ATTACH PARTITION account_us FOR VALUES IN ('us');
CREATE VIEW deal_view AS SELECT * FROM deal;
CREATE FUNCTION is_big(amount numeric) RETURNS boolean
	LANGUAGE sql IMMUTABLE AS 'SELECT amount > 1000000';

-- what the criteria become
CREATE VIEW triggers AS
SELECT tgrelid::regclass AS module, tgname, tgenabled AS on,
	regexp_replace(pg_get_triggerdef(oid, true), '^CREATE TRIGGER \S+ |^CREATE TRIGGER ".*" (?=AFTER)', '') AS definition
FROM pg_trigger
WHERE tgfoid IN ('webhook.enqueue'::regproc, 'webhook.forget'::regproc) AND tgparentid = 0;

SELECT webhook.create_workflow('won', 'deal', 'update', 'stage = ''Closed Won'' AND amount > 1000', 'change');
SELECT webhook.create_workflow('grown', 'deal', 'SAVE', 'new.amount > old.amount OR old.amount IS NULL -- really', 'Every');
SELECT webhook.create_workflow('created', 'deal', 'create', 'is_big(doubled) AND old.won IS NULL');
SELECT webhook.create_workflow('gone', 'deal', 'delete', 'stage IS NOT NULL AND old.won');
SELECT webhook.create_workflow('all', 'deal');
SELECT webhook.create_workflow('rows', 'deal', 'save', 'old IS NULL OR (old).stage <> (new).stage OR new.* IS DISTINCT FROM old.*');
SELECT webhook.create_workflow('once', 'deal', 'save', 'won', 'first');
SELECT webhook.create_workflow('changed on create', 'deal', 'create', NULL, 'change');
SELECT webhook.create_workflow('item', '"Deal Item"', 'save',
	'"Close Date" < current_date AND NEW."No" <> '''' AND "new" > 0 AND (new."new" IS DISTINCT FROM "old"."new")');
SELECT webhook.create_workflow('item once', '"Deal Item"', 'create', '', 'first', description => 'each item once');
SELECT webhook.create_workflow('note', 'note', condition => 'body LIKE ''%new.body%'' /* body */');
SELECT webhook.create_workflow('account', 'account', 'update', 'name <> old.name', owner_email => '${name}@example.com');
SELECT webhook.create_workflow('account eu', 'account_eu', 'delete');
SELECT webhook.create_workflow(
	'a name that is much too long for the name of a trigger', 'note');
SELECT module, tgname, definition FROM triggers ORDER BY module::text COLLATE "C", tgname;
\d deal
SELECT workflow_id, name, module, trigger, condition, recurrence, owner_email, owner = current_user::regrole AS mine, enabled, description
FROM webhook.workflow WHERE workflow_id > 1000 ORDER BY workflow_id;

-- what they queue
SELECT count(webhook.create_action(name, 'test', 'http://127.0.0.1:9/'))
FROM webhook.workflow WHERE workflow_id > 1000;
CREATE VIEW queue AS
SELECT log_id, w.name, l.operation, l.record_id
FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id)
WHERE workflow_id > 1000;

INSERT INTO deal (id, stage, amount, won) VALUES (1, 'New', 10, NULL), (2, 'Closed Won', 2000000, true);
UPDATE deal SET stage = 'Closed Won', amount = 5000 WHERE id = 1;
UPDATE deal SET amount = 4000, won = true WHERE id = 1;
UPDATE deal SET id = 3 WHERE id = 1;
UPDATE deal SET won = true WHERE id = 3;
DELETE FROM deal WHERE id = 3;
INSERT INTO deal (id, stage, won) VALUES (3, 'New', true);
SELECT name, operation, record_id FROM queue ORDER BY log_id;
SELECT record_id FROM webhook.seen JOIN webhook.workflow USING (workflow_id) WHERE name = 'once' ORDER BY 1;
TRUNCATE deal;
SELECT count(*) FROM webhook.seen JOIN webhook.workflow USING (workflow_id) WHERE name = 'once';
TRUNCATE webhook.webhook_log;

INSERT INTO "Deal Item" VALUES (1, 'a', '2001-01-01', 1), (1, 'b', NULL, 1);
INSERT INTO "Deal Item" VALUES (1, 'a', '2001-01-01', 2) ON CONFLICT ("Deal", "No") DO UPDATE SET "new" = excluded."new";
UPDATE "Deal Item" SET "No" = 'A' WHERE "No" = 'a';
INSERT INTO account VALUES (1, 'eu', 'one'), (2, 'us', 'two');
UPDATE account SET name = name || '!';
UPDATE account SET name = name;
DELETE FROM account;
SELECT name, operation, record_id FROM queue ORDER BY log_id;
TRUNCATE webhook.webhook_log;

-- altered
SELECT webhook.alter_workflow('won');
SELECT webhook.alter_workflow('won', description => 'invoice');
SELECT webhook.alter_workflow('won', condition => 'stage = ''Won''');
SELECT webhook.alter_workflow('grown', trigger => 'update', condition => '');
SELECT webhook.alter_workflow('once', recurrence => 'every');
SELECT webhook.alter_workflow('item once', module => 'deal', recurrence => 'every', description => '');
SELECT webhook.alter_workflow('account', owner_email => 'a@example.com; b@example.com,');
SELECT webhook.alter_workflow('account', owner_email => '');
SELECT module, tgname, definition FROM triggers
WHERE tgname ~ '^webhook_(won|grown|once|item once)' ORDER BY module::text COLLATE "C", tgname;
SELECT name, module, trigger, condition, recurrence, owner_email, description
FROM webhook.workflow WHERE name IN ('won', 'grown', 'once', 'item once', 'account') ORDER BY name;

-- enabled and disabled, on partitions too; a change keeps it
SELECT webhook.enable_workflow('account', false);
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgname LIKE 'webhook_account_%' ORDER BY 1, 2;
SELECT webhook.alter_workflow('account', trigger => 'save');
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgname LIKE 'webhook_account_%' ORDER BY 1, 2;
INSERT INTO account VALUES (1, 'eu', 'one');
SELECT webhook.enable_workflow('account');
SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgname LIKE 'webhook_account_%';
UPDATE account SET name = 'uno';
SELECT name, operation, record_id FROM queue ORDER BY log_id;
TRUNCATE webhook.webhook_log;
SELECT webhook.alter_workflow('once', recurrence => 'first');
SELECT webhook.enable_workflow('once', false);
SELECT tgname, "on" FROM triggers WHERE tgname LIKE 'webhook_once%' ORDER BY 1;

-- names that exist
CREATE TRIGGER webhook_mine_insert AFTER INSERT ON account_us FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT webhook.create_workflow('mine', 'account', 'create') AS mine \gset
SELECT replace(tgname, :'mine', 'ID') FROM triggers WHERE tgname LIKE 'webhook_mine%' ORDER BY 1;
DROP TRIGGER webhook_mine_insert ON account_us;
-- a renamed trigger is found all the same
ALTER TRIGGER webhook_note_insert ON note RENAME TO whatever;
SELECT webhook.drop_workflow('note');
SELECT tgname FROM triggers WHERE module = 'note'::regclass ORDER BY 1;

-- dropped
BEGIN;
INSERT INTO deal (id, amount) VALUES (7, 7);
SELECT webhook.drop_workflow('all');
COMMIT;
SELECT webhook.drop_workflow('all');
SELECT status, retry_at IS NULL AS ended, completed_at IS NULL AS open, error
FROM webhook.webhook_log WHERE error = 'workflow was dropped';
SELECT tgname FROM triggers WHERE tgname LIKE 'webhook_all%';

-- transactional, like all other DDL
BEGIN;
SELECT webhook.create_workflow('rolled back', 'deal') > 0;
ROLLBACK;
SELECT count(*) FROM webhook.workflow WHERE name = 'rolled back';
SELECT count(*) FROM triggers WHERE tgname LIKE 'webhook_rolled%';

-- null for an argument that has a default
BEGIN;
SELECT webhook.create_workflow('x', 'deal', NULL, NULL, NULL, NULL, NULL, NULL) IS NOT NULL AS created;
SELECT trigger, recurrence, condition, schedule FROM webhook.workflow WHERE name = 'x';
ROLLBACK;

-- errors
SELECT webhook.create_workflow(NULL, 'deal');
SELECT webhook.create_workflow('', 'deal');
SELECT webhook.create_workflow('x', NULL);
SELECT webhook.create_workflow('x', 'deal', 'insert');
SELECT webhook.create_workflow('x', 'deal', '');
SELECT webhook.create_workflow('x', 'deal', 'schedule');
SELECT webhook.create_workflow('x', 'deal', 'save', schedule => '1 hour');
SELECT webhook.create_workflow('x', 'deal', recurrence => 'twice');
SELECT webhook.create_workflow('won', 'deal');
SELECT webhook.create_workflow('x', 'deal_view');
SELECT webhook.create_workflow('x', 'deal_pkey');
SELECT webhook.create_workflow('x', 'pg_class');
SELECT webhook.create_workflow('x', 'information_schema.sql_features');
SELECT webhook.create_workflow('x', 'webhook.webhook_log');
SELECT webhook.create_workflow('x', 0::regclass);
CREATE TEMP TABLE gone_soon (id int);
SELECT webhook.create_workflow('x', 'gone_soon');
SELECT webhook.create_workflow('x', 'note', recurrence => 'first');
SELECT webhook.create_workflow('x', 'deal', recurrence => 'change');
SELECT webhook.create_workflow('x', 'deal', owner_email => '${owner}');
SELECT webhook.create_workflow('x', 'deal', owner_email => 'a@example.com, owner.email');
SELECT webhook.create_workflow('x', 'deal', owner_email => ' ,');
-- the condition
SELECT webhook.create_workflow('x', 'deal', 'save', 'amount > 1 AND stagee = ''x''');
SELECT webhook.create_workflow('x', 'deal', 'save', 'deal.stage = ''x''');
SELECT webhook.create_workflow('x', 'deal', 'save', 'old.nothing = 1');
SELECT webhook.create_workflow('x', 'deal', 'save', 'amount + 1');
SELECT webhook.create_workflow('x', 'deal', 'save', 'new');
SELECT webhook.create_workflow('x', 'deal', 'save', '''maybe''');
SELECT webhook.create_workflow('x', 'deal', 'save', 'amount > ''much''');
SELECT webhook.create_workflow('x', 'deal', 'save', 'amount > (SELECT avg(amount) FROM deal)');
SELECT webhook.create_workflow('x', 'deal', 'save', 'EXISTS (SELECT 1)');
SELECT webhook.create_workflow('x', 'deal', 'save', 'sum(amount) > 1');
SELECT webhook.create_workflow('x', 'deal', 'save', 'row_number() OVER () > 1');
SELECT webhook.create_workflow('x', 'deal', 'save', 'generate_series(1, 2) > 1');
SELECT webhook.create_workflow('x', 'deal', 'save', 'is_small(amount)');
SELECT webhook.create_workflow('x', 'deal', 'save', '$1');
SELECT webhook.create_workflow('x', 'deal', 'delete', 'won AND new.won');
SELECT webhook.create_workflow('x', 'deal', 'update', 'amount > 1 AND old.amount < 1', 'change');
SELECT webhook.create_workflow('x', 'deal', 'save', ' ');
SELECT webhook.create_workflow('x', 'deal', 'save', '*');
SELECT webhook.create_workflow('x', 'deal', 'save', 'won, won');
SELECT webhook.create_workflow('x', 'deal', 'save', 'won AS w');
SELECT webhook.create_workflow('x', 'deal', 'save', 'true FROM deal');
SELECT webhook.create_workflow('x', 'deal', 'save', 'true) EXECUTE FUNCTION evil() --');
SELECT webhook.create_workflow('x', 'deal', 'save', 'true; DROP TABLE deal');
SELECT webhook.create_workflow('x', 'deal', 'save', 'DISTINCT won');
SELECT webhook.create_workflow('x', 'deal', 'save', 'won ORDER BY 1');
SELECT webhook.create_workflow('x', 'deal', 'save', 'won UNION SELECT true');
-- altering
SELECT webhook.alter_workflow(NULL);
SELECT webhook.alter_workflow('nobody', trigger => 'save');
SELECT webhook.alter_workflow('won', condition => '');
SELECT webhook.alter_workflow('won', trigger => '');
SELECT webhook.alter_workflow('won', module => 'note');
SELECT webhook.alter_workflow('won', module => 'deal_view');
SELECT webhook.alter_workflow('won', schedule => '1 hour');
SELECT webhook.enable_workflow('nobody');
SELECT webhook.enable_workflow('won', NULL);
SELECT webhook.drop_workflow(NULL);

-- rights
CREATE ROLE regress_webhook_one;
CREATE ROLE regress_webhook_two;
CREATE ROLE regress_webhook_team ROLE regress_webhook_one;
GRANT USAGE ON SCHEMA crm TO regress_webhook_one, regress_webhook_two, regress_webhook_team;
SET ROLE regress_webhook_one;
SELECT webhook.create_workflow('of one', 'crm.note');
RESET ROLE;
GRANT USAGE ON SCHEMA webhook TO regress_webhook_one, regress_webhook_two, regress_webhook_team;
SET ROLE regress_webhook_one;
SELECT webhook.create_workflow('of one', 'note');
RESET ROLE;
GRANT SELECT (body), TRIGGER ON note TO regress_webhook_one;
SET ROLE regress_webhook_one;
SELECT webhook.create_workflow('of one', 'note');
RESET ROLE;
GRANT SELECT ON note TO regress_webhook_one;
SET ROLE regress_webhook_one;
SELECT webhook.create_workflow('of one', 'note') > 0;
SELECT webhook.create_workflow('of one', 'note') > 0;
SELECT name, owner FROM webhook.workflow;
SELECT webhook.alter_workflow('won', description => 'mine now');
RESET ROLE;
SET ROLE regress_webhook_two;
SELECT name, owner FROM webhook.workflow;
SELECT webhook.drop_workflow('of one');
SELECT webhook.create_workflow('of one', 'note');
RESET ROLE;
GRANT SELECT, TRIGGER ON note TO regress_webhook_team, regress_webhook_two;
SET ROLE regress_webhook_two;
SELECT webhook.create_workflow('of one', 'note') > 0;
RESET ROLE;
SET ROLE regress_webhook_team;
SELECT webhook.create_workflow('of team', 'note') > 0;
SET ROLE regress_webhook_one;
SELECT webhook.alter_workflow('of team', condition => 'body <> ''''');
SELECT name, owner, condition FROM webhook.workflow ORDER BY name;
SELECT webhook.drop_workflow('of one');
SELECT webhook.drop_workflow('of team');
RESET ROLE;

-- grants follow USAGE on the schema
CREATE VIEW rights AS
SELECT rolname, count(*) FILTER (WHERE what = 'function') AS functions,
	string_agg(object, ' ' ORDER BY object COLLATE "C") FILTER (WHERE what = 'table' AND object NOT LIKE 'stat\_%') AS tables
FROM (
	SELECT 'function' AS what, NULL AS object, (aclexplode(proacl)).* FROM pg_proc WHERE pronamespace = 'webhook'::regnamespace
	UNION ALL
	SELECT 'table', relname, (aclexplode(relacl)).* FROM pg_class WHERE relnamespace = 'webhook'::regnamespace
) acl JOIN pg_roles r ON r.oid = grantee
WHERE rolname LIKE 'regress%' GROUP BY rolname;
SELECT rolname, functions > 10 AS functions, tables FROM rights ORDER BY rolname;
SELECT count(*) FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE pronamespace = 'webhook'::regnamespace AND grantee = 0;
SELECT proname FROM pg_proc
WHERE pronamespace = 'webhook'::regnamespace AND has_function_privilege('regress_webhook_one', oid, 'EXECUTE')
AND obj_description(oid, 'pg_proc') LIKE 'internal: %' AND proname NOT LIKE 'stat\_%';
REVOKE USAGE ON SCHEMA webhook FROM regress_webhook_two, regress_webhook_team;
SELECT rolname, functions > 10 AS functions, tables FROM rights ORDER BY rolname;
REVOKE ALL ON SCHEMA webhook FROM regress_webhook_one;
SELECT rolname, functions > 10 AS functions, tables FROM rights ORDER BY rolname;

-- modules that change, whoever changes them
CREATE TABLE lead (code numeric PRIMARY KEY, phone text);
SELECT webhook.create_workflow('lead', 'lead', 'create', 'phone IS NOT NULL', 'first') > 0;
SELECT definition FROM triggers WHERE tgname = 'webhook_lead_forget_update';
GRANT CREATE ON SCHEMA crm TO regress_webhook_two;
ALTER TABLE lead OWNER TO regress_webhook_two;
SET ROLE regress_webhook_two;
ALTER TABLE lead RENAME COLUMN phone TO mobile;
ALTER TABLE lead DROP CONSTRAINT lead_pkey, ADD PRIMARY KEY (phone);
DROP TABLE lead;
RESET ROLE;
SELECT count(*) FROM webhook.workflow WHERE name = 'lead';
REVOKE CREATE ON SCHEMA crm FROM regress_webhook_two;
ALTER TABLE deal RENAME COLUMN stage TO step;
ALTER TABLE deal DROP COLUMN stage;
ALTER TABLE deal DROP COLUMN stage CASCADE;
ALTER TABLE deal DROP CONSTRAINT deal_pkey;
ALTER TABLE deal DROP CONSTRAINT deal_pkey, ADD PRIMARY KEY (id);
ALTER TABLE account RENAME COLUMN name TO title;
ALTER TABLE deal ADD COLUMN more text, ALTER COLUMN amount SET DEFAULT 0;
ALTER TABLE deal RENAME COLUMN more TO less;
ALTER TABLE deal DROP COLUMN less;
ALTER TABLE deal RENAME TO deals;
ALTER TABLE deals SET SCHEMA public;
SELECT DISTINCT module FROM webhook.workflow WHERE workflow_id > 1000 ORDER BY 1;
BEGIN;
SELECT webhook.alter_workflow('account', condition => '');
ALTER TABLE account RENAME COLUMN name TO title;
SELECT webhook.alter_workflow('account', condition => 'title <> old.title');
COMMIT;
SELECT webhook.drop_workflow('item once');

-- modules that go
DROP TABLE account_eu;
SELECT name FROM webhook.workflow WHERE workflow_id > 1000 ORDER BY workflow_id;
DROP TABLE deals CASCADE;
SELECT name FROM webhook.workflow WHERE workflow_id > 1000 ORDER BY workflow_id;
DROP SCHEMA crm CASCADE;
SELECT name FROM webhook.workflow WHERE workflow_id > 1000 ORDER BY workflow_id;
DROP ROLE regress_webhook_team, regress_webhook_one, regress_webhook_two;
