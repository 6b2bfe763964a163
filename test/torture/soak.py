#!/usr/bin/env python3
"""A million deliveries, and nothing grows.

Deliveries that succeed, and deliveries that fail in every way: a receiver that
answers errors, garbage, late, half or not at all, a port where nobody listens,
a name that does not exist, a certificate that is not to be trusted, a body
that can't be rendered.  Meanwhile workflows and tables come and go, so that
the caches of the worker are filled and emptied.  Its memory, descriptors and
caches are written down every few per cent; what they are in the second half
must be what they were in the first; of connections, no more are kept than may be.

Runs as an unprivileged user, with PostgreSQL's programs in the path.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time

from torture import Cluster, say

BATCH = 2000
SAMPLES = 25
SLACK = 1.10            # of the second half's medians over the first's
MAX_KEPT = 2 * 200      # connections: twice webhook.max_in_flight


def median(values):
    return sorted(values)[len(values) // 2]


class Receiver:
    def __init__(self, directory, name, *options):
        port_file = os.path.join(directory, name)
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib/receiver.py")
        self.process = subprocess.Popen(["python3", program, "--port-file", port_file, *options], stdin=subprocess.PIPE)
        while not os.path.exists(port_file) or not open(port_file).read().strip():
            time.sleep(0.02)
        self.port = int(open(port_file).read())

    def stop(self):
        self.process.kill()
        self.process.wait()


class Soak:
    def __init__(self, args):
        self.args = args
        self.cluster = Cluster(args.directory)
        self.server_log = os.path.join(args.directory, "server.log")
        self.samples = []

    def setup(self):
        pem = os.path.join(self.args.directory, "strange")
        self.cluster.create()
        self.cluster.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                         "-keyout", pem + ".key", "-out", pem + ".crt")
        self.receivers = [Receiver(self.args.directory, "plain", "--seed", "1"),
                          Receiver(self.args.directory, "tls", "--tls", pem + ".crt", pem + ".key")]
        plain, tls = ("127.0.0.1:%d" % receiver.port for receiver in self.receivers)
        for setting in ("webhook.timeout = '2s'", "webhook.max_actions_per_workflow = 10", "webhook.max_payload_size = '2kB'"):
            self.cluster.sql("ALTER SYSTEM SET " + setting)
        self.cluster.sql("SELECT pg_reload_conf()")
        self.cluster.sql("""
            CREATE EXTENSION webhook;
            CREATE TABLE customer (id int PRIMARY KEY, name text);
            INSERT INTO customer SELECT i, 'customer ' || i FROM generate_series(1, 1000) i;
            CREATE TABLE event (id bigint PRIMARY KEY, customer_id int REFERENCES customer, kind int, filler text);
            SELECT webhook.create_workflow('good', 'event', 'create');
            SELECT webhook.create_action('good', 'good', 'http://%(plain)s/ok', headers => '{"X-Kind": "${kind}"}',
                parameters => '{"id": "${id}", "customer.name": "${customer_id.name}", "twice": "${= kind * 2}"}',
                retry_schedule => array_fill(interval '300 ms', ARRAY[10]));
            SELECT webhook.create_workflow('bad', 'event', 'create', 'kind < 4');
            SELECT webhook.create_action('bad', 'chaos', 'http://%(plain)s/chaos?kind=${kind}', content_type => 'XML',
                retry_schedule => '{300 ms, 300 ms}');
            SELECT webhook.create_action('bad', 'too large now and then', 'http://%(plain)s/ok', content_type => 'FORM',
                parameters => '{"filler": "${filler}"}', retry_schedule => '{300 ms}');
            SELECT webhook.create_workflow('worse', 'event', 'create', 'kind = 5');
            SELECT webhook.create_action('worse', 'nobody listens', 'http://127.0.0.1:9/', retry_schedule => '{300 ms}');
            SELECT webhook.create_action('worse', 'a stranger', 'https://%(tls)s/ok', retry_schedule => '{300 ms}');
            SELECT webhook.create_action('worse', 'no such name', 'http://nobody.invalid/', retry_schedule => '{300 ms}');
            """ % dict(plain=plain, tls=tls))

    def write(self, first):
        self.cluster.sql("INSERT INTO event SELECT i, 1 + i %% 1000, i %% 40, repeat('x', CASE WHEN i %% 200 = 3 THEN 4000 ELSE 200 END)"
                         " FROM generate_series(%d, %d) i" % (first, first + BATCH - 1))

    def churn(self, number):
        """What a database does besides: the worker is told of all of it."""
        self.cluster.sql("""
            CREATE TABLE passing_%(n)d (id int PRIMARY KEY);
            SELECT webhook.create_workflow('passing %(n)d', 'passing_%(n)d', 'create');
            SELECT webhook.create_action('passing %(n)d', 'good', 'http://127.0.0.1:%(port)d/ok',
                retry_schedule => array_fill(interval '300 ms', ARRAY[10]));
            INSERT INTO passing_%(n)d SELECT generate_series(1, 10);
            SELECT webhook.alter_action(1, description => '%(n)d')
            """ % dict(n=number, port=self.receivers[0].port))
        if number > 3:
            self.cluster.sql("SELECT webhook.drop_workflow('passing %d')" % (number - 3))
            self.cluster.sql("DROP TABLE passing_%d" % (number - 3))

    def caches(self, pid):
        """kB of the worker's catalog and relation caches, as it tells the server log."""
        offset = os.path.getsize(self.server_log)
        self.cluster.sql("SELECT pg_log_backend_memory_contexts(%d)" % pid)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with open(self.server_log, errors="replace") as log:
                log.seek(offset)
                text = log.read()
            if "Grand total" in text:
                found = re.findall(r"level: 1; CacheMemoryContext: (\d+) total", text)
                children = re.findall(r"level: 2; (?:index info|relation rules|partition)[^:]*: (\d+) total", text)
                return (int(found[0]) + sum(map(int, children))) // 1024
            time.sleep(0.05)
        sys.exit("the worker does not tell its memory contexts")

    @staticmethod
    def descriptors(pid):
        directory = "/proc/%d/fd" % pid
        kinds = []
        for descriptor in os.listdir(directory):
            try:
                kinds.append(os.readlink(os.path.join(directory, descriptor)).split(":")[0])
            except FileNotFoundError:
                pass        # closed since
        return dict(connections=kinds.count("socket"), files=len(kinds) - kinds.count("socket"))

    def sample(self, sent):
        pid, memory = map(int, self.cluster.sql("SELECT pid || '|' || memory FROM webhook.stat_worker").split("|"))
        status = dict(line.split(":", 1) for line in open("/proc/%d/status" % pid))
        self.samples.append(dict(
            sent=sent, pid=pid, anonymous=int(status["RssAnon"].split()[0]), contexts=memory // 1024,
            caches=self.caches(pid), **self.descriptors(pid)))
        say("%(sent)8d deliveries: %(anonymous)6d kB of its own, %(contexts)6d kB in memory contexts, %(caches)5d kB of caches,"
            " %(connections)3d connections, %(files)3d other descriptors" % self.samples[-1])

    def attempts(self):
        return int(self.cluster.sql("SELECT coalesce(sum(succeeded + failed), 0) FROM webhook.stat_action") or 0)

    def feed(self):
        begin = time.monotonic()
        next_id = 1
        step = self.args.deliveries // SAMPLES
        number = 0
        deliveries = 0
        while deliveries < self.args.deliveries:
            number += 1
            self.churn(number)
            while deliveries < number * step:
                self.write(next_id)
                next_id += BATCH
                if not self.cluster.until("SELECT sum(queued) < %d FROM webhook.stat_action" % (2 * BATCH), 120):
                    sys.exit("the queue does not get shorter: " + self.cluster.sql("SELECT * FROM webhook.stat_action"))
                deliveries = int(self.cluster.sql("SELECT last_value FROM webhook.webhook_log_log_id_seq"))
            # In a lull, so that what is under way does not count.
            if not self.cluster.until("SELECT sum(queued + in_flight + retrying) = 0 FROM webhook.stat_action", 120):
                sys.exit("deliveries do not end: " + self.cluster.sql("SELECT * FROM webhook.stat_action"))
            self.sample(deliveries)
        seconds = time.monotonic() - begin
        say("%d deliveries, %s attempts in %d s: %s" % (
            deliveries, self.cluster.sql("SELECT count(*) FROM webhook.webhook_attempt"), seconds,
            self.cluster.sql("SELECT string_agg(format('%s %s', n, what), ', ' ORDER BY n DESC) FROM (SELECT count(*) AS n,"
                             " coalesce(left(regexp_replace(error, '\\d{3,}', '…', 'g'), 60), 'fine') AS what FROM webhook.webhook_attempt GROUP BY 2 ORDER BY 1 DESC LIMIT 20) s")))

    def judge(self):
        problems = []
        settled = self.samples[len(self.samples) // 5:]
        half = len(settled) // 2
        if len({sample["pid"] for sample in self.samples}) > 1:
            problems.append("the worker was replaced")
        most = max(sample["connections"] for sample in settled)
        say("connections: at most %d" % most)
        if most > MAX_KEPT:
            problems.append("%d connections are kept" % most)
        for what in ("anonymous", "contexts", "caches", "files"):
            before = median([sample[what] for sample in settled[:half]])
            after = median([sample[what] for sample in settled[half:]])
            say("%s: %d, later %d" % (what, before, after))
            if after > before * SLACK:
                problems.append("%s grew from %d to %d" % (what, before, after))
        return problems

    def main(self):
        self.setup()
        try:
            self.feed()
        finally:
            for receiver in self.receivers:
                receiver.stop()
            self.cluster.ctl("-m", "immediate", "stop", check=False)
        problems = self.judge()
        for problem in problems:
            say("WRONG:", problem)
        if not problems:
            say("nothing grows")
        return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--deliveries", type=int, default=1000000)
    args = parser.parse_args()
    shutil.rmtree(args.directory, ignore_errors=True)
    os.makedirs(args.directory)
    sys.exit(Soak(args).main())


if __name__ == "__main__":
    main()
