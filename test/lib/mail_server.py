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
    --ascii               takes no addresses with other letters (no SMTPUTF8)
    --rude HOW            does not keep to the rules:
                          slow-end      thinks for 6 seconds about each mail
                          no-end        never says whether it took a mail
                          cut-end       closes the connection instead
                          no-bye        does not answer QUIT
                          refuse-hang   refuses to log in, and then no QUIT is answered
                          repeat        ... and says the credentials again
                          odd-login     offers no way to log in that anybody knows
                          long-words    refuses every recipient in three lines
                          babble        a reply that does not end
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
parser.add_argument("--ascii", action="store_true")
parser.add_argument("--rude")
parser.add_argument("--show", action="store_true")
parser.add_argument("--no-stdin", action="store_true")
args = parser.parse_args()
log = open(args.log, "a", encoding="utf-8")


def write_down(mail_from, rcpt_tos, content, **more):
    mail = email.message_from_bytes(content, policy=email.policy.default)
    text = mail.get_body(("plain",)).get_content()
    log.write(json.dumps({
        "from": mail_from,
        "to": rcpt_tos,
        "headers": [[name, str(value)] for name, value in mail.items()],
        "subject": str(mail["Subject"]),
        "defects": [repr(d) for d in mail.defects + [d for h in mail.values() for d in h.defects]],
        "text": text.replace("\r\n", "\n"),
        "raw": base64.b64encode(content).decode(),
        **more,
    }) + "\n")
    log.flush()
    return mail


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in args.refuse:
            return "550 5.1.1 no such user"
        if address in args.busy:
            return "451 4.2.0 mailbox busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = write_down(
            envelope.mail_from, envelope.rcpt_tos, envelope.content,
            tls=session.ssl is not None or args.smtps,
            user=session.auth_data.login.decode() if session.authenticated else None,
            mechanism=getattr(session, "mechanism", None))
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


async def rude(reader, writer):
    how = args.rude

    async def say(*lines):
        for line in lines:
            writer.write(line.encode() + b"\r\n")
        await writer.drain()

    sender = None
    recipients = []
    try:
        await say("220 mail.example.com")
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                await say("250-mail.example.com", "250 AUTH " + ("KERBEROS_V4 X" if how == "odd-login" else "PLAIN"))
            elif verb == "AUTH":
                if line.count(" ") < 2:
                    await say("334 ")
                    line = (await reader.readline()).decode().rstrip("\r\n")
                await say("535-5.7.8 Credentials are bad" + (": " + line if how == "repeat" else ""),
                          "535 5.7.8 ask postmaster")
            elif verb == "MAIL":
                sender = line[line.index("<") + 1:line.index(">")]
                await say("250 OK")
            elif verb == "RCPT" and how == "long-words":
                await say("550-5.1.1 There is", "550-5.1.1 no such user;", "550 5.1.1 see https://example.com/")
            elif verb == "RCPT" and how == "babble":
                while True:
                    await say(*["450-blah blah blah"] * 100)
            elif verb == "RCPT":
                recipients.append(line[line.index("<") + 1:line.index(">")])
                await say("250 OK")
            elif verb == "DATA":
                await say("354 go on")
                content = await reader.readuntil(b"\r\n.\r\n")
                write_down(sender, recipients, content[:-3])
                if how == "no-end":
                    await asyncio.Event().wait()
                if how == "cut-end":
                    return
                if how == "slow-end":
                    await asyncio.sleep(6)
                await say("250 OK")
            elif verb == "QUIT":
                if how in ("no-bye", "refuse-hang", "odd-login"):
                    await asyncio.Event().wait()
                await say("221 bye")
                return
    except ConnectionError:
        pass
    finally:
        writer.close()


def make_protocol(context):
    return SMTP(Handler(), hostname="mail.example.com", enable_SMTPUTF8=not args.ascii,
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
    elif args.rude:
        server = await asyncio.start_server(rude, "127.0.0.1", args.port, ssl=context if args.smtps else None)
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
