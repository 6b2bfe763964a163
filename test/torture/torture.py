#!/usr/bin/env python3
"""Everything goes wrong at once, and nothing may be lost.

Writers commit numbered events from several sessions; some roll back, some
prepare their transactions.  Meanwhile the worker is killed or terminated, the
server is restarted or crashes, settings are reloaded, the log is rewritten and
reindexed, the extension is updated, actions come and go, a standby takes over,
and the receiver fails in every way, or is restarted.  In the end the events
table, the log and the receiver's own notes must tell the same story:

  - every committed event arrived at least once, under one webhook-id;
  - no event arrived that was rolled back, or lost by a crash or a failover;
  - each arrived with its own data, and twice only around a kill;
  - every request that the receiver saw is an attempt in webhook_attempt, but
    those that a kill cut off;
  - what the log calls Success was answered 2xx.

Runs as an unprivileged user, with PostgreSQL's programs in the path.
"""
import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

WRITERS = 4
SLACK = 6.0             # seconds before a kill in which an attempt can be lost
UNANSWERED = 1.0        # seconds before its own kill in which the receiver may note a request and not answer it
PERIOD = 24.0           # seconds; nothing is killed but at its beginning, lest everything be around a kill
KILLING = 8.0


def say(*words):
    print("==", *words, flush=True)


class Cluster:
    """A primary, and the standby that may take over."""

    def __init__(self, directory):
        self.directory = directory
        self.data = os.path.join(directory, "data")
        self.port = 5432
        self.sockets = os.environ.get("TMPDIR", "/tmp")
        self.lock = threading.RLock()

    def run(self, *command, check=True):
        return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def configure(self, data, port):
        with open(os.path.join(data, "postgresql.conf"), "a") as conf:
            conf.write("""
shared_preload_libraries = 'webhook'
webhook.allowed_networks = '127.0.0.0/8'
webhook.timeout = '2s'
listen_addresses = ''
unix_socket_directories = '%s'
port = %d
fsync = off
max_prepared_transactions = 20
restart_after_crash = on
log_line_prefix = '%%m [%%p] %%b '
""" % (self.sockets, port))

    def create(self):
        self.run("initdb", "-D", self.data, "-A", "trust", "-N", "-U", "postgres")
        self.configure(self.data, self.port)
        self.start()

    def ctl(self, *command, check=True):
        return self.run("pg_ctl", "-s", "-w", "-t", "60", "-D", self.data, *command, check=check)

    def start(self):
        # Right after a crash the old processes may still be leaving.
        for _ in range(50):
            out = self.ctl("-l", os.path.join(self.directory, "server.log"), "start", check=False)
            if "could not start" not in out:
                return
            time.sleep(0.1)
        sys.exit("the server does not start: " + out)

    def make_standby(self):
        standby = os.path.join(self.directory, "standby")
        self.sql("SELECT pg_create_physical_replication_slot('standby')")
        self.run("pg_basebackup", "-D", standby, "-h", self.sockets, "-p", str(self.port), "-U", "postgres",
                 "-R", "-X", "stream", "-S", "standby", "-c", "fast")
        with open(os.path.join(standby, "postgresql.conf"), "a") as conf:
            conf.write("port = %d\nprimary_slot_name = 'standby'\nwal_retrieve_retry_interval = '100ms'\n" % (self.port + 1))
        with open(os.path.join(standby, "postgresql.auto.conf"), "a") as conf:
            conf.write("primary_conninfo = 'host=%s port=%d user=postgres application_name=standby'\n" % (self.sockets, self.port))
        self.run("pg_ctl", "-s", "-w", "-D", standby, "-l", os.path.join(self.directory, "standby.log"), "start")
        # Nothing that was committed may be missing there.
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.sql("SELECT pg_reload_conf()")

    def fail_over(self):
        with self.lock:
            self.ctl("-m", "immediate", "stop")
            self.data = os.path.join(self.directory, "standby")
            self.port += 1
            with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as conf:
                conf.write("synchronous_standby_names = ''\n")
            self.ctl("promote")
            self.ctl("reload")

    def psql(self, *options):
        return ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.sockets, "-p", str(self.port),
                "-U", "postgres", "-d", "postgres", *options]

    def sql(self, text, check=True):
        # A prepared transaction that is left alone may keep a fault from its locks.
        options = dict(os.environ, PGOPTIONS="-c lock_timeout=2s -c statement_timeout=60s")
        run = subprocess.run(self.psql("-c", text), capture_output=True, text=True, env=options)
        if check and run.returncode != 0:
            raise RuntimeError(run.stderr)
        return run.stdout.strip()

    def until(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.sql(condition) == "t":
                    return True
            except RuntimeError:
                pass
            time.sleep(0.1)
        return False


class Receiver:
    def __init__(self, directory, seed):
        self.log = os.path.join(directory, "received")
        self.calm = os.path.join(directory, "calm")
        self.port_file = os.path.join(directory, "port")
        self.program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib/receiver.py")
        self.seed = seed
        self.port = 0
        self.process = None
        self.start()

    def start(self):
        if os.path.exists(self.port_file):
            os.unlink(self.port_file)
        self.seed += 1
        self.process = subprocess.Popen(
            ["python3", self.program, "--port-file", self.port_file, "--log", self.log, "--calm", self.calm,
             "--seed", str(self.seed), "--port", str(self.port)], stdin=subprocess.PIPE)
        while not os.path.exists(self.port_file):
            time.sleep(0.02)
        self.port = int(open(self.port_file).read())

    def stop(self):
        self.process.kill()
        self.process.wait()

    def requests(self):
        found = []
        for line in open(self.log, errors="replace"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass                # cut off by a kill
        return found


class Writer(threading.Thread):
    """Commits and rolls back events until it is told to stop; what became of each, the table knows."""

    def __init__(self, cluster, number, seed):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.number = number
        self.random = random.Random(seed)
        self.next = number * 100000000
        self.stopping = False

    def ids(self, n):
        self.next += n
        return self.next - n + 1, self.next

    def transaction(self):
        first, last = self.ids(self.random.choice([1, 1, 1, 2, 5, 40]))
        insert = "INSERT INTO event SELECT i, repeat('x', 200) FROM generate_series(%d, %d) i;"
        text = insert % (first, last)
        dice = self.random.random()
        if dice < 0.55:
            return text
        if dice < 0.7:
            return "BEGIN; %s ROLLBACK;" % text
        if dice < 0.85:
            more = insert % self.ids(3)
            return "BEGIN; %s SAVEPOINT s; %s ROLLBACK TO s; %s COMMIT;" % (text, more, insert % self.ids(2))
        name = "p%d_%d" % (self.number, first)
        end = "COMMIT" if dice < 0.95 else "ROLLBACK"
        return "BEGIN; %s PREPARE TRANSACTION '%s'; %s PREPARED '%s';" % (text, name, end, name)

    def run(self):
        while not self.stopping:
            with self.cluster.lock:
                command = self.cluster.psql()
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, text=True)
            try:
                # What this one commits may be lost in a crash: then it must not have been sent.
                if self.number == 1:
                    process.stdin.write("SET synchronous_commit = off;\n")
                while not self.stopping and process.poll() is None:
                    process.stdin.write(self.transaction() + "\n")
                    process.stdin.flush()
                    time.sleep(self.random.random() * 0.02)
                process.stdin.close()
            except OSError:
                pass
            process.wait()


class Torture:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.cluster = Cluster(args.directory)
        self.kills = []
        self.receiver_kills = []
        self.counts = collections.Counter()
        self.refused = collections.Counter()
        self.extra = 0

    def note_kill(self):
        self.kills.append(time.time())

    def setup(self):
        self.cluster.create()
        share = self.cluster.run("pg_config", "--sharedir").strip()
        for path in ("webhook--1.0--1.0.1.sql", "webhook--1.0.1--1.0.sql"):
            with open(os.path.join(share, "extension", path), "w") as script:
                script.write("COMMENT ON SCHEMA webhook IS '%s';\n" % path)
        self.receiver = Receiver(self.args.directory, self.args.seed)
        self.cluster.sql("""
            CREATE EXTENSION webhook;
            CREATE TABLE event (id bigint PRIMARY KEY, filler text);
            SELECT webhook.create_workflow('event', 'event', 'create');
            SELECT webhook.create_action('event', 'steady', 'http://127.0.0.1:%d/chaos', parameters => '{"id": "${id}"}',
                retry_schedule => array_fill(interval '300 ms', ARRAY[100]));
            """ % self.receiver.port)
        self.cluster.make_standby()

    # -- faults -----------------------------------------------------------

    def worker_pid(self):
        return self.cluster.sql("SELECT pid FROM webhook.stat_worker WHERE pid IS NOT NULL AND worker = 0 LIMIT 1", check=False)

    def kill_worker(self):
        pid = self.worker_pid()
        if pid:
            self.note_kill()
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                return
            time.sleep(0.3)

    def attempt(self, *statements):
        """What is locked, or down, can't be changed just then."""
        for statement in statements:
            try:
                self.cluster.sql(statement)
            except RuntimeError:
                self.refused[sys._getframe(1).f_code.co_name] += 1
                return

    def terminate_worker(self):
        self.attempt("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'webhook worker'")
        self.note_kill()

    def crash(self):
        with self.cluster.lock:
            self.cluster.ctl("-m", "immediate", "stop", check=False)
            self.note_kill()
            self.cluster.start()

    def restart(self):
        with self.cluster.lock:
            self.cluster.ctl("-m", "fast", "stop", check=False)
            self.note_kill()
            self.cluster.start()

    def reload(self):
        self.attempt("ALTER SYSTEM SET webhook.max_in_flight = %d" % self.random.choice([20, 100, 200]), "SELECT pg_reload_conf()")

    def a_table(self):
        return self.random.choice(["webhook.webhook_log", "webhook.webhook_attempt"])

    def vacuum_full(self):
        self.attempt("VACUUM FULL " + self.a_table())

    def reindex(self):
        self.attempt("REINDEX TABLE " + self.a_table())

    def reindex_concurrently(self):
        self.attempt("REINDEX TABLE CONCURRENTLY " + self.a_table())

    def lock_log(self):
        self.attempt("BEGIN; LOCK TABLE webhook.webhook_log; SELECT pg_sleep(0.7); COMMIT")

    def update_extension(self):
        self.attempt("ALTER EXTENSION webhook UPDATE TO '1.0.1'", "ALTER EXTENSION webhook UPDATE TO '1.0'")

    def change_actions(self):
        self.extra += 1
        self.attempt("SELECT webhook.drop_action(action_id) FROM webhook.action WHERE title = 'passing'",
                     "SELECT webhook.create_action('event', 'passing', 'http://127.0.0.1:%d/chaos?passing=%d',"
                     " retry_schedule => array_fill(interval '300 ms', ARRAY[100]))" % (self.receiver.port, self.extra),
                     "SELECT webhook.alter_action(1, description => '%d')" % self.extra)

    def restart_receiver(self):
        self.receiver.stop()
        self.receiver_kills.append(time.time())
        time.sleep(self.random.random() * 0.5)
        self.receiver.start()

    def drop_connections(self):
        self.attempt("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql' AND pid <> pg_backend_pid()")

    def end_prepared(self):
        """As a transaction manager does with what its clients left."""
        for name in self.cluster.sql("SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - interval '2 s'", check=False).split():
            self.cluster.sql("%s PREPARED '%s'" % (self.random.choice(["COMMIT", "ROLLBACK"]), name), check=False)

    def fail(self):
        kills = [self.kill_worker, self.terminate_worker, self.crash, self.restart]
        others = [self.reload, self.vacuum_full, self.reindex, self.reindex_concurrently, self.lock_log,
                  self.update_extension, self.change_actions, self.restart_receiver, self.drop_connections]
        begin = time.monotonic()
        has_failed_over = False
        while time.monotonic() - begin < self.args.duration:
            elapsed = time.monotonic() - begin
            may_kill = elapsed % PERIOD < KILLING
            fault = self.random.choice(kills + kills + others if may_kill else others)
            if not has_failed_over and (may_kill and elapsed > self.args.duration * 0.3 or elapsed > self.args.duration - 3):
                fault = self.cluster.fail_over
                self.note_kill()
                has_failed_over = True
            self.counts[fault.__name__] += 1
            fault()
            self.end_prepared()
            if fault == self.cluster.fail_over:
                self.note_kill()
            time.sleep(self.random.random() * 1.5)

    # -- the reckoning ----------------------------------------------------

    def settle(self):
        open(self.receiver.calm, "w").close()
        if not self.cluster.until("SELECT true", 30):
            sys.exit("the server is gone")
        for name in self.cluster.sql("SELECT gid FROM pg_prepared_xacts").split():
            self.cluster.sql("COMMIT PREPARED '%s'" % name)
        if not self.cluster.until("SELECT count(*) = 0 FROM webhook.webhook_log WHERE retry_at IS NOT NULL", 120):
            sys.exit("deliveries do not end:\n" + self.cluster.sql(
                "SELECT status, attempts, retry_at, error, count(*) FROM webhook.webhook_log WHERE retry_at IS NOT NULL GROUP BY 1, 2, 3, 4 LIMIT 20")
                + "\n" + self.cluster.sql("SELECT * FROM webhook.stat_worker"))

    def is_near_kill(self, moment):
        return (any(moment - 1 <= kill <= moment + SLACK for kill in self.kills)
                or any(moment <= kill <= moment + UNANSWERED for kill in self.receiver_kills))

    def check(self):
        problems = []

        def expect(what, found):
            found = list(found)
            if found:
                problems.append("%s: %d, such as %s" % (what, len(found), found[:5]))

        committed = set(int(i) for i in self.cluster.sql("SELECT id FROM event").split())
        log = {}
        for line in self.cluster.sql("SELECT webhook_id, action_id, record_id, status, attempts FROM webhook.webhook_log").split("\n"):
            webhook_id, action, record, status, attempts = line.split("|")
            log[webhook_id] = (int(action), int(record), status, int(attempts))
        noted = collections.Counter(self.cluster.sql(
            "SELECT l.webhook_id FROM webhook.webhook_attempt a JOIN webhook.webhook_log l USING (log_id)").split())
        requests = collections.defaultdict(list)
        for request in self.receiver.requests():
            requests[request["webhook_id"]].append(request)

        calm = sum(not self.is_near_kill(r["time"]) for seen in requests.values() for r in seen)
        if calm == 0:
            problems.append("no request was made without a kill near: nothing is shown of those")
        if self.args.duration >= 60:
            expect("faults that were refused each time", (i for i, n in self.refused.items() if n >= self.counts[i]))

        steady = {i: row for i, row in log.items() if row[0] == 1}
        ids = collections.Counter(row[1] for row in steady.values())
        expect("committed events that were not queued", committed - set(ids))
        expect("events queued that are not committed", set(ids) - committed)
        expect("events queued twice", (i for i, n in ids.items() if n > 1))
        expect("webhook-ids that the log does not know", (i for i in requests if i not in log))
        expect("requests with another event's data", (i for i, seen in requests.items() if i in log for r in seen
                                                      if json.loads(r["body"])["id"] != log[i][1]))
        good = {i: [r for r in seen if r["answer"] == 200] for i, seen in requests.items()}
        expect("committed events that did not arrive", (row[1] for i, row in steady.items() if not good.get(i)))
        expect("deliveries of a steady action that are not Success", (i for i, row in steady.items() if row[2] != "Success"))
        expect("deliveries that the log calls Success and the receiver did not answer",
               (i for i, row in log.items() if row[2] == "Success" and not good.get(i)))
        # An answer may come too late on a busy machine: then it is no answer, and is logged so.
        late = collections.Counter(self.cluster.sql(
            "SELECT l.webhook_id FROM webhook.webhook_attempt a JOIN webhook.webhook_log l USING (log_id)"
            " WHERE a.error LIKE '%within 2 s%'").split())
        expect("deliveries that arrived twice without a kill near",
               ((i, self.cluster.sql("SELECT string_agg(concat_ws(' ', a.attempt, a.started_at, a.http_status, a.error), '; ')"
                                     " FROM webhook.webhook_attempt a JOIN webhook.webhook_log l USING (log_id) WHERE l.webhook_id = '%s'" % i),
                 [r["time"] for r in seen])
                for i, seen in good.items() if len(seen) > 1 and
                sum(not self.is_near_kill(r["time"]) for r in seen) > 1 + late[i]))
        expect("requests that are no attempt, without a kill near",
               (i for i, seen in requests.items() if i in log and
                sum(not self.is_near_kill(r["time"]) for r in seen) > noted[i]))
        expect("deliveries whose attempts are not those of webhook_attempt",
               (i for i, row in log.items() if row[3] != noted[i]))
        twice = sum(len(seen) > 1 for seen in good.values())
        say("%d events committed, %d deliveries, %d requests (%d without a kill near), %d attempts logged, %d deliveries answered 200 twice around a kill"
            % (len(committed), len(log), sum(map(len, requests.values())), calm, sum(noted.values()), twice))
        return problems

    def stop(self):
        self.receiver.stop()
        for name in ("data", "standby"):
            self.cluster.data = os.path.join(self.args.directory, name)
            self.cluster.ctl("-m", "immediate", "stop", check=False)

    def give_up(self):
        say("WRONG: it takes too long: something hangs")
        say(self.cluster.sql("SELECT pid, backend_type, state, wait_event, query FROM pg_stat_activity", check=False))
        self.stop()
        os._exit(1)

    def main(self):
        watchdog = threading.Timer(self.args.duration + 180, self.give_up)
        watchdog.daemon = True
        watchdog.start()
        say("SEED=%d, %d s" % (self.args.seed, self.args.duration))
        self.setup()
        writers = [Writer(self.cluster, i + 1, self.args.seed + i) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            self.fail()
            for writer in writers:
                writer.stopping = True
            for writer in writers:
                writer.join(30)
            say("faults:", ", ".join("%s %d%s" % (i, n, " (%d refused)" % self.refused[i] if self.refused[i] else "")
                                     for i, n in sorted(self.counts.items())))
            self.settle()
            problems = self.check()
        finally:
            self.stop()
        for problem in problems:
            say("WRONG:", problem)
        if problems:
            say("again with: make torture SEED=%d DURATION=%d" % (self.args.seed, self.args.duration))
            return 1
        say("nothing is lost, nothing is invented")
        return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--duration", type=int, default=120)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(3), "big")
    shutil.rmtree(args.directory, ignore_errors=True)
    os.makedirs(args.directory)
    sys.exit(Torture(args).main())


if __name__ == "__main__":
    main()
