#!/usr/bin/env python3
"""Measure webhook against libcurl alone and against a queue written by hand.

Runs against the cluster that PGHOST, PGPORT and PGDATABASE name, which has the
extension and sends to loopback.  Prints a table, and writes the figures as
JSON to the file named by --json.  Absolute figures depend on the machine;
compare the ratios of one run.  What is compared is measured in turn, and
medians are taken.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

import probes
from probes import psql

median = statistics.median

COLUMNS = """id bigint PRIMARY KEY, name text, stage text, amount numeric(12,2), probability int, owner_id int,
    organization_id int, close_date date, created_at timestamptz DEFAULT now(), description text, active boolean DEFAULT true"""
ROWS = """INSERT INTO %s (id, name, stage, amount, probability, owner_id, organization_id, close_date, description)
    SELECT i, 'Deal number ' || i, '%s', i %% 100000 + 0.25, i %% 100, i %% 50, i %% 1000, date '2026-01-01' + (i %% 365)::int,
        'some words about it, and some more, to make three hundred' FROM generate_series(%d, %d) i"""
PARAMETERS = """{"%s": "${id}", "name": "${name}", "amount": "${amount}", "date": "${close_date}", "owner": {"id": "${owner_id}"},
    "organization": "${organization_id}", "probability": "${probability}", "description": "${description}", "created": "${created_at}"}"""


def create_module(table, url, key="id", actions=1, **options):
    psql("DROP TABLE IF EXISTS %s CASCADE" % table)
    psql("CREATE TABLE %s (%s)" % (table, COLUMNS))
    psql("SELECT webhook.create_workflow('%s', '%s', 'create', $$stage = 'Won'$$)" % (table, table))
    more = "".join(", %s => %s" % option for option in options.items())
    for n in range(actions):
        psql("SELECT webhook.create_action('%s', '%s %d', '%s', parameters => '%s'%s)"
             % (table, table, n, url, PARAMETERS % key, more))


def clear(*tables):
    psql("TRUNCATE webhook.webhook_log, webhook.webhook_attempt" + "".join(", " + table for table in tables))


class Bench:
    def __init__(self, args):
        self.args = args
        self.repeats = 3 if args.quick else 5
        self.sink = probes.Receiver(args.sink, args.directory, "sink")
        self.other = probes.Receiver(args.sink, args.directory, "other")
        self.hanging = probes.Receiver(args.sink, args.directory, "hanging", "hang")
        self.limit = probes.Limit(args.limit)
        self.figures = {}
        self.rows = []
        self.next_id = 1

    def stop(self):
        for receiver in (self.sink, self.other, self.hanging):
            receiver.stop()

    def note(self, name, value):
        self.figures[name] = value
        print("   %s: %.4g" % (name, value), flush=True)
        return value

    def judge(self, what, value, unit, bound, goal, more_is_better=False):
        def reached(limit):
            return limit is None or (value >= limit if more_is_better else value <= limit)
        self.figures[what] = value
        self.rows.append((what, value, unit, bound, goal,
                          "goal" if goal is not None and reached(goal) else "yes" if reached(bound) else "NO"))
        print("== %s: %.3g %s" % (what, value, unit), flush=True)

    # -- deliveries a second ------------------------------------------------

    def deliver(self, n, table="bench_deal"):
        """Deliveries a second of n committed at once, and microseconds of the worker's CPU each."""
        first = self.next_id
        self.next_id += n
        cpu = probes.cpu_seconds()
        psql(ROWS % (table, "Won", first, first + n - 1))
        begin = time.time()
        probes.wait_for_deliveries()
        cpu = probes.cpu_seconds() - cpu
        return n / (probes.last_completion(n) - begin), cpu * 1e6 / n

    def check(self, n):
        """Nothing is missing, and every attempt is logged."""
        ended = psql("SELECT count(*) FILTER (WHERE status = 'Success'), count(*), sum(attempts) FROM webhook.webhook_log")
        attempts = psql("SELECT count(*) FROM webhook.webhook_attempt")
        if ended != "%d|%d|%d" % (n, n, n) or attempts != str(n):
            sys.exit("deliveries are missing: %s, %s attempts, not %d" % (ended, attempts, n))

    def backlog(self):
        n = 50000
        create_module("bench_deal", self.sink.url)
        self.deliver(1000)
        self.body = psql("SELECT request_body FROM webhook.webhook_attempt LIMIT 1")
        self.note("body, bytes", len(self.body))
        self.note("record, bytes of JSON", float(psql("SELECT avg(length(record::text)) FROM webhook.webhook_log")))
        ours, limit = [], []
        for _ in range(self.repeats):
            clear("bench_deal")
            limit.append(self.limit.run(self.sink.url, n, self.body))
            ours.append(self.deliver(n))
            self.check(n)
        self.note("a commit's own flush, ms", self.measure_flush())
        self.note("libcurl alone, 50 in flight: requests/s", median(r for r, _ in limit))
        self.note("libcurl alone: us of CPU each", median(c for _, c in limit))
        self.note("backlog: deliveries/s", median(r for r, _ in ours))
        self.note("backlog: us of the worker's CPU each", median(c for _, c in ours))
        self.judge("backlog of 50,000: rate / libcurl alone", median(o[0] / l[0] for o, l in zip(ours, limit)), "", 0.40, 0.60, True)
        self.judge("worker's CPU a delivery / libcurl alone", median(o[1] / l[1] for o, l in zip(ours, limit)), "", 2.5, 1.8)

    def measure_flush(self):
        """Milliseconds that a COMMIT takes on this disk when nobody listens."""
        psql("CREATE TABLE bench_flush (i int)")
        session = probes.Session()
        times = []
        for i in range(100):
            session.ask("BEGIN\\; INSERT INTO bench_flush VALUES (%d)\\; SELECT 1" % i)
            begin = time.monotonic()
            session.ask("COMMIT\\; SELECT 1")
            times.append((time.monotonic() - begin) * 1000)
        session.close()
        psql("DROP TABLE bench_flush")
        return median(times)

    def held_snapshot(self):
        """With and without a snapshot that was taken so many deliveries ago."""
        before = 100000 if self.args.quick else 300000
        rates = {True: [], False: []}
        for _ in range(1 if self.args.quick else 3):
            for held in (False, True):
                clear("bench_deal")
                session = probes.Session()
                if held:
                    session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ\\; SELECT count(*) FROM webhook.webhook_log")
                for _ in range(before // 50000):
                    self.deliver(50000)
                for _ in range(3):
                    rates[held].append(self.deliver(50000)[0])
                session.close()
        self.note("backlog after %d others: deliveries/s" % before, median(rates[False]))
        self.note("... under a snapshot held since: deliveries/s", median(rates[True]))
        self.judge("snapshot held since %d deliveries ago: rate / unheld" % before,
                   median(rates[True]) / median(rates[False]), "", 0.9, 1.0, True)

    def history(self):
        """With rows of history in the log, and without."""
        n = 1000000 if self.args.quick else 10000000
        rates = []
        clear("bench_deal")
        for _ in range(self.repeats):
            rates.append(self.deliver(50000)[0])
        for first in range(1, n, 1000000):
            psql("""INSERT INTO webhook.webhook_log (workflow_id, action_id, module, operation, record_id, record, status, attempts,
                        queued_at, dispatched_at, completed_at, http_status, owner)
                    SELECT 1, 1, 'bench_deal', 'INSERT', i, (SELECT record FROM webhook.webhook_log LIMIT 1), 'Success', 1, t, t, t, 200,
                        current_user::regrole FROM generate_series(%d, %d) i, now() AS t""" % (first, first + 999999))
        psql("VACUUM ANALYZE webhook.webhook_log")
        psql("CHECKPOINT")
        with_history = [self.deliver(50000)[0] for _ in range(self.repeats)]
        begin = time.monotonic()
        psql("SELECT count(*) FROM webhook.stat_action")
        self.note("stat_action with it, ms", (time.monotonic() - begin) * 1000)
        begin = time.monotonic()
        psql("SELECT * FROM webhook.health()")
        self.note("health() with it, ms", (time.monotonic() - begin) * 1000)
        clear("bench_deal")
        rates += [self.deliver(50000)[0] for _ in range(self.repeats)]
        self.judge("%d million rows of history: rate / empty log" % (n // 1000000), median(with_history) / median(rates),
                   "", 0.95, 1.0, True)

    # -- latency ------------------------------------------------------------

    def measure_latency(self, n=200):
        """Milliseconds from the writer's COMMIT (its flush included) to arrival: p50, p99."""
        session = probes.Session()
        sent = {}
        for _ in range(n):
            i = self.next_id
            self.next_id += 1
            sent[i] = int(session.ask("BEGIN\\; %s\\; SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint\\; COMMIT"
                                      % (ROWS % ("bench_ping", "Won", i, i)).replace("\n", " ")))
            time.sleep(0.05)
        session.close()
        deadline = time.monotonic() + 10
        while True:
            arrived = self.sink.arrivals()
            if all(i in arrived for i in sent):
                break
            if time.monotonic() > deadline:
                sys.exit("%d did not arrive" % sum(i not in arrived for i in sent))
            time.sleep(0.05)
        times = sorted((arrived[i] - sent[i]) / 1000 for i in sent)
        return times[n // 2], times[int(n * 0.99)]

    def latency(self):
        create_module("bench_ping", self.sink.url, "t")
        create_module("bench_other", self.other.url)
        create_module("bench_hang", self.hanging.url, timeout="'10 s'")
        quiet, busy, hung = [], [], []
        event = (ROWS % ("bench_other", "Won", 1, 10)).replace("SELECT i,", "SELECT %d * 10 + i,", 1)
        event = event.replace("i % ", "i %% ").replace("\n", " ")
        for _ in range(self.repeats):
            quiet.append(self.measure_latency())
            with probes.traffic(100, event):
                busy.append(self.measure_latency())
            clear("bench_other")
        psql(ROWS % ("bench_hang", "Won", 1, 10000))
        for _ in range(self.repeats):
            hung.append(self.measure_latency())
        psql("DROP TABLE bench_hang, bench_other CASCADE")
        probes.wait_for_deliveries()
        for what, times, p50, p99, goal in (
                ("commit to arrival", quiet, 1, 5, 0.5),
                ("... while 1,000 a second go elsewhere", busy, 3, 20, None),
                ("... while a third receiver hangs, 10,000 due", hung,
                 median(p for p, _ in quiet) * 1.3, max(5, median(p for _, p in quiet) * 2), None)):
            self.judge(what + ": p50", median(p for p, _ in times), "ms", p50, goal)
            self.judge(what + ": p99", median(p for _, p in times), "ms", p99, None)

    # -- what the writer pays -----------------------------------------------

    def insert(self, n, stage, trigger):
        """Microseconds a row of a bulk INSERT with a trigger: none, plpgsql that inserts once or three times, or a workflow
        with one or three actions."""
        clear("bench_write", "bench_queue")
        psql("DROP TRIGGER IF EXISTS bench_plpgsql ON bench_write")
        psql("SELECT webhook.enable_workflow('bench_write', %s)" % ("true" if trigger in (1, 3) else "false"))
        psql("SELECT webhook.enable_action(action_id, %s) FROM webhook.action WHERE title IN ('bench_write 1', 'bench_write 2')"
             % ("true" if trigger == 3 else "false"))
        if trigger in ("plpgsql", "plpgsql_three"):
            psql("CREATE TRIGGER bench_plpgsql AFTER INSERT ON bench_write FOR EACH ROW WHEN (NEW.stage = 'Won') "
                 "EXECUTE FUNCTION bench_enqueue%s()" % trigger[len("plpgsql"):])
        psql("CHECKPOINT")
        out = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-c", "\\timing on", "-c", ROWS % ("bench_write", stage, 1, n)],
                             capture_output=True, text=True, check=True).stdout
        milliseconds = float([line for line in out.splitlines() if line.startswith("Time:")][-1].split()[1])
        return milliseconds * 1000 / n

    def create_writers(self):
        """A module with three actions, and a queue written by hand."""
        psql("""DROP TABLE IF EXISTS bench_queue;
            CREATE TABLE bench_queue (id bigserial PRIMARY KEY, payload jsonb, due timestamptz DEFAULT now());
            CREATE INDEX ON bench_queue (due);
            CREATE OR REPLACE FUNCTION bench_enqueue() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN INSERT INTO bench_queue (payload) VALUES (to_jsonb(NEW)); RETURN NULL; END$$;
            CREATE OR REPLACE FUNCTION bench_enqueue_three() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN
                    INSERT INTO bench_queue (payload) VALUES (to_jsonb(NEW));
                    INSERT INTO bench_queue (payload) VALUES (to_jsonb(NEW));
                    INSERT INTO bench_queue (payload) VALUES (to_jsonb(NEW));
                    RETURN NULL;
                END$$""")
        create_module("bench_write", self.sink.url, actions=3)

    def writer(self):
        self.create_writers()
        n = 200000
        cost = {}
        probes.switch_worker(False)     # so that only the writer is measured
        for _ in range(self.repeats):
            for name, stage, trigger in (("none", "Won", None), ("plpgsql", "Won", "plpgsql"),
                                         ("plpgsql_three", "Won", "plpgsql_three"), ("one", "Won", 1),
                                         ("unmatched", "Lost", 1), ("three", "Won", 3)):
                cost.setdefault(name, []).append(self.insert(n, stage, trigger))
        added = {name: median(t - base for t, base in zip(cost[name], cost["none"])) for name in cost}
        self.note("bulk INSERT, no trigger: us a row", median(cost["none"]))
        self.note("added by a plpgsql row trigger: us a row", added["plpgsql"])
        self.note("added by a workflow, every row matching: us a row", added["one"])
        self.note("added by a workflow of three actions: us a row", added["three"])
        self.judge("bulk INSERT, all match: added cost / plpgsql's", added["one"] / added["plpgsql"], "", 0.8, 0.5)
        self.judge("bulk INSERT, none matches: added",
                   median((u - b) / b for u, b in zip(cost["unmatched"], cost["none"])) * 100, "%", 10, 3)
        self.note("by hand, three rows: added cost / one's", added["plpgsql_three"] / added["plpgsql"])
        self.judge("three actions: added cost / one's", added["three"] / added["one"], "", 2.0, 1.5)
        clear("bench_write", "bench_queue")
        probes.switch_worker(True)

    def transactions(self):
        """Single-row INSERTs of two clients: transactions a second."""
        self.create_writers()
        seconds = 5 if self.args.quick else 10
        script = self.args.directory + "/insert.sql"
        with open(script, "w") as out:
            out.write("\\set i random(1, 1000000000000)\n" + ROWS.replace("SELECT i,", "SELECT :i + i,", 1).replace("\n", " ")
                      % ("bench_write", "Won", 1, 1) + ";\n")

        def transact(trigger, rate=None):
            """With libcurl alone beside it, as fast as told."""
            self.insert(10, "Won", trigger)
            probes.wait_for_deliveries()
            beside = rate and self.limit.start(self.sink.url, int(rate * seconds), self.body, rate)
            out = subprocess.run(["pgbench", "-n", "-c", "2", "-j", "1", "-T", str(seconds), "-f", script],
                                 capture_output=True, text=True, check=True).stdout
            if beside:
                beside.communicate()
            probes.wait_for_deliveries()
            return float([line for line in out.splitlines() if line.startswith("tps")][0].split()[2])

        ours, theirs, beside = [], [], []
        for _ in range(self.repeats):
            theirs.append(transact("plpgsql"))
            ours.append(transact(1))
            beside.append(transact("plpgsql", ours[-1]))
        self.note("2 clients, plpgsql trigger, nobody delivering: tps", median(theirs))
        self.note("... beside libcurl alone, that sends as many as the workflow does: tps / nobody delivering",
                  median(b / t for b, t in zip(beside, theirs)))
        self.note("2 clients, a workflow, delivered meanwhile: tps", median(ours))
        self.judge("single-row INSERTs, 2 clients: tps / plpgsql's", median(o / t for o, t in zip(ours, theirs)), "", 0.9, 1.0, True)

    # -- what is taken and left ---------------------------------------------

    def memory(self):
        n = 200000 if self.args.quick else 1000000
        clear("bench_deal")
        psql(ROWS % ("bench_deal", "Won", 1, n))
        most = 0
        for _ in range(50):
            most = max(most, probes.own_memory())
            time.sleep(0.1)
        self.judge("worker's own memory, backlog of {:,}".format(n), most, "MB", 100, 50)
        probes.switch_worker(False)
        clear("bench_deal")
        probes.switch_worker(True)

    def traces(self):
        """Bytes of disk and of WAL that a delivery leaves, from the second batch on."""
        n = 50000
        batches = 4
        clear("bench_deal")
        create_module("bench_plain", self.sink.url)
        psql("SELECT webhook.enable_workflow('bench_plain', false)")
        wal = probes.wal_bytes()
        psql(ROWS % ("bench_plain", "Won", 1, n))
        plain = probes.wal_bytes() - wal
        wal = 0
        for batch in range(batches + 1):
            if batch == 1:
                size = probes.log_bytes()
            begin = probes.wal_bytes()
            self.deliver(n)
            if batch > 0:
                wal += probes.wal_bytes() - begin - plain
            psql("VACUUM webhook.webhook_log, webhook.webhook_attempt")
        self.judge("disk a finished delivery leaves", (probes.log_bytes() - size) / (n * batches), "bytes", 1500, 900)
        self.judge("WAL a delivery", wal / (n * batches), "bytes", 3000, 1800)
        psql("DROP TABLE bench_plain CASCADE")

    def retention(self):
        """10,000 events a second for six minutes, and what is delivered goes again after five seconds."""
        rate = 10000
        clear("bench_deal")
        probes.set_option("webhook.log_retention", "'5s'")
        session = probes.Session()
        sizes, ages, late = [], [], []
        cpu = probes.cpu_seconds()
        begin = time.monotonic()
        n = 0
        while time.monotonic() < begin + 360:
            insert = ROWS % ("bench_deal", "Won", self.next_id, self.next_id + rate // 10 - 1)
            session.ask(insert.replace("\n", " ") + "\\; SELECT 1")
            self.next_id += rate // 10
            n += rate // 10
            if n % (5 * rate) == 0:
                at = time.monotonic() - begin
                sizes.append((at, probes.log_bytes() / 1e6))
                ages.append((at, float(psql("SELECT extract(epoch FROM clock_timestamp() - queued_at) FROM webhook.webhook_log ORDER BY log_id LIMIT 1"))))
                late.append(float(psql("SELECT count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL")))
            time.sleep(max(0, begin + n / rate - time.monotonic()))
        seconds = time.monotonic() - begin
        cpu = probes.cpu_seconds() - cpu
        session.close()
        probes.wait_for_deliveries()
        probes.set_option("webhook.log_retention", None)
        self.note("purge beside: deliveries/s", n / seconds)
        self.note("purge beside: us of the worker's CPU a delivery, its purge included", cpu * 1e6 / n)
        self.note("purge beside: due when looked at, at most", max(late))
        early = max(size for at, size in sizes if 120 <= at < 240)
        later = max(size for at, size in sizes if at >= 270)
        self.note("log and attempts, most in minutes 3 and 4: MB", early)
        self.note("log and attempts, most in the last minute and a half: MB", later)
        self.judge("10,000 a second with a purge: oldest row, retention 5 s", max(age for at, age in ages if at >= 60), "s", 10, 6)
        self.judge("10,000 a second with a purge: size late / early", later / early, "", 1.2, 1.0)

    # -- many actions -------------------------------------------------------

    def sharing(self):
        """A receiver with ten due beside one with many; ordered deliveries beside others."""
        n = 50000
        create_module("bench_few", self.other.url)
        create_module("bench_many", self.sink.url)
        create_module("bench_ordered", self.sink.url, ordered="true")
        alone, beside, ordered, plain = [], [], [], []
        ten = ROWS % ("bench_few", "Won", 1, 10)
        last = "SELECT extract(epoch FROM max(completed_at) - min(queued_at)) * 1000 FROM webhook.webhook_log WHERE module = 'bench_few'::regclass"
        for _ in range(self.repeats):
            clear("bench_few", "bench_many", "bench_ordered")
            psql(ten)
            probes.wait_for_deliveries()
            alone.append(float(psql(last)))
            clear("bench_few")
            psql(ROWS % ("bench_many", "Won", 1, n))
            psql(ten)
            probes.wait_until("SELECT count(*) = 10 FROM webhook.webhook_log WHERE module = 'bench_few'::regclass AND status = 'Success'",
                              "ten are delivered beside many")
            if psql("SELECT count(*) > 0 FROM webhook.webhook_log WHERE retry_at IS NOT NULL") != "t":
                sys.exit("the many were done before the few")
            beside.append(float(psql(last)))
            probes.wait_for_deliveries()
            clear("bench_many")
            plain.append(self.deliver(n, "bench_many")[0])
            ordered.append(self.deliver(n, "bench_ordered")[0])
        chain = 500
        psql("SELECT webhook.alter_workflow('bench_ordered', trigger => 'update')")
        clear("bench_ordered")
        psql(ROWS % ("bench_ordered", "Won", 1, 1))
        psql("".join("UPDATE bench_ordered SET probability = probability + 1;" for _ in range(chain)))
        begin = time.monotonic()
        probes.wait_for_deliveries()
        self.note("%d ordered deliveries of one record: deliveries/s" % chain, chain / (time.monotonic() - begin))
        wrong = psql("""SELECT count(*) FROM (SELECT started_at < lag(started_at + duration) OVER (ORDER BY log_id) AS is_early
            FROM webhook.webhook_attempt) a WHERE is_early""")
        if wrong != "0":
            sys.exit("%s of one record's deliveries overtook another" % wrong)
        self.note("ten due, alone: ms until the last has succeeded", median(alone))
        self.note("ten due beside 50,000 of another receiver: ms", median(beside))
        self.note("50,000 records' ordered deliveries: deliveries/s", median(ordered))
        self.note("the same, not ordered: deliveries/s", median(plain))
        self.judge("ten due beside 50,000 elsewhere: until the last", median(beside), "ms", 100, 20)
        self.judge("ordered, of different records: rate / not ordered", median(o / p for o, p in zip(ordered, plain)), "", 0.8, 0.95, True)
        psql("DROP TABLE bench_few, bench_many, bench_ordered CASCADE")

    # -- TLS ----------------------------------------------------------------

    def tls(self):
        """The same receiver by http, and by https with HTTP/2; and with two workers."""
        n = 30000
        http, https, limits, two = [], [], [], []
        create_module("bench_http", self.args.http)
        create_module("bench_https", self.args.https)
        probes.set_option("webhook.ca_file", "'%s'" % self.args.ca)
        wait = "SELECT count(*) = %d FROM webhook.stat_worker WHERE database = current_database() AND state = 'running'"
        self.deliver(1000, "bench_https")
        for _ in range(self.repeats):
            http.append(self.deliver(n, "bench_http")[0])
            https.append(self.deliver(n, "bench_https")[0])
            limits.append(self.limit.run(self.args.https, n, self.body, self.args.ca)[0])
        for _ in range(self.repeats):
            probes.set_option("webhook.workers_per_database", 2)
            probes.wait_until(wait % 2, "there are two workers")
            two.append(self.deliver(n, "bench_https")[0])
            probes.set_option("webhook.workers_per_database", None)
            probes.wait_until(wait % 1, "there is one worker")
            https.append(self.deliver(n, "bench_https")[0])
        self.note("nginx, http: deliveries/s", median(http))
        self.note("nginx, https with HTTP/2: deliveries/s", median(https))
        self.note("libcurl alone, https with HTTP/2: requests/s", median(limits))
        self.note("https with two workers: deliveries/s", median(two))
        self.judge("HTTPS with HTTP/2: rate / http", median(https) / median(http), "", 0.6, 0.9, True)
        self.judge("HTTPS: two workers / one", median(two) / median(https), "", 1.0, None, True)
        psql("DROP TABLE bench_http, bench_https CASCADE")

    # -- all ----------------------------------------------------------------

    def run(self):
        psql("SELECT webhook.wait()")
        parts = ["backlog", "latency", "writer", "transactions", "memory", "traces"]
        if self.args.https:
            parts.append("tls")
        parts += ["sharing", "held_snapshot", "history"]
        if not self.args.quick:
            parts.append("retention")
        for part in parts:
            if not self.args.only or part in self.args.only.split(",") or part == "backlog":
                getattr(self, part)()

    def print_table(self):
        width = max(len(row[0]) for row in self.rows)
        print("\n%-*s  %10s  %-5s  %10s  %8s" % (width, "what", "measured", "", "to reach", "beyond"))
        for what, value, unit, bound, goal, verdict in self.rows:
            print("%-*s  %10.3g  %-5s  %10.3g  %8s  %s"
                  % (width, what, value, unit, bound, "" if goal is None else "%.3g" % goal,
                     {"goal": "reached, and beyond", "yes": "reached", "NO": "falls short"}[verdict]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sink", required=True)
    parser.add_argument("--limit", required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--json")
    parser.add_argument("--http", help="URL of a receiver that speaks both")
    parser.add_argument("--https")
    parser.add_argument("--ca", help="file with the certificate of its CA")
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    bench = Bench(args)
    try:
        bench.run()
    finally:
        bench.stop()
    bench.print_table()
    if args.json:
        with open(args.json, "w") as out:
            json.dump(bench.figures, out, indent=2)


if __name__ == "__main__":
    main()
