-- Workflows as a document: export and import.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
DROP ROLE IF EXISTS regress_document;
RESET client_min_messages;
ALTER SEQUENCE webhook.action_action_id_seq RESTART WITH 301;
SELECT webhook.export();
CREATE SCHEMA "Sales";
CREATE TABLE "Sales"."Deal" (id int PRIMARY KEY, stage text, amount numeric, "E-Mail" text);
CREATE TABLE lead (id int PRIMARY KEY, name text);
SELECT webhook.create_workflow('won', '"Sales"."Deal"', 'save', 'stage = ''won "Ö"'' AND amount > 1000', 'change', owner_email => '${E-Mail}', description => E'two\nlines') > 0 AS created;
SELECT webhook.create_action('won', 'Invoice', 'https://example.com/${id}', 'PUT', 'XML', '{"b": "${id}", "a": 1.50, "c.d": null}', 'user', 'hunter2',
	'{"X-A": "${stage}"}', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', NULL, 'makes the invoice', '5 s', '{1 min,1 day 02:00}', true, 5, 100) AS action_id;
SELECT webhook.create_action('won', 'Tell', 'https://example.com/tell', parameters => '{"total": "${= round(amount * 1.2, 2)}"}') AS action_id;
SELECT webhook.create_workflow('lead', 'lead', 'create', recurrence => 'first') > 0 AS created;
SELECT webhook.create_action('lead', 'Mailing', 'https://example.com/lead', content_type => 'FORM') AS action_id;
SELECT webhook.enable_action(302, false);
SELECT webhook.enable_workflow('lead', false);
SELECT webhook.export();
SELECT webhook.export() AS document \gset
SELECT webhook.export()::text ~ 'hunter2|whsec' AS has_secrets;

-- importing what was exported changes nothing
SELECT w.xmin::text || a.xmin::text AS before FROM webhook.workflow w, webhook.action a WHERE w.name = 'won' AND a.action_id = 301 \gset
SELECT * FROM webhook.import(:'document');
SELECT * FROM webhook.import(:'document'::jsonb::json);
SELECT w.xmin::text || a.xmin::text = :'before' AS untouched FROM webhook.workflow w, webhook.action a WHERE w.name = 'won' AND a.action_id = 301;

-- what is different is changed, what is missing is created
SELECT webhook.alter_action(301, url => 'https://example.org/', timeout => '0', headers => '{}', ordered => false);
SELECT webhook.alter_workflow('won', condition => 'amount > 1', description => '', owner_email => '');
SELECT webhook.enable_workflow('lead');
SELECT webhook.drop_action(302);
SELECT * FROM webhook.import(:'document');
SELECT password, signing_secret IS NOT NULL AS signed FROM webhook.action_secret WHERE action_id = 301;
SELECT webhook.export()::text = :'document' AS is_same;
SELECT webhook.drop_workflow('won');
SELECT webhook.drop_workflow('lead');
SELECT * FROM webhook.import(:'document');
SELECT webhook.export()::jsonb #- '{workflows,1,actions,0,signed}' = :'document'::jsonb #- '{workflows,1,actions,0,signed}' AS is_same;
SELECT * FROM webhook.import(:'document');
INSERT INTO "Sales"."Deal" VALUES (1, 'won "Ö"', 2000);
SELECT a.title, l.status, l.computed FROM webhook.webhook_log l JOIN webhook.action a USING (action_id) ORDER BY log_id;

-- white space means nothing, the order of names does
SELECT * FROM webhook.import('{"workflows": [{"name": "lead", "module": "lead", "trigger": "CREATE", "recurrence": "First", "enabled": false, "actions": [
	{"title": "Mailing", "url": "https://example.com/lead", "content_type": "form", "parameters": {"a": 1, "b": 2}}]}]}');
SELECT * FROM webhook.import('{"workflows": [{"name": "lead", "module": "public.lead", "trigger": "create", "recurrence": "first", "enabled": false, "actions": [
	{"title": "Mailing", "url": "https://example.com/lead", "content_type": "FORM", "parameters": { "a" : 1,
		"b" : 2 }}]}]}');
SELECT * FROM webhook.import('{"workflows": [{"name": "lead", "module": "public.lead", "trigger": "create", "recurrence": "first", "enabled": false, "actions": [
	{"title": "Mailing", "url": "https://example.com/lead", "content_type": "FORM", "parameters": {"b": 2, "a": 1}}]}]}');

-- what is empty is so, and not left out; it stays as it is
CREATE FUNCTION emptied(extra text) RETURNS json LANGUAGE sql AS $$
	SELECT format('{"workflows": [{"name": "lead", "module": "lead", "trigger": "create", "recurrence": "first", "enabled": false, "actions": [
	{"title": "Mailing", "url": "https://example.com/lead"%s}]}]}', extra)::json $$;
SELECT * FROM webhook.import(emptied(', "parameters": {}, "headers": {}, "retry_schedule": []'));
SELECT parameters, headers, retry_schedule FROM webhook.action WHERE title = 'Mailing';
SELECT * FROM webhook.import(emptied(', "parameters": {}, "headers": {}, "retry_schedule": []'));
SELECT * FROM webhook.import(emptied(''));
SELECT parameters, headers, retry_schedule FROM webhook.action WHERE title = 'Mailing';
SELECT * FROM webhook.import(emptied(', "max_in_flight": 0'));

-- what a document does not name: workflows stay, actions are disabled
SELECT * FROM webhook.import('{"workflows": [{"name": "lead", "module": "lead", "trigger": "create", "actions": [{"title": "Other", "url": "https://example.com/"}]}]}');
SELECT a.title, a.enabled, w.enabled AS workflow FROM webhook.action a JOIN webhook.workflow w USING (workflow_id) ORDER BY w.name, a.action_id;

-- an action whose title alone is another is renamed, with its secrets and what it has
-- queued; where there is no room for one that is new, one that is missing goes
CREATE TABLE paper (id int PRIMARY KEY);
SELECT webhook.create_workflow('paper', 'paper') > 0 AS created;
SELECT webhook.create_action('paper', t, 'https://example.com/' || t, username => 'user', password => 'hunter2') AS action_id FROM unnest(ARRAY['a', 'b', 'c']) t;
SELECT webhook.export() AS document \gset
CREATE FUNCTION papers(document json) RETURNS json LANGUAGE sql AS $$SELECT json_build_object('workflows', json_build_array(w)) FROM json_array_elements(document->'workflows') w WHERE w->>'name' = 'paper'$$;
CREATE FUNCTION reversed(document json) RETURNS json LANGUAGE sql AS $$SELECT json_build_object('workflows', json_build_array(jsonb_set((document->'workflows'->0)::jsonb, '{actions}',
	(SELECT jsonb_agg(a ORDER BY n DESC) FROM json_array_elements(document->'workflows'->0->'actions') WITH ORDINALITY e (a, n)))))$$;
CREATE VIEW paper_actions AS SELECT a.action_id, a.title, a.url, a.enabled, s.password FROM webhook.action a JOIN webhook.workflow w USING (workflow_id) LEFT JOIN webhook.action_secret s USING (action_id) WHERE w.name = 'paper' ORDER BY a.action_id;
INSERT INTO paper VALUES (1);
SELECT papers(:'document') AS papers \gset
SELECT * FROM webhook.import(regexp_replace(:'papers', '"title" ?: ?"b"', '"title": "B"')::json);
SELECT * FROM paper_actions;
SELECT * FROM webhook.import(reversed(regexp_replace(:'papers', '"title" ?: ?"c"', '"title": "C"')::json));
SELECT * FROM paper_actions;
\set VERBOSITY default
SELECT * FROM webhook.import(regexp_replace(:'papers', '"title" ?: ?"a"', '"description": "another", "title": "A"')::json);
DELETE FROM webhook.webhook_log;
SELECT * FROM webhook.import(regexp_replace(:'papers', '"title" ?: ?"a"', '"description": "another", "title": "A"')::json);
SELECT * FROM webhook.import(reversed(regexp_replace(:'papers', '"title" ?: ?"c"', '"description": "another", "title": "D"')::json));
SELECT * FROM webhook.import(reversed(regexp_replace(:'papers', '"title" ?: ?"c"', '"description": "another", "title": "D"')::json));
SELECT * FROM paper_actions;
\set VERBOSITY terse
SELECT webhook.drop_workflow('paper');
DROP VIEW paper_actions;
DROP FUNCTION papers, reversed;

-- what is wrong changes nothing at all
\set VERBOSITY default
SELECT webhook.import('[]');
SELECT webhook.import('{"workflows": {}}');
SELECT webhook.import('{"format": 2, "workflows": []}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "conditions": "true"}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"title": "t", "url": "https://example.com", "password": "x"}]}]}');
SELECT webhook.import('{"workflows": [{"name": "x"}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead"}, {"name": "x", "module": "lead", "trigger": "create"}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"title": "t"}]}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"url": "https://example.com"}]}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "nothing"}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead"}, {"name": "y", "module": "lead", "condition": "nothing > 1"}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"title": "t", "url": "ftp://example.com"}]}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"title": "t", "url": "https://example.com", "timeout": "soon"}]}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"title": "t", "url": "https://example.com", "retry_schedule": ["1h", 2, "x"]}]}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "enabled": "maybe"}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": {}}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [1]}]}');
SELECT webhook.import('{"workflows": [{"name": "x", "module": "lead", "actions": [{"title": "t", "url": "https://example.com", "retry_schedule": "1h"}]}]}');
SELECT name FROM webhook.workflow ORDER BY 1;

-- for whom
CREATE ROLE regress_document;
GRANT USAGE ON SCHEMA webhook TO regress_document;
GRANT SELECT, TRIGGER ON lead TO regress_document;
SET ROLE regress_document;
SELECT webhook.export();
SELECT webhook.import(:'document');
SELECT * FROM webhook.import('{"workflows": [{"name": "mine", "module": "public.lead", "actions": [{"title": "t", "url": "https://example.com"}]}]}');
SELECT webhook.export();
RESET ROLE;
SELECT owner FROM webhook.workflow WHERE name = 'mine';

SET client_min_messages = warning;
DROP TABLE lead CASCADE;
DROP TABLE paper;
DROP SCHEMA "Sales" CASCADE;
DELETE FROM webhook.webhook_log;
DROP OWNED BY regress_document;
DROP ROLE regress_document;
