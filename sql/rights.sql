-- What each role may see and touch; who can be made to do what.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
RESET client_min_messages;
DELETE FROM webhook.webhook_log;
DELETE FROM webhook.mail_log;
ALTER SEQUENCE webhook.webhook_log_log_id_seq RESTART;
\set VERBOSITY terse
CREATE SCHEMA crm;
SET search_path = crm;
CREATE ROLE regress_webhook_owner;
CREATE ROLE regress_webhook_member IN ROLE regress_webhook_owner;
CREATE ROLE regress_webhook_stranger;
CREATE ROLE regress_webhook_nobody;
GRANT USAGE ON SCHEMA crm TO PUBLIC;
GRANT USAGE ON SCHEMA webhook TO regress_webhook_owner, regress_webhook_stranger;
GRANT USAGE ON SCHEMA webhook TO regress_webhook_member;
CREATE TABLE person (id int PRIMARY KEY, name text);
CREATE TABLE deal (id int PRIMARY KEY, person_id int REFERENCES person, amount numeric);
CREATE TABLE other (id int PRIMARY KEY, secret text);
INSERT INTO person VALUES (1, 'Ann');
GRANT SELECT ON person TO regress_webhook_owner;
GRANT SELECT, TRIGGER ON deal TO regress_webhook_owner;
GRANT INSERT ON deal TO regress_webhook_nobody;
GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON other TO regress_webhook_stranger;

SET ROLE regress_webhook_owner;
SELECT webhook.create_workflow('deal made', 'deal', 'create') > 0;
SELECT webhook.create_action('deal made', 'send', 'https://example.com/?key=url-key', username => 'crm', password => 'pass-word',
	signing_secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', headers => '{"X-Key": "header-key"}',
	parameters => '{"name": "${person_id.name}", "n": "${= (SELECT count(*) FROM person)}"}') AS action_id \gset
RESET ROLE;

-- who writes needs no right on anything of ours, and the owner's are used
SET ROLE regress_webhook_nobody;
INSERT INTO deal VALUES (1, 1, 100);
SELECT count(*) FROM webhook.webhook_log;
RESET ROLE;
SELECT status, computed, owner = 'regress_webhook_owner'::regrole AS owners FROM webhook.webhook_log;
SELECT log_id FROM webhook.webhook_log \gset
INSERT INTO webhook.webhook_attempt (log_id, attempt, started_at, duration, error, request_body) VALUES (:log_id, 1, now(), '1 s', 'none', '{}');
INSERT INTO webhook.mail_log (action_id, recipient, subject, body, owner, retry_at) VALUES (:action_id, 'a@example.com', 'x', 'y', 'regress_webhook_owner', NULL);

-- A statement by each of four roles: rows that it gave or changed, or its error.
CREATE TABLE tried (n serial, role text, statement text, result text);
CREATE FUNCTION try(who name, statement text, action_id text, log_id text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE result text; n bigint;
BEGIN
	BEGIN
		EXECUTE format('SET LOCAL ROLE %I', who);
		EXECUTE replace(replace(statement, '$a', action_id), '$l', log_id);
		GET DIAGNOSTICS n = ROW_COUNT;
		RAISE EXCEPTION USING errcode = 'UTRY1', message = n || ' rows';
	EXCEPTION WHEN SQLSTATE 'UTRY1' THEN result := SQLERRM;
		WHEN OTHERS THEN result := SQLSTATE || ' ' || SQLERRM;
	END;
	RESET ROLE;
	-- PostgreSQL 16 words this one otherwise than 15.
	result := regexp_replace(result, 'must be superuser or have privileges of the pg_execute_server_program role to COPY', 'permission denied to COPY');
	INSERT INTO crm.tried (role, statement, result) VALUES (who, statement, regexp_replace(result, '(action|delivery) \d+', '\1 N'));
END $$;
CREATE FUNCTION try_all(statement text, action_id text DEFAULT '', log_id text DEFAULT '') RETURNS void LANGUAGE sql AS $$
SELECT crm.try(who, statement, action_id, log_id) FROM unnest('{regress_webhook_member, regress_webhook_stranger, regress_webhook_nobody}'::name[]) AS who $$;

-- every table, view and sequence there is
SELECT count(try_all(format('SELECT FROM webhook.%I', relname))) FROM pg_class
WHERE relnamespace = 'webhook'::regnamespace AND relkind IN ('r', 'v', 'S', 'm', 'p');
SELECT count(try_all(format('INSERT INTO webhook.%I DEFAULT VALUES', relname))) FROM pg_class
WHERE relnamespace = 'webhook'::regnamespace AND relkind = 'r';
SELECT count(try_all(format('DELETE FROM webhook.%I', relname))) FROM pg_class
WHERE relnamespace = 'webhook'::regnamespace AND relkind = 'r';
SELECT count(try_all(format('TRUNCATE webhook.%I', relname))) FROM pg_class
WHERE relnamespace = 'webhook'::regnamespace AND relkind = 'r';
SELECT count(try_all(format('SELECT nextval(''webhook.%I'')', relname))) FROM pg_class
WHERE relnamespace = 'webhook'::regnamespace AND relkind = 'S';
SELECT statement, max(result) FILTER (WHERE role ~ 'member') AS member, max(result) FILTER (WHERE role ~ 'stranger') AS stranger,
	bool_and(result LIKE '42501 %') FILTER (WHERE role ~ 'nobody') AS nobody_refused
FROM tried GROUP BY statement ORDER BY statement COLLATE "C";
TRUNCATE tried;

-- functions: what belongs to another's workflow
SELECT count(try_all(statement, :'action_id', :'log_id')) FROM (VALUES
	(1, $$SELECT webhook.alter_workflow('deal made', condition => 'true')$$),
	(2, $$SELECT webhook.drop_workflow('deal made')$$),
	(3, $$SELECT webhook.enable_workflow('deal made', false)$$),
	(4, $$SELECT webhook.run_workflow('deal made')$$),
	(5, $$SELECT webhook.create_action('deal made', 'x', 'https://example.com/')$$),
	(6, $$SELECT webhook.alter_action($a, url => 'https://example.net/')$$),
	(7, $$SELECT webhook.drop_action($a)$$),
	(8, $$SELECT webhook.enable_action($a, false)$$),
	(9, $$SELECT webhook.rotate_secret($a, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')$$),
	(10, $$SELECT webhook.preview($a, '1')$$),
	(11, $$SELECT webhook.test($a, '1')$$),
	(12, $$SELECT webhook.retry($l)$$),
	(13, $$SELECT webhook.cancel($l)$$),
	(14, $$SELECT webhook.stat_reset($a)$$),
	(15, $$SELECT webhook.resume()$$),
	(16, $$SELECT webhook.start_worker()$$),
	(17, $$SELECT webhook.import('{}')$$),
	(18, $$SELECT FROM webhook.report() r WHERE r LIKE '%send%'$$),
	(19, $$SELECT FROM webhook.stat_action()$$),
	(20, $$SELECT FROM pg_catalog.json_array_elements(webhook.export()->'workflows')$$),
	(21, $$COPY webhook.webhook_log TO PROGRAM 'cat'$$),
	(22, $$CREATE TRIGGER mine AFTER INSERT ON crm.other FOR EACH ROW EXECUTE FUNCTION webhook.enqueue('1')$$),
	(23, $$SELECT webhook.create_workflow('x', 'crm.deal')$$),
	(24, $$SELECT webhook.create_workflow('x', 'webhook.webhook_log')$$)
) AS s (n, statement);
SELECT statement, role, result FROM tried ORDER BY n;
TRUNCATE tried;

-- all of another's: nothing happens
SET ROLE regress_webhook_stranger;
SELECT webhook.retry_failed();
EXPLAIN (COSTS OFF) SELECT record FROM webhook.webhook_log WHERE record ? 'x';
-- a function of one's own in the condition sees no other's rows
CREATE FUNCTION pg_temp.leak(jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked: %', $1; RETURN true; END $$;
SELECT count(*) FROM webhook.webhook_log WHERE pg_temp.leak(record);
SELECT count(*) FROM webhook.action WHERE pg_temp.leak(to_jsonb(url));
RESET ROLE;

-- data goes out only of what the owner may read
SET ROLE regress_webhook_stranger;
SELECT webhook.create_workflow('mine', 'other', 'create') > 0;
SELECT webhook.create_action('mine', 'x', 'https://example.com/', parameters => '{"x": "${= (SELECT name FROM crm.person)}"}');
SELECT webhook.create_action('mine', 'x', 'https://example.com/', parameters => '{"x": "${= (SELECT max(secret) FROM crm.other)}"}') > 0;
SELECT webhook.create_action('mine', 'y', 'https://example.com/', parameters => '{"x": "${= pg_read_file(''/etc/passwd'')}"}');
SELECT webhook.create_action('mine', 'y', 'https://example.com/', parameters => '{"x": "${= (SELECT rolpassword FROM pg_authid LIMIT 1)}"}');
RESET ROLE;
-- and no more once he may not
REVOKE SELECT ON person FROM regress_webhook_owner;
INSERT INTO deal VALUES (2, 1, 100);
SELECT status, error FROM webhook.webhook_log WHERE record_id = '2';
GRANT SELECT ON person TO regress_webhook_owner;
REVOKE SELECT ON deal FROM regress_webhook_owner;
INSERT INTO deal VALUES (6, 1, 100);
SELECT status, record_id, record, computed, error FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 1;
SELECT webhook.run_workflow('deal made');
SELECT p.body FROM webhook.preview(:action_id, '1') p;
GRANT SELECT ON deal TO regress_webhook_owner;
DELETE FROM deal WHERE id = 6;

-- an expression has the owner's rights, not the writer's, and can't change roles
SET ROLE regress_webhook_stranger;
SELECT webhook.create_action('mine', 'y', 'https://example.com/', parameters => '{"x": "${= current_user::text}"}') > 0;
RESET ROLE;
INSERT INTO other VALUES (1, 'x');
SELECT computed FROM webhook.webhook_log WHERE module = 'other'::regclass ORDER BY log_id DESC LIMIT 1;

-- Types may call functions of their owner, even to read a constant: a superuser
-- who does something with another's workflow lends them nothing.
GRANT CREATE ON SCHEMA crm TO regress_webhook_stranger;
SET ROLE regress_webhook_stranger;
CREATE TABLE heard (n serial, who name);
GRANT ALL ON heard TO PUBLIC;
GRANT ALL ON SEQUENCE heard_n_seq TO PUBLIC;
CREATE FUNCTION hear() RETURNS boolean LANGUAGE sql VOLATILE AS 'INSERT INTO crm.heard (who) VALUES (current_user) RETURNING true';
CREATE DOMAIN trap AS int CHECK (hear());
CREATE TYPE trapped AS (trap trap);
CREATE TYPE enumerated AS ENUM ('x');
CREATE FUNCTION trap_json(enumerated) RETURNS json LANGUAGE sql VOLATILE AS $$SELECT CASE WHEN crm.hear() THEN '"x"'::json END$$;
CREATE CAST (enumerated AS json) WITH FUNCTION trap_json(enumerated);
CREATE TABLE trapper (id trap PRIMARY KEY, c trapped, e enumerated, n int);
INSERT INTO trapper VALUES (1, '(1)', 'x', 1);
SELECT webhook.create_workflow('trap', 'trapper', 'update', $$c IS DISTINCT FROM '(7)'::crm.trapped AND crm.hear()$$, 'change', owner_email => '${= new.e}') > 0;
SELECT webhook.create_action('trap', 'x', 'https://example.com/', parameters => '{"a": "${e}", "b": "${= new.e}", "c": "${= new.c IS DISTINCT FROM \u0027(8)\u0027::crm.trapped AND crm.hear()}"}') AS trap_id \gset
RESET ROLE;
TRUNCATE heard;
SELECT p.body FROM webhook.preview(:trap_id, '1') p;
SELECT webhook.test(:trap_id, '1') > 0;
SELECT webhook.run_workflow('trap');
SELECT webhook.cancel(log_id) FROM webhook.webhook_log WHERE action_id = :trap_id;
UPDATE webhook.webhook_log SET computed = NULL, error = 'x' WHERE action_id = :trap_id;
SELECT webhook.retry(min(log_id)) FROM webhook.webhook_log WHERE action_id = :trap_id;
UPDATE webhook.webhook_log SET computed = NULL WHERE action_id = :trap_id;
SELECT webhook.retry_failed(:trap_id) > 0;
SELECT webhook.alter_workflow('trap', recurrence => 'every');
SELECT webhook.alter_workflow('trap', condition => $$c IS DISTINCT FROM '(9)'::crm.trapped$$);
SELECT webhook.alter_workflow('trap', owner_email => $$${= (new.c IS DISTINCT FROM '(8)'::crm.trapped)::text}$$);
SELECT webhook.alter_action(:trap_id, parameters => '{"a": "${= new.c IS DISTINCT FROM \u0027(8)\u0027::crm.trapped}"}');
SELECT webhook.enable_workflow('trap', false);
SELECT webhook.enable_workflow('trap');
SELECT count(*) > 0 FROM webhook.import(webhook.export());
ALTER TABLE trapper RENAME COLUMN n TO m;
SELECT who, count(*) > 10 AS often FROM heard GROUP BY who;
SET ROLE regress_webhook_stranger;
ALTER TABLE trapper RENAME COLUMN m TO n;
RESET ROLE;
SELECT webhook.drop_workflow('trap');
SELECT who FROM heard GROUP BY who;
REVOKE CREATE ON SCHEMA crm FROM regress_webhook_stranger;

-- secrets: in no table, view, function's result or document that others can read
SET ROLE regress_webhook_member;
SELECT (SELECT string_agg(w::text, '') FROM webhook.workflow w) || (SELECT string_agg(a::text, '') FROM webhook.action a)
	|| (SELECT string_agg(l::text, '') FROM webhook.webhook_log l) || (SELECT string_agg(t::text, '') FROM webhook.webhook_attempt t)
	|| (SELECT string_agg(s::text, '') FROM webhook.stat_action s) || webhook.export()::text
	|| (SELECT p::text FROM webhook.preview(:action_id, '1') p) ~ 'pass-word|MfKQ9r8|Y3JtOnBhc3Mtd29yZA' AS shows_secrets;
SELECT headers->>'Authorization' AS authorization, headers->>'webhook-signature' ~ '^v1,' AS signed FROM webhook.preview(:action_id, '1');
SELECT webhook.alter_action(:action_id, signing_secret => 'whsec_secret-but-bad');
SELECT webhook.alter_action(:action_id, password => E'secret-but\nbad');
SELECT webhook.rotate_secret(:action_id, 'secret-but-bad');
RESET ROLE;

-- nothing for PUBLIC
SELECT n.nspname, acl.privilege_type FROM pg_namespace n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) acl WHERE nspname = 'webhook' AND grantee = 0
UNION ALL SELECT proname, acl.privilege_type FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) acl WHERE pronamespace = 'webhook'::regnamespace AND grantee = 0
UNION ALL SELECT relname, acl.privilege_type FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner))) acl WHERE relnamespace = 'webhook'::regnamespace AND relkind <> 'i' AND grantee = 0
UNION ALL SELECT typname, acl.privilege_type FROM pg_type, aclexplode(coalesce(typacl, acldefault('T', typowner))) acl WHERE typnamespace = 'webhook'::regnamespace AND typtype = 'e' AND grantee = 0;

-- Nobody's functions and operators are called instead of PostgreSQL's: each one
-- that can be shadowed is, by one that raises an error.
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
SET client_min_messages = error;
DO $$
DECLARE
	o record; n int := 0;
	body constant text := 'BEGIN RAISE EXCEPTION ''hijacked''; END';
BEGIN
	FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result FROM pg_operator
		WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
		AND NOT EXISTS (SELECT FROM pg_type WHERE oid IN (oprleft, oprright, oprresult) AND typtype = 'p')
	LOOP
		n := n + 1;
		EXECUTE format('CREATE FUNCTION evil.operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', n, o.l, o.r, o.result, body);
		EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.operator_%s, LEFTARG = %s, RIGHTARG = %s)', o.oprname, n, o.l, o.r);
	END LOOP;
	FOR o IN SELECT proname, oidvectortypes(proargtypes) AS arguments, prorettype::regtype AS result, proretset FROM pg_proc
		WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND provariadic = 0
		AND NOT EXISTS (SELECT FROM pg_type t WHERE (t.oid = prorettype OR t.oid = ANY (proargtypes)) AND t.typtype = 'p' AND t.typname <> 'record')
	LOOP
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS %L', o.proname, o.arguments,
			CASE WHEN o.proretset THEN 'SETOF ' ELSE '' END, o.result, body);
	END LOOP;
	EXECUTE 'CREATE TABLE evil.workflow (); CREATE TABLE evil.action (); CREATE TABLE evil.webhook_log (); CREATE TABLE evil.pg_class (); CREATE TABLE evil.pg_proc (); CREATE DOMAIN evil.text AS int; CREATE DOMAIN evil.regclass AS int';
END $$;
RESET client_min_messages;
SELECT count(*) > 1500 AS functions FROM pg_proc WHERE pronamespace = 'evil'::regnamespace;
SELECT count(*) > 500 AS operators FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO PUBLIC;
SET search_path = evil, pg_catalog;
SELECT now();
SELECT 1 + 1;
INSERT INTO crm.deal VALUES (3, 1, 100);
UPDATE crm.deal SET amount = 200;
SELECT webhook.create_workflow('hijack', 'crm.deal', 'save', 'amount OPERATOR(pg_catalog.>) 100', 'first') IS NOT NULL;
SELECT webhook.create_action('hijack', 'send', 'https://example.com/${id}', parameters => '{"a.b": "${person_id.name}", "c": "${= 1 OPERATOR(pg_catalog.+) 1}"}') IS NOT NULL;
SELECT webhook.alter_workflow('hijack', description => 'x');
SELECT webhook.alter_action(:action_id, description => 'x');
SELECT webhook.rotate_secret(:action_id, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx');
SELECT webhook.enable_workflow('hijack');
SELECT webhook.enable_action(:action_id);
SELECT webhook.run_workflow('hijack');
INSERT INTO crm.deal VALUES (4, 1, 1000);
UPDATE crm.deal SET id = 5 WHERE id OPERATOR(pg_catalog.=) 4;
DELETE FROM crm.deal WHERE id OPERATOR(pg_catalog.=) 5;
SELECT p.method FROM webhook.preview(:action_id, '1') p;
SELECT webhook.test(:action_id, '1') IS NOT NULL;
SELECT webhook.retry(:log_id);
SELECT webhook.cancel(:log_id);
SELECT webhook.retry(:log_id);
SELECT webhook.retry_failed() IS NOT NULL;
SELECT webhook.export() IS NOT NULL;
SELECT i.done FROM webhook.import(webhook.export()) i;
SELECT webhook.wait('1 ms');
SELECT h.status IS NOT NULL FROM webhook.health() h LIMIT 1;
SELECT r IS NOT NULL FROM webhook.report() r LIMIT 1;
SELECT s.title FROM webhook.stat_action s LIMIT 1;
SELECT s.pid IS NOT NULL FROM webhook.stat_worker s LIMIT 1;
SELECT s.pid FROM webhook.stat_progress s;
SELECT webhook.stat_reset();
SELECT webhook.next_run('0 9 * * 1', '2027-01-01', 'UTC') IS NOT NULL;
SELECT webhook.resume();
GRANT USAGE ON SCHEMA webhook TO regress_webhook_nobody;
REVOKE USAGE ON SCHEMA webhook FROM regress_webhook_nobody;
ALTER TABLE crm.deal RENAME COLUMN amount TO price;
SELECT webhook.drop_workflow('hijack');
DROP TABLE crm.other;
SELECT w.name FROM webhook.workflow w;
RESET ROLE;
SET search_path = pg_catalog;

-- a GRANT means the same in a session that applies another server's changes
SET session_replication_role = replica;
GRANT USAGE ON SCHEMA webhook TO regress_webhook_nobody;
RESET session_replication_role;
SET ROLE regress_webhook_nobody;
SELECT count(*) FROM webhook.workflow;
-- as a view of one's own that shows the log
CREATE TEMPORARY VIEW failed AS SELECT * FROM webhook.webhook_log WHERE status = 'Failed';
SELECT count(*) FROM failed;
DROP VIEW failed;
-- and a report is of one's own deliveries, even where a policy is to be an error
SET row_security = off;
SELECT count(*) > 0 FROM webhook.report();
RESET row_security;
RESET ROLE;
SET session_replication_role = replica;
REVOKE USAGE ON SCHEMA webhook FROM regress_webhook_nobody;
RESET session_replication_role;
SELECT has_table_privilege('regress_webhook_nobody', 'webhook.workflow', 'SELECT') OR has_type_privilege('regress_webhook_nobody', 'webhook.status', 'USAGE') AS has_any;

SET client_min_messages = error;
DROP FUNCTION pg_temp.leak;
DROP SCHEMA evil CASCADE;
DROP SCHEMA crm CASCADE;
REVOKE USAGE ON SCHEMA webhook FROM regress_webhook_owner, regress_webhook_stranger, regress_webhook_member;
DELETE FROM webhook.webhook_log;
DELETE FROM webhook.mail_log;
DROP ROLE regress_webhook_owner, regress_webhook_member, regress_webhook_stranger, regress_webhook_nobody;
