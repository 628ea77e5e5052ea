"""`tidegate doctor`: what is wrong with this machine, and the line that fixes it."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tidegate.cli.options import (
    AdminUrl,
    Assignments,
    ConfigFile,
    Time,
    load_settings,
    parse_seconds,
    read_token,
)
from tidegate.errors import TidegateError, UsageError

if TYPE_CHECKING:
    from tidegate.cli.admin import Admin
    from tidegate.core.settings import Settings
    from tidegate.doctor.facts import Facts, Through

__all__ = ["doctor"]

_MOST = 100_000_000
_WIDTHS = (40, 100)
_SPARE_SECONDS = 5.0


def doctor(
    *,
    for_: Annotated[int | None, Parameter(name="--for", metavar="CONNECTIONS")] = None,
    pid: int | None = None,
    through: Annotated[str | None, Parameter(metavar="URL")] = None,
    hold: Annotated[str | None, Time] = None,
    token_file: Annotated[Path | None, Parameter(metavar="FILE", allow_leading_hyphen=True)] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    facts: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    record: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    admin: AdminUrl = None,
    config: ConfigFile = None,
    set_: Assignments = (),
) -> int:
    """Say what is wrong with this machine, why it matters, and the line that fixes it.

    Looks at the limits of the kernel, of systemd and of the container, at memory, and at what was
    dropped since the boot, and at the backplane where one is set. Changes nothing, needs no server
    and no root. The exit code is 0 when
    nothing is wrong, 1 with warnings, 2 with errors.

    Parameters
    ----------
    for_
        Connections that the machine should hold. [default: limits.connections]
    pid
        Process to look at, of any program. [default: what a server gets that is started here]
    through
        URL of a proxy, such as wss://chat.example.com/ws: connects through it about ten times and
        says what it does.
    hold
        Time to hold a quiet connection through the proxy. [default: heartbeat.interval and 5s]
    token_file
        File with a token for the attempts through the proxy; - is standard input.
    json
        Print JSON.
    facts
        Read the facts from a file that --record wrote, not from this machine.
    record
        Write the facts to a file as well.
    """
    from msgspec.structs import replace

    from tidegate.doctor.checks import examine
    from tidegate.doctor.facts import dump
    from tidegate.doctor.findings import Load
    from tidegate.doctor.rendering import as_json, as_lines, exit_code

    if for_ is not None and not 0 < for_ <= _MOST:
        raise UsageError(f"--for {for_}: must be a number from 1 to {_MOST:,}")
    settings = load_settings(config, set_).settings
    # What is wrong with the arguments is told before a connection is held.
    known = _facts(facts, pid)
    seen = _through(through, hold, token_file, admin, settings)
    if seen is not None:
        known = replace(known, through=seen)
    url = settings.backplane.url
    if facts is None and url is not None and not url.startswith(("nats:", "tls:")):
        if url.startswith("kafka"):
            from tidegate.doctor.kafka import look_at_backplane
        else:
            from tidegate.doctor.backplane import look_at_backplane
        known = replace(known, backplane=look_at_backplane(url, settings.backplane))
    if record is not None:
        _write(record, dump(known))
    load = Load.of(settings, for_)
    findings = examine(known, load)
    if json:
        sys.stdout.write(as_json(known, load, findings).decode())
    else:
        from rich.console import Console

        low, high = _WIDTHS
        width = max(low, min(high, shutil.get_terminal_size().columns))
        console = Console(highlight=False, soft_wrap=True)
        for line in as_lines(known, load, findings, width):
            console.print(line)
    return exit_code(findings)


def _facts(file: Path | None, pid: int | None) -> Facts:
    from tidegate.doctor.facts import load
    from tidegate.doctor.reading import read

    if file is None:
        return read(pid)
    if pid is not None:
        raise UsageError("--pid: has no meaning with --facts, which are of another machine")
    try:
        return load(file.read_bytes())
    except OSError as error:
        raise UsageError(f"--facts {file}: {error.strerror}") from None


def _through(
    url: str | None,
    hold: str | None,
    token_file: Path | None,
    admin: str | None,
    settings: Settings,
) -> Through | None:
    if url is None:
        if hold is not None or token_file is not None:
            option = "--hold" if hold is not None else "--token-file"
            raise UsageError(f"{option}: is for --through")
        return None
    from tidegate.cli.admin import Admin
    from tidegate.doctor.through import look_through

    seconds = settings.heartbeat.interval + _SPARE_SECONDS
    if hold is not None:
        seconds = parse_seconds("--hold", hold, 1, 86_400)
    token = None if token_file is None else read_token(token_file)
    api = Admin(settings.admin, admin)
    if sys.stderr.isatty():
        print(f"holding a connection for {math.ceil(seconds)} s", file=sys.stderr)
    try:
        return look_through(
            url, hold=seconds, token=token, lookup=lambda identity: _address(api, identity)
        )
    except KeyboardInterrupt:
        raise TidegateError("--through: it was interrupted, and nothing was judged") from None


def _address(api: Admin, identity: str) -> str | None:
    """The address that the server has of a connection; None where it cannot be asked."""
    from tidegate.cli.admin import AdminError

    # The number of a connection is the end of its id, and the page begins behind a number.
    try:
        number = int(identity.rpartition("-")[2], 16)
        found = api.ask(f"/connections?limit=1&after={number - 1}")["connections"]
    except (AdminError, ValueError, KeyError):
        return None
    # Another server may be behind the proxy: its ids are not ours.
    return str(found[0]["address"]) if found and found[0]["id"] == identity else None


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise TidegateError(f"--record {file}: {error.strerror}") from None
