#!/usr/bin/env python3
"""A mail server, for the tests and the demo: aiosmtpd on a free port of the
loopback interface, which it writes to a file.  Every mail that it takes is
written down as a line of JSON, read by Python's own parser.

    --tls CERT KEY        offers STARTTLS
    --smtps               speaks TLS from the first byte
    --require-tls         takes no mail without TLS
    --auth USER:PASSWORD  asks for it, by PLAIN or LOGIN
    --only MECHANISM      ... only by this one
    --refuse ADDRESS      550 for this recipient
    --busy ADDRESS        451 for this recipient
    --hang                accepts connections and says nothing
    --show                shows each mail
    --no-stdin            does not end when its standard input does, as it would
"""

import argparse
import asyncio
import base64
import email
import email.policy
import json
import os
import ssl
import sys
import threading

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

parser = argparse.ArgumentParser()
parser.add_argument("--port-file")
parser.add_argument("--log", required=True)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--tls", nargs=2)
parser.add_argument("--smtps", action="store_true")
parser.add_argument("--require-tls", action="store_true")
parser.add_argument("--auth")
parser.add_argument("--only")
parser.add_argument("--refuse", action="append", default=[])
parser.add_argument("--busy", action="append", default=[])
parser.add_argument("--hang", action="store_true")
parser.add_argument("--show", action="store_true")
parser.add_argument("--no-stdin", action="store_true")
args = parser.parse_args()
log = open(args.log, "a", encoding="utf-8")


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in args.refuse:
            return "550 5.1.1 no such user"
        if address in args.busy:
            return "451 4.2.0 mailbox busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        text = mail.get_body(("plain",)).get_content()
        log.write(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or args.smtps,
            "user": session.auth_data.login.decode() if session.authenticated else None,
            "mechanism": getattr(session, "mechanism", None),
            "headers": [[name, str(value)] for name, value in mail.items()],
            "subject": str(mail["Subject"]),
            "defects": [repr(d) for d in mail.defects],
            "text": text.replace("\r\n", "\n"),
            "raw": base64.b64encode(envelope.content).decode(),
        }) + "\n")
        log.flush()
        if args.show:
            print("    mail to %s: %s" % (", ".join(envelope.rcpt_tos), mail["Subject"]), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    user, password = args.auth.split(":", 1)
    ok = (isinstance(data, LoginPassword) and data.login.decode() == user
          and data.password.decode() == password)
    session.mechanism = mechanism
    return AuthResult(success=ok, handled=ok, auth_data=data if ok else None)


async def hang(reader, writer):
    await asyncio.Event().wait()


def make_protocol(context):
    return SMTP(Handler(), hostname="mail.example.com", enable_SMTPUTF8=True,
                tls_context=context if not args.smtps else None,
                require_starttls=args.require_tls and not args.smtps,
                auth_required=args.auth is not None,
                auth_require_tls=not args.smtps,
                authenticator=authenticate if args.auth else None,
                auth_exclude_mechanism=[m for m in ("PLAIN", "LOGIN") if args.only and m != args.only])


async def main():
    loop = asyncio.get_running_loop()
    context = None
    if args.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*args.tls)
    if args.hang:
        server = await asyncio.start_server(hang, "127.0.0.1", args.port)
    else:
        server = await loop.create_server(lambda: make_protocol(context), "127.0.0.1", args.port,
                                          ssl=context if args.smtps else None)
    if args.port_file:
        with open(args.port_file + ".new", "w") as file:
            file.write(str(server.sockets[0].getsockname()[1]))
        os.rename(args.port_file + ".new", args.port_file)
    if not args.no_stdin:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    await server.serve_forever()


asyncio.run(main())
