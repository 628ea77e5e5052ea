"""`tidegate capacity`: how much this machine holds."""

from __future__ import annotations

import json as jsonlib
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from cyclopts import Parameter

from tidegate.cli.options import (
    AdminUrl,
    Assignments,
    ConfigFile,
    Time,
    load_settings,
    parse_seconds,
)
from tidegate.core.settings import Settings
from tidegate.errors import ConfigError, TidegateError, UsageError
from tidegate.server.config import find_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.capacity.clients import Server
    from tidegate.capacity.plan import Plan
    from tidegate.capacity.target import Target

__all__ = ["capacity"]

_OFFERED: Final = ("tidegate.v1.json",)
_QUICK_SECONDS: Final = 20.0
_File = Annotated[Path | None, Parameter(metavar="FILE")]


def capacity(
    *,
    against: Annotated[str | None, Parameter(metavar="URL")] = None,
    token: Annotated[str | None, Parameter(metavar="TOKEN", show_default=False)] = None,
    time: Annotated[str, Time] = "2m",
    quick: Annotated[bool, Parameter(negative=())] = False,
    most: Annotated[int | None, Parameter(metavar="CONNECTIONS", allow_leading_hyphen=True)] = None,
    latency: Annotated[str, Time] = "100ms",
    safety: Annotated[float, Parameter(metavar="SHARE", allow_leading_hyphen=True)] = 0.8,
    write: _File = None,
    costs: _File = None,
    png: _File = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    admin: AdminUrl = None,
    config: ConfigFile = None,
    set_: Assignments = (),
) -> int:
    """Measure how much this machine holds: connections, connects, messages, deliveries.

    Starts a server with your settings, its limits lifted, and puts more and more load on it until
    answers take too long, or processor, memory or connections run out. Load and server share this
    machine, so both get less than they would alone. Ctrl-C ends it after the load that it tries,
    with what there is so far; a second one ends it at once.

    Parameters
    ----------
    against
        Measure a server that runs already, at this URL (ws:// or wss://), with the limits that it
        has. Without --admin only latency and refusals are seen. Ask before you load a server
        that is not yours.
    token
        Token that the clients show.
    time
        How long to measure, from 10s to 1h.
    quick
        Measure for 20 seconds with small loads, to see how it works.
    most
        Most connections to try. [default: as many as the descriptors allow]
    latency
        Time in which 99 of 100 answers must come.
    safety
        Share of what was found that the settings allow.
    write
        TOML file to write limits.connections, pacing.rate and pacing.burst into.
    costs
        File to write what things cost on this machine into, for `tidegate estimate --costs`.
    png
        File to draw the knees into.
    json
        Print everything as JSON.
    """
    from tidegate.capacity.judging import Bounds
    from tidegate.capacity.picture import draw
    from tidegate.capacity.plan import Generator, Plan
    from tidegate.capacity.report import as_json, costs_file, lines, thresholds
    from tidegate.capacity.writing import write as write_settings
    from tidegate.node.pressure.descriptors import raise_descriptor_limit

    seconds = _QUICK_SECONDS if quick else parse_seconds("--time", time, 10, 3600)
    bounds = Bounds(latency=parse_seconds("--latency", latency, 0.001, 60))
    if not 0 < safety <= 1:
        raise UsageError(f"--safety {safety:g}: must be above 0, and 1 at most")
    if most is not None and not 0 < most <= 10_000_000:
        raise UsageError(f"--most {most}: must be from 1 to 10,000,000")
    if against is None and (token is not None or admin is not None):
        raise UsageError("--token and --admin are for --against")
    if write is not None:
        _check_writable(write)
    raise_descriptor_limit()
    # So that what was started ends too, from its start on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    target, server = _target(against, token, admin, config, set_)
    told = _silent if json or not sys.stderr.isatty() else _tell
    generator = None
    try:
        generator = Generator(server, target.pid)
        plan = Plan(target, generator, bounds, seconds, most, quick=quick, told=told)
        with _ending(plan):
            plan.run()
    finally:
        if generator is not None:
            generator.stop()
        target.stop()
    outcome = plan.outcome
    if not outcome.knees:
        raise TidegateError("nothing was measured")
    width = shutil.get_terminal_size().columns
    if json:
        print(jsonlib.dumps(as_json(outcome, bounds, safety), indent=2))
    else:
        print("\n".join(lines(outcome, bounds, safety, width)))
    said = []
    if write is not None:
        write_settings(write, thresholds(outcome, safety))
        said.append(f"wrote the settings into {write}; they are in force after a restart or SIGHUP")
    if costs is not None:
        found = costs_file(outcome)
        if found is None:
            raise TidegateError("not all costs were measured; give it more --time")
        _write_text(costs, jsonlib.dumps(found, indent=2) + "\n")
        said.append(f"wrote the costs into {costs}")
    if png is not None:
        draw(outcome, bounds, png)
        said.append(f"drew {png}")
    for line in said:
        print(line, file=sys.stderr)
    return 130 if outcome.ended else 0


def _target(
    against: str | None,
    token: str | None,
    admin: str | None,
    config: Path | None,
    assignments: tuple[str, ...],
) -> tuple[Target, Server]:
    from tidegate.capacity.clients import Server
    from tidegate.capacity.target import Elsewhere, Started
    from tidegate.cli.admin import Admin

    settings = load_settings(config, assignments).settings
    if against is not None:
        read = None if admin is None else Admin(settings.admin, admin).text
        return Elsewhere(read), _server_of(against, token)
    if settings.tls.certificate is not None:
        assignments = (*assignments, "tls.certificate=", "tls.key=")
    started = Started(find_file(config, os.environ), assignments)
    shown = _own_token(settings)
    return started, Server("127.0.0.1", started.port, "/ws", offered=_OFFERED, token=shown)


def _own_token(settings: Settings) -> str | None:
    """A token for the clients, so that what it costs to check one is measured too."""
    from time import time

    from tidegate.gate.tokens import create_token

    try:
        return create_token(
            settings.auth,
            user="capacity",
            tier=None,
            priority=0,
            lifetime_seconds=86_400,
            now=time(),
        )
    except UsageError:  # there is nothing to sign it with
        return None


def _server_of(url: str, token: str | None) -> Server:
    from tidegate.capacity.clients import Server

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise UsageError(f"--against {url}: must be like ws://127.0.0.1:8000/ws or wss://...")
    secure = parts.scheme == "wss"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return Server(host, port or (443 if secure else 80), path, secure, _OFFERED, token)


@contextmanager
def _ending(plan: Plan) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end the plan after its step; a second one ends it at once."""

    def enough(number: int, _frame: object) -> None:
        plan.enough()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, enough) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        plan.enough()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_writable(path: Path) -> None:
    """Say before two minutes of measuring that its result cannot be written."""
    folder = path.parent if str(path.parent) else Path()
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError(f"--write {path}: the file cannot be written")


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the file cannot be written: {error.strerror}") from None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(_line: str) -> None:
    return
