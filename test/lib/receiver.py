#!/usr/bin/env python3
"""A receiver of webhooks, for the tests and the demo.

Speaks HTTP/1.1 with keep-alive on a free port of the loopback interface (or
--port), which it writes to a file, and writes every request down as a line of
JSON before it answers.  How it answers is chosen by the first step of the path:

    /ok, and whatever is not named here      200
    /status/503?retry_after=7&body=busy      that status, with Retry-After
    /gone                                    410
    /redirect?to=URL                         301
    /slow?ms=500                             200, so much later
    /hang                                    no answer, ever
    /close                                   the connection is closed instead of an answer
    /reset                                   reset in the middle of the answer
    /cut                                     closed in the middle of the answer's body
    /once?ms=500                             200, so much later, to the first request of a connection; closed at the next one
    /farewell?ms=100                         200; closed so much later, over TLS as it should be
    /twice?ms=100                            200, and so much later the same again, unasked
    /garbage                                 something that is not HTTP
    /malformed, /malformed-chunk             200, with a header or a body that HTTP does not allow
    /continued                               200, with a first header that continues the one before
    /drip?ms=100                             200, then a byte of the body at a time, for ever
    /endless-headers, /endless-body          for ever, as fast as is taken
    /big?bytes=N                             200, with a body of that size
    /echo                                    500, with the request's own header and the credentials in the body
    /slow-echo?ms=500                        the same, so much later
    /spelled-echo                            500, with the credentials as JSON and URLs spell them, at last across byte 4096
    /binary                                  200, with NUL and broken UTF-8 in the body
    /latin1                                  200, with a body in that encoding
    /flaky?fail=N                            503 for the first N requests of each webhook-id, then 200
    /basic?user=user&password=secret         401 unless the credentials are right
    /chaos                                   200 most of the time, else any of the above that end, at random;
                                             with --calm FILE always 200 once there is that file

It ends when its standard input does, so that it never outlives its test.
SIGUSR1 makes it print nothing more.
"""

import argparse
import asyncio
import base64
import email.utils
import gzip
import http
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
import time
import urllib.parse

MAX_HEAD = 1 << 20


def now():
    return time.time()


class Request:
    """One request, as it came."""

    def __init__(self, method, target, headers):
        self.method = method
        self.target = target
        self.headers = headers
        self.body = b""
        parts = urllib.parse.urlsplit(target)
        self.path = parts.path
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))

    def header(self, name):
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


class Receiver:
    """What all connections share: the log, and what was seen before."""

    def __init__(self, args):
        self.args = args
        self.count = 0
        self.seen = {}
        self.log = None
        if args.log:
            self.log = os.open(args.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.routes = [route.split("=", 1) for route in args.route]

    def behaviour(self, request):
        """The path that chooses the answer: the request's own, or what --route makes of it."""
        for prefix, path in self.routes:
            if request.path.startswith(prefix):
                parts = urllib.parse.urlsplit(path)
                query = dict(urllib.parse.parse_qsl(parts.query))
                return parts.path, query
        return request.path, request.query

    def note(self, request, answer):
        self.count += 1
        if self.log is not None:
            entry = {
                "n": self.count,
                "webhook_id": request.header("webhook-id"),
                "path": request.target,
                "time": now(),
                "method": request.method,
                "answer": answer,
            }
            if not self.args.terse:
                entry["headers"] = request.headers
                entry["body"] = request.body.decode("utf-8", "replace")
                entry["body_base64"] = base64.b64encode(request.body).decode()
            os.write(self.log, json.dumps(entry).encode() + b"\n")
        if self.args.show:
            self.show(request, answer)

    def show(self, request, answer):
        """Print a request for a person to read."""
        lines = ["", "%s %s" % (request.method, request.target)]
        for name in ("content-type", "authorization", "webhook-id"):
            value = request.header(name)
            if value is not None:
                lines.append("%s: %s" % (name.title(), value))
        lines.append("")
        lines += request.body.decode("utf-8", "replace").rstrip("\n").split("\n")
        lines.append("")
        lines.append("=> %s" % answer)
        print("\n".join("    │ " + line if line else "    │" for line in lines[1:]) + "\n", flush=True)


class Connection(asyncio.Protocol):
    """One connection: takes requests apart and answers them in turn."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.buffer = bytearray()
        self.request = None
        self.task = None
        self.transport = None
        self.is_used_up = False
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.writable.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def data_received(self, data):
        self.buffer += data
        self.proceed()

    def proceed(self):
        """Answer what is complete in the buffer; one request at a time."""
        while self.task is None and not self.transport.is_closing():
            try:
                if not self.read_head() or not self.read_body():
                    return
            except (ValueError, IndexError, UnicodeDecodeError):
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self.transport.close()
                return
            request, self.request = self.request, None
            self.answer(request)

    def read_head(self):
        if self.request is not None:
            return True
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                raise ValueError("head too large")
            return False
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        method, target, version = lines[0].split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError("no HTTP")
        headers = []
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))
        self.request = Request(method, target, headers)
        if (self.request.header("expect") or "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def read_body(self):
        request = self.request
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            return self.read_chunks()
        length = int(request.header("content-length") or 0)
        if len(self.buffer) < length:
            return False
        request.body = bytes(self.buffer[:length])
        del self.buffer[:length]
        return True

    def read_chunks(self):
        at, body = 0, b""
        while True:
            end = self.buffer.find(b"\r\n", at)
            if end < 0:
                return False
            size = int(self.buffer[at:end].split(b";")[0], 16)
            if len(self.buffer) < end + 4 + size:
                return False
            body += self.buffer[end + 2 : end + 2 + size]
            at = end + 4 + size
            if size == 0:
                self.request.body = body
                del self.buffer[:at]
                return True

    # -- answers ----------------------------------------------------------

    def answer(self, request):
        path, query = self.receiver.behaviour(request)
        steps = path.strip("/").split("/")
        special = getattr(self, "answer_" + steps[0].replace("-", "_"), None)
        if special is None:
            self.send(request, 200, b"ok")
            return
        result = special(request, steps, query)
        if result is not None:
            self.task = asyncio.ensure_future(self.carry_out(result))

    async def carry_out(self, result):
        try:
            await result
        except (asyncio.CancelledError, ConnectionError):
            return
        self.task = None
        self.proceed()

    def send(self, request, status, body, headers=()):
        self.receiver.note(request, status)
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = "Unknown"
        head = "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % (status, phrase, len(body))
        for name, value in headers:
            head += "%s: %s\r\n" % (name, value)
        self.transport.write(head.encode("latin-1") + b"\r\n" + body)

    def answer_status(self, request, steps, query):
        headers = []
        if "retry_after" in query:
            headers.append(("Retry-After", query["retry_after"]))
        if "retry_after_date" in query:
            when = email.utils.formatdate(now() + int(query["retry_after_date"]), usegmt=True)
            headers.append(("Retry-After", when))
        status = int(steps[1])
        body = query.get("body", "").encode() if status != 204 else b""
        self.send(request, status, body, headers)

    def answer_gone(self, request, steps, query):
        self.send(request, 410, b"gone")

    def answer_redirect(self, request, steps, query):
        self.send(request, 301, b"", [("Location", query.get("to", "/redirected"))])

    async def answer_slow(self, request, steps, query):
        await asyncio.sleep(int(query.get("ms", "1000")) / 1000)
        self.send(request, 200, b"ok")

    async def answer_hang(self, request, steps, query):
        self.receiver.note(request, "hang")
        await asyncio.Event().wait()

    def answer_close(self, request, steps, query):
        self.receiver.note(request, "close")
        self.transport.close()

    async def answer_reset(self, request, steps, query):
        self.receiver.note(request, "reset")
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it")
        await asyncio.sleep(0.05)
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def answer_cut(self, request, steps, query):
        self.receiver.note(request, "cut")
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it")
        self.transport.close()

    def answer_garbage(self, request, steps, query):
        self.receiver.note(request, "garbage")
        self.transport.write(b"220 mail.example.com ESMTP ready\r\n")
        self.transport.close()

    def answer_malformed(self, request, steps, query):
        self.receiver.note(request, "malformed")
        self.transport.write(b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok")

    def answer_malformed_chunk(self, request, steps, query):
        self.receiver.note(request, "malformed chunk")
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n")

    def answer_continued(self, request, steps, query):
        self.receiver.note(request, "continued")
        self.transport.write(b"HTTP/1.1 200 OK\r\n what: none\r\nContent-Length: 2\r\n\r\nok")

    async def answer_once(self, request, steps, query):
        if self.is_used_up:
            self.answer_close(request, steps, query)
            return
        self.is_used_up = True
        await asyncio.sleep(int(query.get("ms", "0")) / 1000)
        self.send(request, 200, b"ok")

    def answer_farewell(self, request, steps, query):
        def leave():
            self.transport.close()
            # Or else it would wait for us to say farewell, too.
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)

        self.send(request, 200, b"ok")
        asyncio.get_running_loop().call_later(int(query.get("ms", "100")) / 1000, leave)

    def answer_twice(self, request, steps, query):
        self.send(request, 200, b"ok")
        asyncio.get_running_loop().call_later(
            int(query.get("ms", "100")) / 1000, self.transport.write,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")

    async def answer_drip(self, request, steps, query):
        self.receiver.note(request, "drip")
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            self.transport.write(b".")
            await asyncio.sleep(int(query.get("ms", "100")) / 1000)

    async def pour(self, data):
        while not self.transport.is_closing():
            await self.writable.wait()
            self.transport.write(data)
            await asyncio.sleep(0)

    async def answer_endless_headers(self, request, steps, query):
        self.receiver.note(request, "endless headers")
        self.transport.write(b"HTTP/1.1 200 OK\r\n")
        await self.pour(b"X-More: " + b"x" * 1000 + b"\r\n")

    async def answer_endless_body(self, request, steps, query):
        self.receiver.note(request, "endless body")
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await self.pour(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")

    async def answer_endless_continue(self, request, steps, query):
        self.receiver.note(request, "endless continue")
        await self.pour(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    async def answer_huge(self, request, steps, query):
        self.receiver.note(request, "huge")
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        await self.pour(b"x" * 0x8000)

    def answer_gzip_bomb(self, request, steps, query):
        # A hundred members, as gzip allows: made in no time.
        bomb = gzip.compress(bytes(1_000_000)) * 100
        self.send(request, 200, bomb, [("Content-Encoding", "gzip")])

    def answer_big(self, request, steps, query):
        self.send(request, 200, b"x" * int(query.get("bytes", "1000000")))

    def answer_binary(self, request, steps, query):
        self.send(request, 200, b"nul \x00 broken \xff\xc3( cut \xe2\x82")

    def answer_latin1(self, request, steps, query):
        self.send(request, 200, "Gr\u00f6\u00dfe".encode("latin-1"))

    def answer_flaky(self, request, steps, query):
        key = request.header("webhook-id")
        self.receiver.seen[key] = self.receiver.seen.get(key, 0) + 1
        if self.receiver.seen[key] <= int(query.get("fail", "1")):
            self.send(request, 503, b"busy")
        else:
            self.send(request, 200, b"ok")

    def answer_chaos(self, request, steps, query):
        dice = random.random()
        if (self.receiver.args.calm and os.path.exists(self.receiver.args.calm)) or dice < 0.6:
            self.send(request, 200, b"ok")
        elif dice < 0.72:
            self.send(request, random.choice([500, 502, 503, 404]), b"busy")
        elif dice < 0.8:
            return self.answer_close(request, steps, query)
        elif dice < 0.84:
            return self.answer_reset(request, steps, query)
        elif dice < 0.88:
            return self.answer_cut(request, steps, query)
        elif dice < 0.92:
            return self.answer_garbage(request, steps, query)
        elif dice < 0.95:
            return self.answer_slow(request, steps, {"ms": str(random.randint(10, 900))})
        elif dice < 0.96:
            return self.answer_hang(request, steps, query)
        else:
            # A keep-alive connection that ends behind a good answer.
            self.send(request, 200, b"ok")
            self.transport.close()
        return None

    def answer_echo(self, request, steps, query):
        lines = ["%s: %s" % header for header in request.headers]
        for name, value in request.headers:
            if name.lower() == "authorization":
                lines.append("credentials: " + base64.b64decode(value.split()[-1]).decode())
        self.send(request, 500, "\n".join(lines).encode())

    async def answer_slow_echo(self, request, steps, query):
        await asyncio.sleep(int(query.get("ms", "1000")) / 1000)
        self.answer_echo(request, steps, query)

    def answer_spelled_echo(self, request, steps, query):
        value = request.header("authorization").split()[-1]
        secret = base64.b64decode(value).decode().partition(":")[2]
        spellings = []
        for text in (value, secret):
            spelled = json.dumps(text)
            spellings += [spelled, spelled.replace("/", "\\/"), urllib.parse.quote(text, safe="")]
        body = "\n".join(spellings) + "\n"
        self.send(request, 500, (body + "." * (4097 - len(body) - len(spellings[-1])) + spellings[-1]).encode())

    def answer_basic(self, request, steps, query):
        pair = "%s:%s" % (query.get("user", "user"), query.get("password", "secret"))
        expected = "Basic " + base64.b64encode(pair.encode()).decode()
        if request.header("authorization") == expected:
            self.send(request, 200, b"ok")
        else:
            self.send(request, 401, b"who are you?", [("WWW-Authenticate", 'Basic realm="test"')])


def write_whole(path, text):
    """Whoever waits for the file finds it complete."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


async def serve(args):
    random.seed(args.seed)
    loop = asyncio.get_running_loop()
    context = None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        if args.client_ca:
            context.load_verify_locations(args.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        if args.old_tls:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
    receiver = Receiver(args)

    def be_quiet():
        args.show = False
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(quiet, fd)

    loop.add_signal_handler(signal.SIGUSR1, be_quiet)
    server = await loop.create_server(
        lambda: Connection(receiver), args.host, args.port, ssl=context, backlog=1024, reuse_address=True
    )
    if args.port_file:
        write_whole(args.port_file, "%d\n" % server.sockets[0].getsockname()[1])
    if not args.no_stdin:
        ended = asyncio.Event()

        def read_stdin():
            if not os.read(0, 4096):
                ended.set()

        loop.add_reader(0, read_stdin)
        await ended.wait()
    else:
        await asyncio.Event().wait()


def main():
    parser = argparse.ArgumentParser(description="a receiver of webhooks, for tests")
    parser.add_argument("--port-file", help="file to write the port to")
    parser.add_argument("--log", help="file to append a line of JSON to for every request")
    parser.add_argument("--terse", action="store_true", help="log neither headers nor bodies")
    parser.add_argument("--show", action="store_true", help="print every request")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--client-ca", help="ask for a client certificate that this authority signed")
    parser.add_argument("--old-tls", action="store_true", help="speak TLS 1.1 at most")
    parser.add_argument("--route", action="append", default=[], metavar="PREFIX=PATH",
                        help="answer requests whose path begins so as if they were for that path")
    parser.add_argument("--calm", help="/chaos ends when there is this file")
    parser.add_argument("--seed", help="of /chaos")
    parser.add_argument("--no-stdin", action="store_true", help="do not end with standard input")
    try:
        asyncio.run(serve(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
