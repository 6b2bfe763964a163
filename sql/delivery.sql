-- Single deliveries: retry, cancel, preview, test, wait.  The worker of this
-- cluster is switched off.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook;
RESET client_min_messages;
SET timezone = 'UTC';
ALTER SEQUENCE webhook.action_action_id_seq RESTART;
ALTER SEQUENCE webhook.webhook_log_log_id_seq RESTART;
CREATE TABLE deal (id int PRIMARY KEY, name text, amount numeric(12,2), at timestamptz);
CREATE TABLE item (deal_id int, "Line" text, sku text, PRIMARY KEY (deal_id, "Line"));
CREATE TABLE note (body text);
SELECT webhook.create_workflow('deal', 'deal') > 0 AS created;
SELECT webhook.create_workflow('item', 'item') > 0 AS created;
SELECT webhook.create_workflow('note', 'note') > 0 AS created;
SELECT webhook.create_action('deal', 'a', 'http://127.0.0.1:9/${id}?name=${name}', 'PUT', 'JSON',
	'{"id": "${id}", "name": "${name}", "amount": "${amount}", "text": "${name}: ${amount}", "at": "${at}", "op": "${webhook.operation}",
	  "module": "${webhook.module}", "key": "${webhook.record_id}", "n": "${webhook.attempt}", "plain": "$${name}"}',
	'user', 'hunter2', '{"X-Token": "hunter2", "X-Name": "${name}"}') AS action_id \gset
SELECT webhook.create_action('item', 'b', 'http://127.0.0.1:9/${sku}', content_type => 'FORM') AS item_id \gset
SELECT webhook.create_action('note', 'c', 'http://127.0.0.1:9/') AS note_id \gset
ALTER TABLE deal DISABLE TRIGGER ALL;
ALTER TABLE item DISABLE TRIGGER ALL;
INSERT INTO deal VALUES (1, E'Ä & "b"/c\r\nd', 12.50, '2026-03-29 01:00+00');
INSERT INTO item VALUES (1, 'a "b", c', 'x/y'), (1, 'plain', NULL);

\x
SELECT method, url, body FROM webhook.preview(:action_id, '1');
SELECT key, CASE WHEN key IN ('webhook-id', 'webhook-timestamp') THEN '...' ELSE value END AS value
	FROM webhook.preview(:action_id, '1'), json_each_text(headers);
SELECT method, url, body FROM webhook.preview(:item_id, '(1,"a ""b"", c")');
SELECT method, url, body FROM webhook.preview(:item_id, '(1,plain)');
\x
SELECT webhook.preview(:action_id, '2');
SELECT webhook.preview(:action_id, 'x');
SELECT webhook.preview(:item_id, '(1)');
SELECT webhook.preview(:item_id, '1');
SELECT webhook.preview(:note_id, '1');
SELECT webhook.preview(0, '1');
-- a value can't lead to another path
INSERT INTO item VALUES (2, 'up', '..'), (2, 'here', '.'), (2, 'more', '...'), (2, 'in', '../x');
SELECT webhook.preview(:item_id, '(2,up)');
SELECT webhook.preview(:item_id, '(2,here)');
SELECT url FROM webhook.preview(:item_id, '(2,more)') UNION ALL SELECT url FROM webhook.preview(:item_id, '(2,in)');
SELECT webhook.alter_action(:item_id, url => 'http://127.0.0.1:9/a/../b/%2E${sku}/c?d=/../${sku}#/../');
SELECT webhook.preview(:item_id, '(2,here)');
SELECT url FROM webhook.preview(:item_id, '(2,up)');
-- nor be larger than a request's head
INSERT INTO item VALUES (3, 'long', repeat('x', 600000));
SELECT webhook.preview(:item_id, '(3,long)');
SELECT webhook.alter_action(:item_id, url => 'http://127.0.0.1:9/', parameters => '{"sku": "x"}', headers => '{"X-Sku": "${sku}"}');
SELECT webhook.preview(:item_id, '(3,long)');
SELECT count(*) FROM webhook.webhook_log;

-- test
SELECT webhook.test(:action_id, '1') AS log_id \gset
SELECT operation, record_id, record, status, retry_at <= now() AS due FROM webhook.webhook_log WHERE log_id = :log_id;
-- where somebody's trigger keeps it out of the log there is none
CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep_out BEFORE INSERT ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION keep_out();
SELECT webhook.test(:action_id, '1') IS NULL AS kept_out;
DROP TRIGGER keep_out ON webhook.webhook_log;
DROP FUNCTION keep_out;
SELECT webhook.test(:action_id, '2');
SELECT webhook.enable_action(:action_id, false);
SELECT webhook.test(:action_id, '1');
SELECT webhook.enable_action(:action_id);

-- cancel and retry
SELECT webhook.retry(:log_id);
SELECT webhook.cancel(:log_id);
SELECT status, error, retry_at, completed_at IS NOT NULL AS completed FROM webhook.webhook_log;
SELECT webhook.cancel(:log_id);
SELECT webhook.retry_failed();
SELECT webhook.retry(:log_id);
SELECT status, error, retry_at <= clock_timestamp() AS due, completed_at FROM webhook.webhook_log;
UPDATE webhook.webhook_log SET status = 'Dispatched';
SELECT webhook.cancel(:log_id);
SELECT webhook.retry(:log_id);
UPDATE webhook.webhook_log SET status = 'Failed', error = 'x', completed_at = '2026-01-01', retry_at = NULL, retries = 3, attempts = 4;
SELECT webhook.retry_failed(:action_id, '2026-01-02');
SELECT webhook.retry_failed(:item_id);
SELECT webhook.retry_failed(:action_id, '2026-01-01');
SELECT status, attempts, retries, retry_at <= clock_timestamp() AS due FROM webhook.webhook_log;
UPDATE webhook.webhook_log SET status = 'Success', completed_at = now(), retry_at = NULL;
SELECT webhook.retry(:log_id);
SELECT status FROM webhook.webhook_log;
SELECT webhook.retry(0);
SELECT webhook.cancel(0);

-- wait
SELECT webhook.wait('0');
SELECT webhook.wait('20 ms');
SELECT webhook.wait('-1 s');
SELECT webhook.cancel(:log_id);
SELECT webhook.wait('0');
-- in vain before what it is to wait for is committed
BEGIN;
SELECT webhook.retry(:log_id);
SELECT webhook.wait('1 ms');
ROLLBACK;
SELECT webhook.wait('1 ms');

-- the action goes: what it was to send fails, and can't be sent again
SELECT webhook.retry(:log_id);
SELECT webhook.drop_action(:action_id);
SELECT status, error, retry_at FROM webhook.webhook_log;
SELECT webhook.retry(:log_id);
SELECT webhook.retry_failed();
-- the workflow goes
SELECT webhook.test(:item_id, '(1,plain)') > 0 AS queued;
SELECT webhook.drop_workflow('item');
SELECT status, error, retry_at FROM webhook.webhook_log ORDER BY log_id;
SELECT count(*) FROM webhook.action WHERE action_id = :item_id;
DROP TABLE deal, item, note;
TRUNCATE webhook.webhook_log;

-- what does something does not do nothing for a null
DO $$
DECLARE
	call text;
BEGIN
	FOREACH call IN ARRAY ARRAY['enable_action(NULL)', 'enable_action(1, NULL)', 'drop_action(NULL)', 'rotate_secret(1, NULL)', 'rotate_secret(1, ''x'', NULL)',
		'enable_workflow(''x'', NULL)', 'run_workflow(NULL)', 'import(NULL)', 'retry(NULL)', 'cancel(NULL)', 'preview(1, NULL)', 'test(NULL, ''1'')', 'resume(NULL)', 'wait(NULL)'] LOOP
		BEGIN
			EXECUTE 'SELECT FROM webhook.' || call;
			RAISE NOTICE '% does nothing', call;
		EXCEPTION WHEN null_value_not_allowed THEN
			RAISE NOTICE '%: %', call, SQLERRM;
		END;
	END LOOP;
END $$;
