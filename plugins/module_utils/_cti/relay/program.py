# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The relay's command line."""

import argparse
import json
import os
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence

from ..daemon import VERSION, Log, print_error
from ..errors import CtiError
from ..text import line
from ..wire.address import parse
from ..wire.tls import Tls
from .errors import RelayError
from .sinks import Limits

SERVICE_USER = "ctrelay"  # whom the role makes
DATABASE = "/var/lib/ctrelay/relay.db"  # of the role's default


def main(arguments: Optional[List[str]] = None) -> int:
    """The exit status: 0 all is well, 1 it is not, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except CtiError as error:
        print_error("relay", error)
        return 1


def _check(options: argparse.Namespace) -> int:
    """What can be said of the options on any host: no file of theirs is looked at."""
    from .destinations import open_uploader

    open_uploader(_upload(options), options.allow_user, _tls(options)).close()
    for text in options.listen:
        address = parse(text)
        if address.is_local:
            raise RelayError("--listen %s: write tcp://HOST:PORT or tls://HOST:PORT." % text)
        if address.scheme == "tls" and not options.tls_cert:
            raise RelayError("--listen %s needs a certificate; give --tls-cert FILE." % text)
    sys.stdout.write("The options are valid.\n")
    return 0


def _upload(options: argparse.Namespace) -> str:
    beside = os.path.dirname(os.path.abspath(options.events))
    return str(options.upload or "jsonl:" + os.path.join(beside, "records"))


def _tls(options: argparse.Namespace) -> Tls:
    return Tls(ca=options.tls_ca, cert=options.tls_cert, key=options.tls_key)


def _run(options: argparse.Namespace) -> int:
    from .server import Relay, RelayOptions

    Relay(
        RelayOptions(
            chunks=options.chunks,
            events=options.events,
            upload=_upload(options),
            sockets=options.sockets,
            listen=options.listen,
            tls=_tls(options),
            allow_users=options.allow_user,
            interval=options.interval,
            limits=Limits(options.max_mib << 20, options.max_days * 86400),
            keep_days=options.keep_days,
        ),
        Log(),
    ).run()
    return 0


def _status(options: argparse.Namespace) -> int:
    status = ask(options.sockets, options.allow_user)
    lines = [json.dumps(status, indent=2)] if options.json else map(line, _account(status))
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if any(sink["UploadError"] for sink in status["Sinks"]) else 0


def _query(options: argparse.Namespace) -> int:
    """Read only, and as the database's owner: what SQLite makes beside it would otherwise be root's."""
    import sqlite3
    from urllib.parse import quote

    path = os.path.abspath(options.database)
    try:
        owner = os.stat(path)
        if os.geteuid() == 0 and owner.st_uid:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        database = sqlite3.connect("file:%s?mode=ro" % quote(os.fsencode(path)), uri=True)
        cursor = database.execute(options.sql)
        names = [column[0] for column in cursor.description or ()]
        for row in cursor:
            sys.stdout.write(json.dumps(dict(zip(names, row)), default=repr) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
    except OSError as error:
        raise RelayError(
            "%s cannot be read (%s); give its path with --database, as root or its owner." % (path, error)
        ) from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise RelayError("%s: the query failed: %s." % (path, error)) from error
    return 0


def ask(folder: Optional[str], users: Sequence[str]) -> Dict[str, Any]:
    """A running relay's own account of itself. `users` may run it, besides root, its role's and our own. Raises CtiError."""
    import socket

    from ..wire import address, msgpack, sockets
    from .listeners import socket_address

    where = socket_address(address.CONFIG, folder)
    deadline = sockets.Deadline(10)
    reply = b""
    with sockets.connect(where, 10, ["root", SERVICE_USER, str(os.geteuid()), *users]) as sock:
        try:
            sock.sendall(msgpack.pack(json.dumps({"Request": "RelayStatus"})))
            sock.shutdown(socket.SHUT_WR)
            while len(reply) < 16 << 20:
                deadline.limit(sock)
                data = sock.recv(65536)
                if not data:
                    break
                reply += data
            if not reply:
                raise ConnectionResetError
            status = json.loads(reply.decode("utf-8"))
            if status["Request"] != "RelayStatus" or not status["Success"]:
                raise ValueError("it does not know the request")
        except ConnectionError as error:
            raise RelayError(
                "%s: the connection was closed without an answer, as a relay does when uid %d may not connect; ask as root or"
                " as a user of the relay's --allow-user." % (where, os.geteuid())
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RelayError("%s: what listens there is no relay (%s)." % (where, error)) from error
    return dict(status)


def _account(status: Dict[str, Any]) -> Iterator[str]:
    yield "Relay %d, up for %d s, %d connections, uploading to %s" % (
        status["Pid"],
        status["UptimeSeconds"],
        status["Connections"],
        status["Upload"],
    )
    yield "Extensions: %s" % (", ".join(status["Extensions"]) or "none named by a config chunk")
    for sink in status["Sinks"]:
        yield "LocalSink %s: %d rows wait; received %d, uploaded %d, dropped %d, refused %d" % (
            sink["Stream"],
            sink["Rows"],
            sink["Received"],
            sink["Delivered"],
            sink["Dropped"],
            sink["Refused"],
        )
        if sink["Full"]:
            yield "  the stream is full, so further records are refused: their senders keep them until some of these are uploaded"
        if sink["SetAside"]:
            yield (
                "  %d records that no destination takes were set aside; see .refused.jsonl in the events folder"
                % (sink["SetAside"])
            )
        if sink["UploadError"]:
            yield "  the last upload failed: " + sink["UploadError"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relay",
        description="Stands in for the Azure Monitor Agent: hands out configuration, keeps and uploads records.",
    )
    parser.add_argument("--version", action="version", version="relay %s" % VERSION)
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.set_defaults(command=lambda _options: parser.error("give a command: run, check, query or status"))
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--sockets", metavar="DIR", help="socket files in this folder instead of the agent's abstract names"
    )
    common.add_argument(
        "--allow-user",
        metavar="NAME",
        action="append",
        default=[],
        help="who may be at the other end of a socket, besides root and the relay's own user; may be repeated",
    )
    run = commands.add_parser("run", parents=[common], help="be the relay, until SIGTERM")
    _add_run_options(run)
    run.set_defaults(command=_run)
    check = commands.add_parser("check", parents=[common], help="validate the options of run, and do nothing else")
    _add_run_options(check)
    check.set_defaults(command=_check)
    query = commands.add_parser("query", help="what is in the tables, by an SQL query; JSON, one row a line")
    query.set_defaults(command=_query)
    query.add_argument("sql", metavar="SQL", help="such as: SELECT * FROM ConfigurationChange LIMIT 10")
    query.add_argument("--database", metavar="FILE", default=DATABASE, help="of --upload sqlite:FILE (%(default)s)")
    status = commands.add_parser(
        "status", parents=[common], help="what a running relay holds; exit status 1 when something is wrong"
    )
    status.set_defaults(command=_status)
    status.add_argument("--json", action="store_true", help="for programs")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--chunks", metavar="DIR", required=True, help="folder of config chunks (*.json); read again when they change"
    )
    run.add_argument("--events", metavar="DIR", required=True, help="folder of what was received and not yet uploaded")
    run.add_argument(
        "--upload",
        metavar="WHERE",
        help="jsonl:DIR, sqlite:PATH or forward:ADDRESS; by default jsonl files in `records` beside --events",
    )
    run.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_positive,
        default=10.0,
        help="between two uploads of a sink (%(default)s)",
    )
    run.add_argument(
        "--max-mib",
        metavar="N",
        type=_count,
        default=256,
        help="a sink holds so many MiB, then takes no more; half of them for tcp and tls clients (%(default)s)",
    )
    run.add_argument(
        "--max-days",
        metavar="N",
        type=_positive,
        default=7.0,
        help="a sink holds rows so long, while the relay runs (%(default)s)",
    )
    run.add_argument(
        "--keep-days",
        metavar="N",
        type=_count,
        default=400,
        help="with sqlite:PATH, keep changes for N days, counted in days on which some arrived (%(default)s)",
    )
    run.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="also take records at tcp://HOST:PORT (from whoever can connect) or tls://HOST:PORT; may be repeated",
    )
    run.add_argument(
        "--tls-cert",
        metavar="FILE",
        default="",
        help="the relay's certificate, PEM; for --listen tls://... and --upload forward:tls://...",
    )
    run.add_argument("--tls-key", metavar="FILE", default="", help="its key, where that is another file")
    run.add_argument(
        "--tls-ca",
        metavar="FILE",
        default="",
        help="who must have signed the other side's certificate; with it, clients need one",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError("give a number above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 < value < 1 << 30:
        raise argparse.ArgumentTypeError("give a whole number above 0")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
