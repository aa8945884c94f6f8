# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The relay's command line."""

import argparse
import json
import os
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence

from .. import folders
from ..daemon import VERSION, Log, print_error
from ..errors import CtiError, ForwardError
from ..text import line, plural
from ..wire.address import parse
from ..wire.tls import Tls
from .errors import RelayError
from .sinks import Limits

SERVICE_USER = "ctrelay"  # which the role creates
DATABASE = "/var/lib/ctrelay/relay.db"  # as in the default of the role
AZURE = {  # the fields of azure.identity.Identity
    "identity": (
        "KIND",
        "whose tokens to use: vm, arc, secret, certificate, or auto for the managed identity of this machine (auto)",
    ),
    "client_id": ("ID", "client id of the application, or of a user-assigned identity of this virtual machine"),
    "tenant_id": ("ID", "tenant of the application"),
    "credential_file": ("FILE", "secret of the application, or its certificate and private key as PEM"),
    "authority": ("URL", "where the application gets its tokens; default: that of the public cloud"),
    "ca": ("FILE", "certificate authorities to trust, PEM; replaces those of the system"),
    "proxy": ("URL", "proxy as http://HOST:PORT; default: none, whatever the environment says"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run a command. Returns the exit status: 0 success, 1 failure, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except CtiError as error:
        print_error("relay", error)
        return 1


def _check(options: argparse.Namespace) -> int:
    """Validate the options as far as that is possible on any host: no file is opened."""
    from .destinations import open_uploader

    open_uploader(_upload(options), options.allow_user, _tls(options), azure=_azure(options)).close()
    for text in options.listen:
        address = parse(text)
        if address.is_local:
            raise RelayError("--listen is '%s', a local address. Give tcp://HOST:PORT or tls://HOST:PORT." % text)
        if address.scheme == "tls" and not options.tls_cert:
            raise RelayError("--listen is '%s', which needs a certificate. Give --tls-cert FILE." % text)
    sys.stdout.write("The options are valid.\n")
    return 0


def _upload(options: argparse.Namespace) -> str:
    parent = os.path.dirname(os.path.abspath(options.events))
    return str(options.upload or "jsonl:" + os.path.join(parent, "records"))


def _tls(options: argparse.Namespace) -> Tls:
    return Tls(ca=options.tls_ca, cert=options.tls_cert, key=options.tls_key)


def _azure(options: argparse.Namespace) -> Dict[str, str]:
    """The fields of the Identity, without those that are not given."""
    given = {name: getattr(options, "azure_" + name) for name in AZURE}
    return {name: value for name, value in given.items() if value}


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
            azure=_azure(options),
        ),
        Log(),
    ).run()
    return 0


def _status(options: argparse.Namespace) -> int:
    status = ask(options.sockets, options.allow_user)
    lines = [json.dumps(status, indent=2)] if options.json else map(line, _status_lines(status))
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if status["StorageError"] or any(sink["UploadError"] for sink in status["Sinks"]) else 0


def _query(options: argparse.Namespace) -> int:
    """Run an SQL query, read-only and as the owner of the database, so that files which SQLite creates do not belong to root."""
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
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # avoids an error message of the interpreter at exit
    except OSError as error:
        raise RelayError(
            "Cannot read the database '%s' (%s). %s"
            % (path, error.strerror or error, folders.remedy(error, path, "Give another path with --database."))
        ) from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise RelayError("The query of '%s' failed: %s." % (path, str(error).rstrip("."))) from error
    return 0


def ask(folder: Optional[str], users: Sequence[str]) -> Dict[str, Any]:
    """The status of the running relay. `users` may run it, in addition to root, ctrelay and the current user. Raises CtiError."""
    import socket

    from ..wire import ama, msgpack, sockets
    from .listeners import socket_address

    where = socket_address(ama.CONFIG, folder)
    deadline = sockets.Deadline(10)
    reply = b""
    try:
        connection = sockets.connect(where, 10, ["root", SERVICE_USER, str(os.geteuid()), *users])
    except ForwardError as error:
        if folder is not None:
            raise
        raise RelayError("%s. If the relay runs with --sockets, give it here too." % str(error).rstrip(".")) from error
    with connection as sock:
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
                "The relay at %s closed the connection without an answer, probably because uid %d may not connect. Run this as"
                " root or as a user in the relay's --allow-user." % (where, os.geteuid())
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RelayError("The process that listens at %s is not a relay (%s)." % (where, error)) from error
    return dict(status)


def _status_lines(status: Dict[str, Any]) -> Iterator[str]:
    yield "Relay %d, up for %d s, %s, uploading to %s" % (
        status["Pid"],
        status["UptimeSeconds"],
        plural(status["Connections"], "connection"),
        status["Upload"],
    )
    yield "Extensions: %s" % (", ".join(status["Extensions"]) or "none named by a config chunk")
    if status["StorageError"]:
        yield "  " + status["StorageError"]
    for sink in status["Sinks"]:
        yield "LocalSink %s: %s; received %d, uploaded %d, dropped %d, refused %d" % (
            sink["Stream"],
            plural(sink["Rows"], "row", "waits"),
            sink["Received"],
            sink["Delivered"],
            sink["Dropped"],
            sink["Refused"],
        )
        if sink["Full"]:
            yield "  The stream is full. Further records are refused, and their senders keep them until some records are uploaded."
        if sink["SetAside"]:
            records = plural(sink["SetAside"], "record", "was")
            yield "  %s refused by the destination and set aside in .refused.jsonl in the events directory." % records
        if sink["UploadError"]:
            yield "  The last upload failed: " + sink["UploadError"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relay",
        description="Take the place of the Azure Monitor Agent: serve configuration, store and upload records.",
    )
    parser.add_argument("--version", action="version", version="relay %s" % VERSION)
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.set_defaults(command=lambda _options: parser.error("give a command: run, check, query or status"))
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--sockets",
        metavar="DIR",
        help="use socket files in this directory instead of the abstract names of the Azure Monitor Agent",
    )
    common.add_argument(
        "--allow-user",
        metavar="NAME",
        action="append",
        default=[],
        help="user who may connect, in addition to root and the user of the relay; may be repeated",
    )
    run = commands.add_parser("run", parents=[common], help="run the relay until SIGTERM")
    _add_run_options(run)
    run.set_defaults(command=_run)
    check = commands.add_parser("check", parents=[common], help="validate the options of run and exit")
    _add_run_options(check)
    check.set_defaults(command=_check)
    query = commands.add_parser("query", help="run an SQL query on the tables; prints one JSON object per row")
    query.set_defaults(command=_query)
    query.add_argument("sql", metavar="SQL", help="such as: SELECT * FROM ConfigurationChange LIMIT 10")
    query.add_argument(
        "--database", metavar="FILE", default=DATABASE, help="database of --upload sqlite:FILE (%(default)s)"
    )
    status = commands.add_parser(
        "status", parents=[common], help="show the status of the running relay; exit status 1 if an upload failed"
    )
    status.set_defaults(command=_status)
    status.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--chunks",
        metavar="DIR",
        required=True,
        help="directory of config chunks (*.json); read again when they change",
    )
    run.add_argument("--events", metavar="DIR", required=True, help="directory for records that are not uploaded yet")
    run.add_argument(
        "--upload",
        metavar="WHERE",
        help="destination: jsonl:DIR, sqlite:PATH, postgresql://..., forward:ADDRESS or azure:https://HOST/ID; default: jsonl files in the"
        " directory `records` next to --events",
    )
    run.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_positive,
        default=10.0,
        help="interval between two uploads of a stream (%(default)s)",
    )
    run.add_argument(
        "--max-mib",
        metavar="N",
        type=_count,
        default=256,
        help="records to hold per stream, half of them from tcp and tls clients; a full stream accepts no more (%(default)s)",
    )
    run.add_argument(
        "--max-days",
        metavar="N",
        type=_positive,
        default=7.0,
        help="time to hold records that cannot be uploaded, counted while the relay runs (%(default)s)",
    )
    run.add_argument(
        "--keep-days",
        metavar="N",
        type=_count,
        default=400,
        help="with sqlite:PATH or postgresql://..., keep changes for N days; only days on which changes arrived count (%(default)s)",
    )
    run.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="also receive records at tcp://HOST:PORT (from any client that can connect) or tls://HOST:PORT; may be repeated",
    )
    run.add_argument(
        "--tls-cert",
        metavar="FILE",
        default="",
        help="certificate of the relay, PEM; for --listen tls://... and --upload forward:tls://...",
    )
    run.add_argument("--tls-key", metavar="FILE", default="", help="key of the certificate, if it is in another file")
    run.add_argument(
        "--tls-ca",
        metavar="FILE",
        default="",
        help="certificate authorities to trust; if given, clients need a certificate",
    )
    for name, (metavar, text) in AZURE.items():
        flag = "--azure-" + name.replace("_", "-")
        run.add_argument(flag, metavar=metavar, default="", help="with azure:..., " + text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError("give a number greater than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 < value < 1 << 30:
        raise argparse.ArgumentTypeError("give an integer greater than 0")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
