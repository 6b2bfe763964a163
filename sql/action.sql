-- Actions: what is refused when they are configured, and what is kept
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
RESET client_min_messages;
CREATE TABLE deal (id int PRIMARY KEY, name text, "Close Date" date, "old" text);
CREATE TABLE note (body text);
SELECT webhook.create_workflow('won', 'deal') > 0 AS created;
SELECT webhook.create_workflow('note', 'note') > 0 AS created;

-- URL
SELECT webhook.create_action('nobody', 'a', 'http://example.com/');
SELECT webhook.create_action(NULL, 'a', 'http://example.com/');
SELECT webhook.create_action('won', '', 'http://example.com/');
SELECT webhook.create_action('won', 'a', NULL);
SELECT webhook.create_action('won', 'a', '');
SELECT webhook.create_action('won', 'a', 'ftp://example.com/');
SELECT webhook.create_action('won', 'a', 'file:///etc/passwd');
SELECT webhook.create_action('won', 'a', 'example.com/x');
SELECT webhook.create_action('won', 'a', 'https:///x');
SELECT webhook.create_action('won', 'a', 'https://user:secret@example.com/');
SELECT webhook.create_action('won', 'a', 'https://example.com/a b');
SELECT webhook.create_action('won', 'a', E'https://example.com/a\nb');
SELECT webhook.create_action('won', 'a', 'https://${name}/');
SELECT webhook.create_action('won', 'a', 'https://example.com:${id}/');
SELECT webhook.create_action('won', 'a', '${name}');
SELECT webhook.create_action('won', 'a', 'https://example.com/${nam}');
SELECT webhook.create_action('won', 'a', 'https://example.com/${id');
SELECT webhook.create_action('won', 'a', 'https://example.com/${}');
-- method, content type
SELECT webhook.create_action('won', 'a', 'http://example.com/', 'GET');
SELECT webhook.create_action('won', 'a', 'http://example.com/', content_type => 'YAML');
-- parameters
CREATE FUNCTION try(parameters json, content_type text DEFAULT 'JSON') RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text; d text; h text;
BEGIN
	PERFORM webhook.create_action('won', 'a', 'http://example.com/', parameters => try.parameters, content_type => try.content_type);
	RAISE EXCEPTION 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, m, nullif(d, ''), nullif(h, ''));
END $$;
SELECT p, try(p::json) FROM unnest(ARRAY[
	'[]', '1', '{"a": "${nme}"}', '{"a": "${old.nme}"}', '{"a": "${webhook.nme}"}', '{"a": "${name"}',
	'{"a": 1, "a.b": 2}', '{"a.b": 2, "a": 1}', '{"a": 1, "a": 2}', '{"a.b": 1, "a.b": 2}',
	'{"a.0": 1, "a.2": 2}', '{"a.1": 1}', '{"a.0": 1, "a.b": 2}', '{"a.b": 1, "a.0": 2}',
	'{"a..b": 1}', '{".a": 1}', '{"a.": 1}', '{"": 1}', '{"0.a": 1}', '{"a": {"b": 1, "b": 2}}', '{"a": {"b": "${nme}"}}',
	'{"a": [1], "a.1": 2}', '{"a.1": 2, "a": [1]}', '{"a": {"b": 1}, "a.c": 2}', '{"a": [], "a": []}', '{"a": "${name.x}"}', '{"a": "${= 1 + }"}',
	'{"a": "${= $q$it''s }$q$ || $$}$$ || E''\\''}'' || name}"}',
	'{}', '{"a\\.b": 1, "a": 2}', '{"a.1": 1, "a.0": 2}', '{"@a": 1}', '{"a": "${Close Date} ${\"Close Date\"} ${new.NAME} ${old} ${old.old}"}']) p;
-- how deep they nest
SELECT n, try(('{"' || repeat('a.', n) || 'a": 1}')::json) AS name, try(('{"a": ' || repeat('[', n) || repeat(']', n) || '}')::json) AS value
FROM unnest('{101, 5000}'::int[]) n;
SELECT try(('{"' || repeat('a.', 200000) || 'a": 1}')::json);
SELECT p, try(p::json, 'JSONARRAY') FROM unnest(ARRAY['{"0.a": 1, "b": 2}', '{"1.a": 1}', '{"0": 1}', '{"0.a": 1, "1.a": 2}', '{"a": 1}']) p;
SELECT p, try(p::json, 'XML') FROM unnest(ARRAY['{"0.a": 1}', '{"a.@": 1}', '{"a.@id": {"b": 1}}', '{"a.@id": "${id}", "a.b": 1}', '{"a.@b": 1, "a.b": 2}', '{"a.@b]": 1, "a.@b\\": 2}', '{"a.@b": 1, "a": "x"}']) p;
SELECT p, try(p::json, 'FORM') FROM unnest(ARRAY['{"0.a": 1}', '{"a.@id": "${id}"}']) p;
-- headers
CREATE OR REPLACE FUNCTION try_headers(headers json, username text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text; h text;
BEGIN
	PERFORM webhook.create_action('won', 'a', 'http://example.com/', headers => try_headers.headers, username => try_headers.username);
	RAISE EXCEPTION 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, m, nullif(h, ''));
END $$;
SELECT p, try_headers(p::json) FROM unnest(ARRAY[
	'[]', '"x"', '{"A B": "x"}', '{"": "x"}', '{"Host": "x"}', '{"content-length": "1"}', '{"Transfer-Encoding": "x"}',
	'{"Connection": "x"}', '{"Webhook-Id": "x"}', '{"A": "b\r\nc"}', '{"A": "b\nc"}', '{"A": null}', '{"A": {"b": 1}}', '{"A": [1]}',
	'{"A": "1", "a": "2"}', '{"A": "${nme}"}', '{"A": "${name}", "B": 1, "C": true}']) p;
SELECT try_headers('{"authorization": "Bearer x"}', 'user');
-- authentication, secrets, limits
SELECT webhook.create_action('won', 'a', 'http://example.com/', username => 'a:b');
SELECT webhook.create_action('won', 'a', 'http://example.com/', username => E'a\nb');
SELECT webhook.create_action('won', 'a', 'http://example.com/', password => 'hunter2');
SELECT webhook.create_action('won', 'a', 'http://example.com/', username => 'a', password => E'hunter2\n');
SELECT webhook.create_action('won', 'a', 'http://example.com/', signing_secret => 'hunter2');
SELECT webhook.create_action('won', 'a', 'http://example.com/', signing_secret => 'whsec_aHVudGVyMg==');
SELECT webhook.create_action('won', 'a', 'http://example.com/', client_certificate => '../../etc/passwd');
SELECT webhook.create_action('won', 'a', 'http://example.com/', timeout => '0');
SELECT webhook.create_action('won', 'a', 'http://example.com/', timeout => '2 days');
SELECT webhook.create_action('won', 'a', 'http://example.com/', retry_schedule => '{1 h,NULL}');
SELECT webhook.create_action('won', 'a', 'http://example.com/', retry_schedule => '{-1 h}');
SELECT webhook.create_action('won', 'a', 'http://example.com/', retry_schedule => '{1 h, 11 years}');
SELECT webhook.create_action('won', 'a', 'http://example.com/', max_in_flight => 0);
SELECT webhook.create_action('won', 'a', 'http://example.com/', rate_limit => -1);
SELECT webhook.create_action('note', 'a', 'http://example.com/', ordered => true);

-- What is kept
SELECT webhook.create_action('won', 'Invoice', 'https://example.com/${id}', 'put', 'xml', '{"a.@id": "${id}", "n": 1.50}',
	'user', 'hunter2', '{"X-A": "${name}"}', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'client.pem', 'makes the invoice',
	'5 s', '{1 min,1 h}', true, 7, 9) AS action_id \gset
\x
SELECT title, description, url, method, content_type, parameters, authorization_type, username, headers, client_certificate,
	timeout, retry_schedule, ordered, max_in_flight, rate_limit, enabled FROM webhook.action;
SELECT webhook.alter_action(:action_id, title => 'Bill', method => 'POST');
SELECT title, description, url, method, content_type, username, timeout, retry_schedule, max_in_flight FROM webhook.action;
SELECT webhook.alter_action(:action_id, description => '', username => '', headers => '{}', parameters => '{}', client_certificate => '',
	signing_secret => '', timeout => '0', retry_schedule => '{}', max_in_flight => 0, rate_limit => 0, ordered => false);
SELECT description, parameters, authorization_type, username, headers, client_certificate, timeout, retry_schedule, ordered,
	max_in_flight, rate_limit FROM webhook.action;
SELECT password, signing_secret FROM webhook.action_secret;
\x
SELECT webhook.alter_action(:action_id, url => '');
SELECT webhook.alter_action(:action_id, content_type => 'YAML');
SELECT webhook.alter_action(:action_id, url => 'https://example.com/${x}');
SELECT webhook.alter_action(0, title => 'x');
SELECT webhook.drop_action(0);
SELECT webhook.enable_action(0);
SELECT webhook.rotate_secret(:action_id, 'hunter2');
SELECT webhook.rotate_secret(:action_id, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
SELECT webhook.rotate_secret(:action_id, 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', '1 hour');
-- an overlap as good as for ever
BEGIN;
SELECT webhook.rotate_secret(:action_id, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx', '1000000 years');
SELECT previous_until[1] > now() + interval '500 years' AS later FROM webhook.action_secret WHERE action_id = :action_id;
ROLLBACK;
SELECT signing_secret, previous_secrets, previous_until[1] > now() AS overlaps FROM webhook.action_secret;
-- each secret signs until its own overlap is over, unless it is asked for once more; and there are not too many
BEGIN;
SELECT webhook.rotate_secret(:action_id, 'whsec_' || encode(decode(repeat(to_hex(n), 48), 'hex'), 'base64'), n * interval '1 hour') FROM generate_series(0, 9) n;
SELECT (SELECT array_agg(left(s, 8)) FROM unnest(previous_secrets) s) AS secrets,
	(SELECT array_agg(to_char(u - now(), 'HH24')) FROM unnest(previous_until) u) AS hours FROM webhook.action_secret WHERE action_id = :action_id;
SELECT webhook.rotate_secret(:action_id, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
SAVEPOINT s;
SELECT webhook.rotate_secret(:action_id, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx');
ROLLBACK TO s;
UPDATE webhook.action_secret SET previous_until[2] = now();
SELECT webhook.rotate_secret(:action_id, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx');
SELECT cardinality(previous_secrets), cardinality(previous_until) FROM webhook.action_secret WHERE action_id = :action_id;
SELECT webhook.alter_action(:action_id, signing_secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSy');
SELECT previous_secrets, previous_until FROM webhook.action_secret WHERE action_id = :action_id;
ROLLBACK;
SELECT webhook.enable_action(:action_id, false);
SELECT enabled FROM webhook.action;

-- At most three
SELECT webhook.create_action('won', 'two', 'http://example.com/') > 0 AS created;
SELECT webhook.create_action('won', 'three', 'http://example.com/') > 0 AS created;
SELECT webhook.create_action('won', 'four', 'http://example.com/');
SELECT webhook.drop_action(:action_id);
SELECT webhook.create_action('won', 'four', 'http://example.com/') > 0 AS created;
SELECT count(*) FROM webhook.action_secret;

-- A column that a template uses can't go or be renamed
SELECT webhook.create_workflow('late', 'deal') > 0 AS created;
SELECT webhook.create_action('late', 'five', 'http://example.com/${name}') > 0 AS created;
ALTER TABLE deal RENAME COLUMN name TO title;
ALTER TABLE deal DROP COLUMN name;
ALTER TABLE deal DROP COLUMN "Close Date";

-- Rights: others see and touch nothing
CREATE ROLE regress_webhook_crm;
CREATE ROLE regress_webhook_other;
GRANT USAGE ON SCHEMA webhook TO regress_webhook_crm, regress_webhook_other;
GRANT SELECT, TRIGGER ON deal TO regress_webhook_crm;
SET ROLE regress_webhook_crm;
SELECT webhook.create_workflow('mine', 'deal') > 0 AS created;
SELECT webhook.create_action('mine', 'mine', 'http://example.com/', username => 'u', password => 'hunter2') AS action_id \gset
SELECT webhook.create_action('won', 'not mine', 'http://example.com/');
SELECT name FROM webhook.workflow;
SELECT title FROM webhook.action;
SELECT * FROM webhook.action_secret;
SELECT * FROM webhook.admin;
UPDATE webhook.action SET url = 'x';
INSERT INTO webhook.webhook_log (workflow_id) VALUES (1);
RESET ROLE;
INSERT INTO deal VALUES (1, 'x');
SET ROLE regress_webhook_crm;
SELECT action_id = :action_id AS mine, record FROM webhook.webhook_log;
SET ROLE regress_webhook_other;
SELECT count(*) FROM webhook.workflow;
SELECT count(*) FROM webhook.action;
SELECT count(*) FROM webhook.webhook_log;
SELECT count(*) FROM webhook.webhook_attempt;
SELECT webhook.alter_action(:action_id, title => 'x');
SELECT webhook.drop_action(:action_id);
SELECT webhook.preview(:action_id, '1');
SELECT webhook.test(:action_id, '1');
SELECT webhook.retry_failed();
SELECT webhook.cancel(log_id) FROM webhook.webhook_log;
SELECT webhook.enqueue();
RESET ROLE;
-- nothing is granted to PUBLIC
SELECT count(*) FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
	WHERE pronamespace = 'webhook'::regnamespace AND a.grantee = 0;
SELECT count(*) FROM pg_class, aclexplode(relacl) a WHERE relnamespace = 'webhook'::regnamespace AND a.grantee = 0;
DROP TABLE deal, note;
TRUNCATE webhook.webhook_log;
DROP OWNED BY regress_webhook_crm, regress_webhook_other;
DROP ROLE regress_webhook_crm, regress_webhook_other;
DROP FUNCTION try, try_headers;
