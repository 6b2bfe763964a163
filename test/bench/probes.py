"""What the benchmark measures with: sessions, receivers, the worker's figures.

Everything goes to the cluster that PGHOST, PGPORT and PGDATABASE name.
"""
import contextlib
import os
import subprocess
import sys
import threading
import time


def psql(sql, *options):
    run = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *options, "-c", sql],
                         capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return run.stdout.strip()


class Session:
    """A session that stays open; each statement is answered by at least a line."""

    def __init__(self):
        self.process = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, sql):
        """The first line of what psql prints."""
        self.process.stdin.write(sql + ";\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Receiver:
    """A process that listens on a port of 127.0.0.1."""

    def __init__(self, program, directory, name, *options):
        self.times = os.path.join(directory, name + ".times")
        port_file = os.path.join(directory, name + ".port")
        for file in (self.times, port_file):
            open(file, "w").close()
        self.process = subprocess.Popen([program, port_file, self.times, *options])
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


class Limit:
    """libcurl alone."""

    def __init__(self, program):
        self.program = program

    def run(self, url, n, body, *ca_file):
        """Requests a second, and microseconds of CPU each."""
        rate, cpu = subprocess.run([self.program, url, str(n), "50", body, *ca_file], check=True,
                                   capture_output=True, text=True).stdout.split()
        return float(rate), float(cpu)

    def start(self, url, n, body, rate):
        """No more than so many a second, in the background."""
        return subprocess.Popen([self.program, "-r", str(rate), url, str(n), "50", body], stdout=subprocess.DEVNULL)


def worker_pids():
    return [int(pid) for pid in psql("SELECT pid FROM webhook.stat_worker WHERE database = current_database()").split()]


def cpu_seconds():
    """Of the database's workers."""
    ticks = 0
    for pid in worker_pids():
        fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def own_memory():
    """MB that are the worker's own: without shared buffers and libraries."""
    status = dict(line.split(":", 1) for line in open("/proc/%d/status" % worker_pids()[0]))
    return int(status["RssAnon"].split()[0]) / 1024


def wal_bytes():
    return int(psql("SELECT pg_current_wal_insert_lsn() - '0/0'"))


def log_bytes():
    """Table, indexes and TOAST of log and attempts."""
    return int(psql("SELECT pg_total_relation_size('webhook.webhook_log') + pg_total_relation_size('webhook.webhook_attempt')"))


def set_option(name, value):
    """Change a setting of the cluster, for the worker to take up."""
    psql("ALTER SYSTEM SET %s = %s" % (name, value) if value is not None else "ALTER SYSTEM RESET %s" % name)
    psql("SELECT pg_reload_conf()")


def wait_until(sql, what, timeout=60):
    deadline = time.monotonic() + timeout
    while psql(sql) != "t":
        if time.monotonic() > deadline:
            sys.exit("waited in vain until " + what)
        time.sleep(0.05)


def switch_worker(on):
    set_option("webhook.enabled", None if on else "off")
    wait_until("SELECT bool_and(state = '%s') FROM webhook.stat_worker WHERE database = current_database()"
               % ("running" if on else "disabled"), "the worker is switched")


def wait_for_deliveries(timeout=600):
    """Ask often, and shortly: a long question would be a snapshot that is held."""
    session = Session()
    deadline = time.monotonic() + timeout
    while session.ask("SELECT webhook.wait('0 s')") != "t":
        if time.monotonic() > deadline:
            sys.exit("deliveries were not made in time")
        time.sleep(0.005)
    session.close()


def last_completion(n):
    """
    When the last of the newest n deliveries was completed, in seconds of time.time().
    That wait() has returned tells it less well: its last look at the queue takes as long as
    there is something dead in front of it.
    """
    return float(psql("SELECT extract(epoch FROM max(completed_at)) FROM"
                      " (SELECT completed_at FROM webhook.webhook_log ORDER BY log_id DESC LIMIT %d) l" % n))


@contextlib.contextmanager
def traffic(rate, sql):
    """Meanwhile somebody else commits so many events a second; sql takes a number."""
    is_over = threading.Event()

    def write():
        session = Session()
        n = 0
        begin = time.monotonic()
        while not is_over.is_set():
            session.ask("BEGIN\\; %s\\; SELECT 1\\; COMMIT" % (sql % n))
            n += 1
            time.sleep(max(0, begin + n / rate - time.monotonic()))
        session.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
