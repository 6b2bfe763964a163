# show.sh
#	  The demo: a small CRM, a receiver, webhooks really sent, the log shown.
#
# Runs as the unprivileged user, called by test/demo/run, in $work/src.

set -eu

sql() { psql -X -q -v ON_ERROR_STOP=1 -P pager=off "$@"; }
title() { printf '\n\033[1m%s\033[0m\n' "── $*"; }
[ -n "${colour:-}" ] || title() { printf '\n── %s\n' "$*"; }
# Show a file and run it: what it says is what was done.
shown() { grep -v '^--' "$1" | sed 's/^/    /'; echo; sql "${@:2}" -f "$1"; }

mkdir "$work/data"
export PGHOST=$work/tmp PGPORT=5432 PGDATABASE=crm
initdb -D "$work/data" -U postgres -A trust -E UTF8 --no-locale -N >"$work/out/initdb.log" ||
	{ cat "$work/out/initdb.log"; exit 1; }
cat >>"$work/data/postgresql.conf" <<END
shared_preload_libraries = 'webhook'
webhook.allowed_networks = '127.0.0.0/8'
fsync = off
listen_addresses = ''
unix_socket_directories = '$work/tmp'
END
pg_ctl -s -w -D "$work/data" -l "$work/out/server.log" start || { cat "$work/out/server.log"; exit 1; }

title "A receiver that prints what it gets; it wants a password at /invoices, and is down at /warehouse"
python3 test/lib/receiver.py --no-stdin --port-file "$work/out/port" --log "$work/out/received" --show \
	--route '/warehouse=/status/503?body=closed+for+inventory' \
	--route '/invoices=/basic?user=crm&password=correct+horse+battery+staple' &
receiver=$!
for i in $(seq 100); do
	[ ! -s "$work/out/port" ] || break
	sleep 0.05
done
url=http://127.0.0.1:$(cat "$work/out/port")
echo "    $url"

# Left running, it holds no pipe of whoever reads this.
python3 test/lib/mail_server.py --no-stdin --port-file "$work/out/mail_port" --log "$work/out/mails" >"$work/out/mail_server.log" 2>&1 &
for i in $(seq 100); do
	[ ! -s "$work/out/mail_port" ] || break
	sleep 0.05
done
mail_port=$(cat "$work/out/mail_port") || { cat "$work/out/mail_server.log"; exit 1; }
sql -d postgres -c "ALTER SYSTEM SET webhook.smtp_url = 'smtp://localhost:$mail_port'" \
	-c "ALTER SYSTEM SET webhook.smtp_from = 'CRM <crm@example.com>'" -c 'SELECT pg_reload_conf()' -o /dev/null

title "A small CRM, and four workflows on it"
createdb crm
sql -c 'CREATE EXTENSION webhook' -f test/demo/crm.sql
sql -o /dev/null -v url="$url" -f test/demo/workflows.sql
sql -c "SELECT 'organization' AS module, count(*) FROM organization UNION ALL SELECT 'contact', count(*) FROM contact
	UNION ALL SELECT 'deal', count(*) FROM deal UNION ALL SELECT 'deal_item', count(*) FROM deal_item
	UNION ALL SELECT 'lead', count(*) FROM lead"
sql -c "SELECT w.name AS workflow, w.module, w.trigger, w.condition, a.title AS action, a.method, a.content_type AS type,
	a.authorization_type AS authorization FROM webhook.workflow w JOIN webhook.action a USING (workflow_id) ORDER BY action_id"

title "A day in the CRM; each change is sent as soon as it is committed"
shown test/demo/day.sql
[ "$(sql -Atc "SELECT webhook.wait('20 s')")" = t ] ||
	{ echo "not all was delivered in time" >&2; sql -f test/demo/log.sql; cat "$work/out/server.log"; exit 1; }

title "The log"
shown test/demo/log.sql

title "Every attempt is kept; of the one that failed:"
sql -x -c "SELECT log_id, attempt, started_at, duration, http_status, error, request_body, response_body
	FROM webhook.webhook_attempt WHERE http_status = 503 ORDER BY log_id LIMIT 1"

title "The deals' owners and the admins are told; what fails together, together"
for i in $(seq 200); do
	[ "$(sql -Atc "SELECT count(*) FROM webhook.mail_log WHERE status = 'Success'")" -lt 4 ] || break
	sleep 0.1
done
sql -c "SELECT mail_id, recipient, subject, status FROM webhook.mail_log ORDER BY mail_id"
sql -Atc "SELECT body FROM webhook.mail_log WHERE recipient = 'dba@example.com'" | sed 's/^/    /'

title "What would be sent for deal 5, if it were won (nothing is sent)"
echo "    SELECT * FROM webhook.preview(1, '5')"
echo
sql -x -c "SELECT * FROM webhook.preview(1, '5')"

title "The triggers that do it: PostgreSQL itself checks the criteria"
sql -c '\d deal' | sed -n '/^Triggers/,$p'

sql -At -F ' ' -c "SELECT count(*), count(*) FILTER (WHERE status = 'Success'), count(*) FILTER (WHERE retry_at IS NOT NULL)
	FROM webhook.webhook_log" >"$work/out/counts"
read -r all success waiting <"$work/out/counts"
[ -z "$keep" ] || kill -USR1 "$receiver"
echo
further="To look further: make demo KEEP=1"
[ -z "$keep" ] || further="The cluster is left running."
mails=$(sql -Atc "SELECT count(*) FROM webhook.mail_log WHERE status = 'Success'")
echo "$all webhooks sent, $success delivered, $waiting to be tried again in an hour, $mails mails sent. $further"
