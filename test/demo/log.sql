-- The log, as a DBA would query it.
SELECT l.log_id AS id, w.name AS workflow, a.title AS action, l.record_id AS record, l.status, l.attempts AS tries,
	l.http_status AS http, date_trunc('minute', l.retry_at - l.queued_at) AS "again in"
FROM webhook.webhook_log l JOIN webhook.workflow w USING (workflow_id) JOIN webhook.action a USING (action_id)
ORDER BY l.log_id;
