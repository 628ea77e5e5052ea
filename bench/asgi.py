"""Compare ASGI servers on one FastAPI application: `python -m bench.asgi [--quick] [--rounds N]`.

The application is the same everywhere (`servers/fastapi_app.py`), and so is the load. Servers take
turns step by step, and ratios are taken within a round. Exit code 1 when a budget does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.table import Table

from bench import prepare
from bench.load import Answer, Load
from bench.measure import Figures, Steps
from bench.peers import MESSAGE, SERVERS
from bench.process import (
    HERE,
    LOAD_CORE,
    SERVER_CORE,
    BenchError,
    Process,
    free_port,
    wait_for_port,
)
from bench.report import machine

APP = "bench.servers.fastapi_app:app"
RESULTS = HERE / "results" / "asgi.json"
OURS = "tidegate run"
FIRST = "uvicorn"
"""What the budgets compare with: uvicorn's fastest WebSocket protocol."""

_SETTLING_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much load there is."""

    others: int = 1_000
    """Connections to a server that has served nobody, which come first and stay idle."""
    members: int = 5_000
    """Those that are broadcast to."""
    fans: int = 7
    echoes: int = 8
    http_seconds: int = 2


@dataclass(frozen=True, slots=True)
class Server:
    """One ASGI server: how it is started on a port, for so many connections."""

    command: Callable[[int, int], list[str]]
    package: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def _peer(*arguments: str) -> list[str]:
    return [str(prepare.PEER_PYTHON), "-m", *arguments]


def _uvicorn(port: int, _: int, *, ws: str) -> list[str]:
    options = ["--no-access-log", "--log-level", "critical", "--lifespan", "off"]
    options += ["--loop", "uvloop", "--http", "httptools", "--ws", ws, "--backlog", "4096"]
    options += ["--ws-per-message-deflate", "false", "--ws-ping-interval", "1000"]
    return [*_peer("uvicorn", APP), "--port", str(port), *options]


def _hypercorn(port: int, _: int) -> list[str]:
    options = ["--backlog", "4096", "--worker-class", "uvloop", "--log-level", "CRITICAL"]
    return [*_peer("hypercorn", APP), "--bind", f"127.0.0.1:{port}", *options]


def _granian(port: int, _: int) -> list[str]:
    options = ["--interface", "asginl", "--loop", "uvloop", "--backlog", "4096"]
    options += ["--workers", "1", "--no-access-log", "--log-level", "critical"]
    return [*_peer("granian", APP), "--port", str(port), *options]


def _daphne(port: int, _: int) -> list[str]:
    options = ["--verbosity", "0", "--ping-interval", "1000", "--ping-timeout", "1000"]
    return [*_peer("daphne", APP), "--bind", "127.0.0.1", "--port", str(port), *options]


def _tidegate(port: int, connections: int, app: str = "fastapi_app:app") -> list[str]:
    script = str(SERVERS / "tidegate_asgi.py")
    return [sys.executable, script, str(port), str(connections), app]


SERVERS_BY_NAME = {
    OURS: Server(_tidegate),
    "tidegate run with Gate": Server(partial(_tidegate, app="gate_app:app")),
    FIRST: Server(partial(_uvicorn, ws="websockets-sansio"), "uvicorn"),
    "uvicorn, wsproto": Server(partial(_uvicorn, ws="wsproto"), "wsproto"),
    "hypercorn": Server(_hypercorn, "hypercorn"),
    "granian": Server(_granian, "granian"),
    "daphne": Server(_daphne, "daphne"),
}

ROWS = {
    "memory": "memory an idle connection, B",
    "accepts": "accepts a second",
    "echo": "echoes of 64 B a second, 200 connections",
    "broadcast": "broadcast to all, deliveries a second",
    "http": "HTTP requests a second, 50 connections",
}

BUDGETS = {"memory": 0.5, "accepts": 1.5, "echo": 1.5, "broadcast": 1.5, "http": 0.9}
"""Of uvicorn's figure: memory at most, all others at least."""


def _started(server: Server, port: int, connections: int) -> Process:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    env |= {"PYTHONPATH": str(HERE.parent), **server.env}
    name = "asgi-" + "-".join(re.findall(r"\w+", server.package or "tidegate"))
    return Process(name, server.command(port, connections), SERVER_CORE, env)


def _settled(server: Process, port: int) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/collect", method="POST")
    urllib.request.urlopen(request, timeout=30).close()
    time.sleep(_SETTLING_SECONDS)
    return server.memory()


def _http(port: int, seconds: int) -> float:
    """Return requests a second, by wrk on the core of the load."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchError("HTTP is left out: wrk is not on the PATH")
    done = subprocess.run(
        [wrk, "-t1", "-c50", f"-d{seconds}s", f"http://127.0.0.1:{port}/hello?name=ann"],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    )
    found = re.search(r"Requests/sec:\s*([0-9.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise BenchError(f"wrk: {(done.stdout + done.stderr).strip()[-300:]}")
    return float(found[1])


def measure(server: Server, figures: Figures, sizes: Sizes) -> Steps:
    """Take all figures of one server."""
    port = free_port()
    with _started(server, port, sizes.others + sizes.members + 1000) as process:
        wait_for_port(process, port)
        with Load(port) as load:
            load.open(sizes.others, "/echo")
            yield
            before = _settled(process, port)
            opened = load.open(sizes.members, "/fan", limit=60)
            figures["accepts"] = opened["rate"]
            figures["memory"] = (_settled(process, port) - before) / sizes.members
            yield
            group = opened["group"]
            yield from _median(
                figures, "broadcast", lambda: load.fan(group, MESSAGE, 1), sizes.fans
            )
        with Load(port) as load:
            group = load.open(200, "/echo")["group"]
            load.echo(group, 64, 0.5)
            yield
            echo = partial(load.echo, group, 64, 0.15)
            yield from _median(figures, "echo", echo, sizes.echoes)
        with suppress(BenchError):
            _http(port, 1)
        figures["http"] = _http(port, sizes.http_seconds)


def _median(figures: Figures, row: str, operation: Callable[[], Answer], times: int) -> Steps:
    rates: list[float] = []
    for _ in range(times):
        rates.append(operation()["rate"])
        figures[row] = statistics.median(rates)
        yield


def ratios(rounds: Mapping[str, list[Figures]], name: str, row: str) -> list[float]:
    """Return a figure of each round over uvicorn's in the same round."""
    pairs = zip(rounds[name], rounds.get(FIRST, []), strict=False)
    return [one[row] / first[row] for one, first in pairs if row in one and first.get(row)]


def show(console: Console, rounds: Mapping[str, list[Figures]], notes: list[str]) -> bool:
    """Print the table and the budgets; returns whether all that were measured hold."""
    lines = ["| | " + " | ".join(rounds) + " |", "|---" + "|---:" * len(rounds) + "|"]
    table = Table(title=f"Medians of the rounds, and of the ratios to {FIRST}")
    table.add_column("measure")
    for name in rounds:
        table.add_column(name, justify="right")
    for row, title in ROWS.items():
        cells = []
        for name in rounds:
            values = [figures[row] for figures in rounds[name] if row in figures]
            shares = ratios(rounds, name, row)
            ratio = f" ({statistics.median(shares):.2f} x)" if shares else ""
            cells.append(f"{statistics.median(values):,.0f}{ratio}" if values else "-")
        table.add_row(title, *cells)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    console.print(table)
    good = True
    for row, bound in BUDGETS.items():
        shares = ratios(rounds, OURS, row) if OURS in rounds else []
        if not shares:
            continue
        value = statistics.median(shares)
        holds = value <= bound if row == "memory" else value >= bound
        good = good and holds
        said = "at most" if row == "memory" else "at least"
        verdict = "[green]pass[/]" if holds else "[bold red]FAIL[/]"
        console.print(f"{ROWS[row]}: {value:.2f} x of {FIRST}, {said} {bound} x: {verdict}")
    for note in notes:
        console.print(f"[yellow]note:[/] {note}", highlight=False)
    console.print("\n" + "\n".join(lines), highlight=False, soft_wrap=True)
    return good


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.asgi")
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--servers", help=f"names with commas: {', '.join(SERVERS_BY_NAME)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round")
    options = parser.parse_args()
    names = list(SERVERS_BY_NAME)
    if options.servers:
        names = [name for name in names if name in re.split(r",\s*(?!wsproto)", options.servers)]
    if not names or options.rounds < 1:
        parser.error("no such servers, or no round")
    console = Console(width=None if sys.stdout.isatty() else 160)
    sizes = Sizes(200, 500, 3, 2, 1) if options.quick else Sizes()
    notes: list[str] = []
    try:
        prepare.compile_c()
        prepare.install_python()
    except BenchError as error:
        console.print(f"bench: {error}", highlight=False)
        return 2
    os.sched_setaffinity(0, {LOAD_CORE})
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(1 if options.quick else options.rounds):
        console.print(f"[dim]round {number + 1}[/]")
        runs: dict[str, Steps] = {}
        # Who is started first can be slower: the second round has the other order.
        for name in names if number % 2 == 0 else names[::-1]:
            rounds[name].append({})
            runs[name] = measure(SERVERS_BY_NAME[name], rounds[name][-1], sizes)
        while runs:
            for name in list(runs):
                try:
                    next(runs[name])
                except StopIteration:
                    del runs[name]
                except (BenchError, OSError) as error:
                    notes.append(f"{name}: {error}")
                    del runs[name]
    good = show(console, rounds, list(dict.fromkeys(notes))) or options.quick
    versions = {
        server.package: prepare.version_of(server.package)
        for server in SERVERS_BY_NAME.values()
        if server.package
    }
    RESULTS.parent.mkdir(exist_ok=True)
    answer = {"machine": machine(), "versions": versions, "rounds": rounds, "notes": notes}
    RESULTS.write_text(json.dumps(answer, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
