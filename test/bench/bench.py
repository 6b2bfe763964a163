#!/usr/bin/env python3
"""Measure webhook against libcurl alone and against a hand-written queue.

Runs against the cluster that PGHOST, PGPORT and PGDATABASE name, which has the
extension and sends to loopback.  Prints a table, and writes the figures as
JSON to the file named by --json.  Absolute figures depend on the machine;
compare the ratios of one run.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def psql(sql, *options):
    run = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *options, "-c", sql],
                         capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return run.stdout.strip()


class Sink:
    """The receiver."""

    def __init__(self, program, directory, name):
        self.times = os.path.join(directory, name + ".times")
        port_file = os.path.join(directory, name + ".port")
        open(self.times, "w").close()
        self.process = subprocess.Popen([program, port_file, self.times])
        deadline = time.monotonic() + 10
        while not (os.path.exists(port_file) and os.path.getsize(port_file) > 0):
            if time.monotonic() > deadline:
                sys.exit("the receiver did not start")
            time.sleep(0.01)
        self.url = "http://127.0.0.1:%s/" % open(port_file).read().strip()

    def arrivals(self):
        return {int(n): int(t) for n, t in (line.split() for line in open(self.times))}

    def stop(self):
        self.process.kill()
        self.process.wait()


def worker_pid():
    return int(psql("SELECT pid FROM webhook.stat_worker WHERE database = current_database() LIMIT 1"))


def cpu_seconds(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid):
    """Peak of the memory that is the worker's own (without shared buffers), MB."""
    status = dict(line.split(":", 1) for line in open("/proc/%d/status" % pid))
    anonymous = int(status["RssAnon"].split()[0])
    return anonymous / 1024


def setup(url):
    psql("""
        DROP TABLE IF EXISTS bench_deal CASCADE;
        DROP TABLE IF EXISTS bench_queue;
        TRUNCATE webhook.webhook_log, webhook.webhook_attempt;
        CREATE TABLE bench_deal (id bigint PRIMARY KEY, name text, stage text, amount numeric(12,2),
            probability int, owner_id int, organization_id int, close_date date,
            created_at timestamptz DEFAULT now(), description text, active boolean DEFAULT true);
        CREATE TABLE bench_queue (id bigserial PRIMARY KEY, payload jsonb, due timestamptz DEFAULT now());
        CREATE INDEX ON bench_queue (due);
        CREATE OR REPLACE FUNCTION bench_enqueue() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO bench_queue (payload) VALUES (to_jsonb(NEW)); RETURN NULL; END$$;
        SELECT webhook.create_workflow('bench', 'bench_deal', 'create', $$stage = 'Won'$$);
        SELECT webhook.create_action('bench', 'bench', '%s',
            parameters => '{"t": "${id}", "name": "${name}", "amount": "${amount}", "date": "${close_date}",
                            "owner": {"id": "${owner_id}"}, "description": "${description}"}');
    """ % url)


ROWS = """INSERT INTO bench_deal (id, name, stage, amount, probability, owner_id, organization_id, close_date, description)
    SELECT i, 'Deal number ' || i, '%s', i %% 100000 + 0.25, i %% 100, i %% 50, i %% 1000, date '2026-01-01' + (i %% 365)::int,
        repeat('some words about it ', 5) FROM generate_series(%d, %d) i"""


def measure_backlog(n):
    """Deliveries a second of n committed at once, to the last Success."""
    psql("TRUNCATE bench_deal, webhook.webhook_log, webhook.webhook_attempt")
    pid = worker_pid()
    cpu = cpu_seconds(pid)
    psql(ROWS % ("Won", 1, n))
    begin = time.monotonic()
    if psql("SELECT webhook.wait('10 min')") != "t":
        sys.exit("the backlog was not delivered")
    seconds = time.monotonic() - begin
    cpu = cpu_seconds(pid) - cpu
    ended = psql("SELECT count(*) FILTER (WHERE status = 'Success'), count(*) FROM webhook.webhook_log")
    attempts = psql("SELECT count(*) FROM webhook.webhook_attempt")
    if ended != "%d|%d" % (n, n) or attempts != str(n):
        sys.exit("deliveries are missing: %s, %s attempts" % (ended, attempts))
    return n / seconds, cpu * 1e6 / n, peak_memory(pid)


def measure_limit(program, url, n):
    rate, cpu = subprocess.run([program, url, str(n), "50", "300"], check=True, capture_output=True,
                               text=True).stdout.split()
    return float(rate), float(cpu)


def measure_latency(sink, n, first_id):
    """Milliseconds from the end of the writer's last statement, commit included, to arrival."""
    process = subprocess.Popen(["psql", "-X", "-q", "-A", "-t"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    sent = {}
    for i in range(first_id, first_id + n):
        process.stdin.write("BEGIN\\; %s\\; SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint\\; COMMIT;\n"
                            % (ROWS % ("Won", i, i)).replace("\n", " "))
        process.stdin.flush()
        sent[i] = int(process.stdout.readline())
        time.sleep(0.05)
    process.stdin.close()
    process.wait()
    psql("SELECT webhook.wait('10 s')")
    arrived = sink.arrivals()
    times = sorted((arrived[i] - sent[i]) / 1000 for i in sent if i in arrived)
    if len(times) != n:
        sys.exit("%d of %d did not arrive" % (n - len(times), n))
    return times[len(times) // 2], times[int(len(times) * 0.99)]


def measure_insert(n, stage, trigger):
    """Microseconds a row of a bulk INSERT with a trigger: none, plpgsql or webhook."""
    psql("TRUNCATE bench_deal, bench_queue, webhook.webhook_log, webhook.webhook_attempt")
    psql("DROP TRIGGER IF EXISTS bench_plpgsql ON bench_deal")
    psql("SELECT webhook.enable_workflow('bench', %s)" % ("true" if trigger == "webhook" else "false"))
    if trigger == "plpgsql":
        psql("CREATE TRIGGER bench_plpgsql AFTER INSERT ON bench_deal FOR EACH ROW WHEN (NEW.stage = 'Won') "
             "EXECUTE FUNCTION bench_enqueue()")
    psql("CHECKPOINT")
    out = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-c", "\\timing on", "-c", ROWS % (stage, 1, n)],
                         capture_output=True, text=True, check=True).stdout
    milliseconds = float([line for line in out.splitlines() if line.startswith("Time:")][-1].split()[1])
    psql("TRUNCATE webhook.webhook_log, webhook.webhook_attempt")
    return milliseconds * 1000 / n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sink", required=True)
    parser.add_argument("--limit", required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    repeats = 3 if args.quick else 5
    rows = 100000 if args.quick else 200000

    sink = Sink(args.sink, args.directory, "sink")
    figures = {}
    try:
        setup(sink.url)
        psql("SELECT webhook.wait()")
        backlog, limit = [], []
        for _ in range(repeats):
            limit.append(measure_limit(args.limit, sink.url, 50000))
            backlog.append(measure_backlog(50000))
        figures["libcurl alone, 50 in flight: requests/s"] = statistics.median(r for r, _ in limit)
        figures["libcurl alone: CPU each, us"] = statistics.median(c for _, c in limit)
        figures["backlog of 50,000: deliveries/s"] = statistics.median(b[0] for b in backlog)
        figures["backlog: worker's CPU each, us"] = statistics.median(b[1] for b in backlog)
        figures["backlog: worker's own memory, MB"] = max(b[2] for b in backlog)
        figures["backlog / libcurl alone"] = statistics.median(b[0] / l[0] for b, l in zip(backlog, limit))
        figures["CPU / libcurl alone"] = statistics.median(b[1] / l[1] for b, l in zip(backlog, limit))

        latency = [measure_latency(sink, 100, 1000000 * (k + 1)) for k in range(repeats)]
        figures["commit to arrival, one every 50 ms: p50, ms"] = statistics.median(p for p, _ in latency)
        figures["commit to arrival: p99, ms"] = statistics.median(p for _, p in latency)

        # The worker is kept from delivering meanwhile, so that only the writer is measured.
        psql("ALTER SYSTEM SET webhook.enabled = off")
        psql("SELECT pg_reload_conf()")
        time.sleep(0.5)
        cost = {}
        for _ in range(repeats):
            for name, stage, trigger in (("none", "Won", "none"), ("plpgsql", "Won", "plpgsql"),
                                         ("webhook", "Won", "webhook"), ("unmatched", "Lost", "webhook")):
                cost.setdefault(name, []).append(measure_insert(rows, stage, trigger))
        base = statistics.median(cost["none"])
        plpgsql = statistics.median(cost["plpgsql"]) - base
        ours = statistics.median(cost["webhook"]) - base
        figures["bulk INSERT, no trigger: us a row"] = base
        figures["added by a plpgsql row trigger: us a row"] = plpgsql
        figures["added by a workflow, every row matching: us a row"] = ours
        figures["workflow / plpgsql"] = ours / plpgsql
        figures["added by a workflow, no row matching: %"] = \
            statistics.median((u - n) / n for u, n in zip(cost["unmatched"], cost["none"])) * 100
        psql("ALTER SYSTEM RESET webhook.enabled")
        psql("SELECT pg_reload_conf()")
    finally:
        sink.stop()

    width = max(len(name) for name in figures)
    for name, value in figures.items():
        print("%-*s  %12s" % (width, name, ("%.0f" if value >= 1000 else "%.2f") % value))
    if args.json:
        with open(args.json, "w") as out:
            json.dump(figures, out, indent=2)


if __name__ == "__main__":
    main()
