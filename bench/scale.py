"""More than one process: `python -m bench.scale [--members N] [--rounds N] [--only NAME]`.

How much one server carries, what two carry that share their rooms, what a message takes to reach a
member at the other server, and what a message and a connection cost where they meet. Beside them,
Centrifugo (where it is on the PATH) and python-socketio, each over the same Valkey.

The servers and the load share the cores of one machine, so deliveries a second of two servers are
not twice those of one here. What a delivery costs in CPU time at the servers is comparable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from bench import prepare
from bench.fleets import FLEETS, Fleet
from bench.load import Load
from bench.process import HERE, BenchError, Process
from bench.report import machine
from bench.speech import Speech

RESULTS = HERE / "results" / "scale.json"

Figures = dict[str, float]


def measure(fleet: Fleet, members: int) -> Figures:
    """Take all figures of one fleet."""
    figures: Figures = {}
    speech = fleet.speech
    with ExitStack() as stack:
        servers, ports, middle = fleet.start(stack, members * 4)
        loads = [stack.enter_context(Load(port)) for port in ports]
        share = members // len(loads)
        for load in loads:
            load.open(
                share,
                speech.path,
                heads=speech.heads,
                protocols=[speech.protocol] if speech.protocol else (),
                first=speech.first,
                answers=speech.answers,
            )
        time.sleep(0.5)
        _deliveries(figures, fleet, servers, loads, ports[0], share)
        taken = asyncio.run(_latency(speech, ports))
        figures["latency_p50"] = statistics.median(taken)
        figures["latency_p99"] = statistics.quantiles(taken, n=100)[98]
        before = _cpu(*servers), _cpu(middle)
        visits = 3000
        answer = loads[-1].visit(visits, speech.visits)
        figures["connects"] = answer["rate"]
        figures["connect_cpu"] = (_cpu(*servers) - before[0]) / visits * 1e6
        if middle is not None:
            figures["connect_middle"] = (_cpu(middle) - before[1]) / visits * 1e6
            figures["message_middle"] = asyncio.run(_cost(speech, ports[0], middle))
    return figures


def _deliveries(
    figures: Figures,
    fleet: Fleet,
    servers: list[Process],
    loads: list[Load],
    port: int,
    share: int,
) -> None:
    """Publish to all members, and see how long it takes until all have it.

    Bytes are counted, as some servers put several messages in one frame.
    """
    speech = fleet.speech
    size = asyncio.run(_size(speech, port))
    time.sleep(0.5)
    frames = speech.frames
    expected = [load.stat()["bytes"] + frames * share * size for load in loads]
    before, began = _cpu(*servers), time.monotonic()
    asyncio.run(_publish(speech, port, frames))
    while any(load.stat()["bytes"] < all_ for load, all_ in zip(loads, expected, strict=True)):
        if time.monotonic() > began + 60:
            raise BenchError("not all messages came to all members within 60 s")
        time.sleep(0.01)
    seconds = time.monotonic() - began
    delivered = frames * share * len(loads)
    figures["deliveries"] = delivered / seconds
    figures["delivery_cpu"] = (_cpu(*servers) - before) / delivered * 1e6


async def _size(speech: Speech, port: int) -> int:
    """Return how many bytes a message takes on its way to a member."""
    connection = await speech.connect(port)
    await connection.send(speech.publish)
    size = await speech.receive(connection)
    await connection.close()
    return size


async def _publish(speech: Speech, port: int, frames: int) -> None:
    connection = await speech.connect(port)
    for _ in range(frames):
        await connection.send(speech.publish)
    await speech.receive(connection, frames)
    await connection.close()


async def _latency(speech: Speech, ports: list[int]) -> list[float]:
    """Milliseconds from a member's send to another one's receipt, one after another."""
    first, last = await speech.connect(ports[0]), await speech.connect(ports[-1])
    taken = []
    for _ in range(300):
        began = time.perf_counter()
        await first.send(speech.publish)
        await speech.receive(last)
        taken.append((time.perf_counter() - began) * 1e3)
    await first.close()
    await last.close()
    return taken


async def _cost(speech: Speech, port: int, middle: Process) -> float:
    """Microseconds of CPU that one message takes between the servers."""
    frames, before = 2 * speech.frames, _cpu(middle)
    await _publish(speech, port, frames)
    return (_cpu(middle) - before) / frames * 1e6


def _cpu(*processes: Process | None) -> float:
    return sum(process.cpu() for process in processes if process is not None)


COLUMNS = (
    ("deliveries", "deliveries /s"),
    ("delivery_cpu", "CPU of one, us"),
    ("latency_p50", "to the other server, ms"),
    ("latency_p99", "p99, ms"),
    ("connects", "connects /s"),
    ("connect_cpu", "CPU of one, us"),
    ("connect_middle", "between, us"),
    ("message_middle", "CPU of a message between, us"),
)


def main() -> int:
    names = [fleet.name for fleet in FLEETS]
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--members", type=int, default=2000, help="of the room, on all servers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    options = parser.parse_args()
    console = Console()
    prepare.compile_c()
    rounds: dict[str, list[Figures]] = {}
    notes: list[str] = []
    for _ in range(options.rounds):
        for fleet in FLEETS:
            if fleet.name not in (options.only or names):
                continue
            try:
                rounds.setdefault(fleet.name, []).append(measure(fleet, options.members))
            except BenchError as error:
                notes.append(f"{fleet.name}: {error}")
    table = Table("", *(title for _, title in COLUMNS))
    for name, taken in rounds.items():
        cells = []
        for key, _ in COLUMNS:
            values = [figures[key] for figures in taken if key in figures]
            cells.append(f"{statistics.median(values):,.4g}" if values else "")
        table.add_row(name, *cells)
    console.print(table)
    for note in notes:
        console.print(note)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine(), "rounds": rounds}, indent=1) + "\n")
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
