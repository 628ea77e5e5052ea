"""What histories, formats and presence cost: `python -m bench.messaging [--rounds N]`.

The same server runs several times, with other rules of rooms, and they take turns: a publish to a
room of 10,000 each. A publish without a history, all members speaking JSON, is what the others are
compared with, by the server's processor time. Then connections are opened that sit in one room with
presence, and watch it. Exit code 1 when a budget does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import jwt

from bench import prepare
from bench.load import Load
from bench.measure import started
from bench.peers import MESSAGE, PEERS, SECRET, Peer
from bench.process import BUILD, HERE, LOAD_CORE, BenchError, Process, descriptors
from bench.report import machine
from bench.scenario import Check

MEMBERS = 10_000
BEFORE = 2000
"""Connections that are there before the memory of others is measured."""
SETTLING_SECONDS = 1.5

MOST_MIXED = 1.3
"""The most that a publish with history, in three formats, may cost, of a plain one."""
MOST_BYTES = 1536
"""The most memory of an idle connection that watches the presence of its room."""

JSON = ("tidegate.v1.json",)
THREE = ("tidegate.v1.json", "tidegate.v1.msgpack", "tidegate.v1.proto")
HISTORY = 'pattern = "bench"\nhistory_size = 100'
PRESENCE = 'pattern = "*"\npresence = "members"\npresence_users = 100'

RESULTS = HERE / "results" / "messaging.json"


@dataclass
class Variant:
    """A server with a rule, and the formats that its members speak in turn."""

    name: str
    protocols: tuple[str, ...] = JSON
    rule: str = ""
    costs: list[float] = field(default_factory=list)
    """Microseconds of the server's processor time a delivery, one a publish."""
    rates: list[float] = field(default_factory=list)
    """Deliveries a second."""


VARIANTS = (
    Variant("plain"),
    Variant("history", rule=HISTORY),
    Variant("three formats", THREE),
    Variant("history, three formats", THREE, HISTORY),
)


def peer_of(name: str, rule: str) -> Peer:
    """`tidegate serve` with one rule of rooms, or none."""
    native = PEERS["serve"]
    config = BUILD / f"messaging-{name.replace(' ', '-')}.toml"
    config.write_text(rule and f"[[rooms.rules]]\n{rule}\n")
    return replace(native, command=lambda start: [*native.command(start), "--config", str(config)])


def tokens(who: str, n: int, *rooms: str) -> str:
    """Write a token for each of `n` users, which puts them into rooms; return the file."""
    path = BUILD / f"tokens-{who}"
    claims = {"join": rooms} if rooms else {}
    made = (jwt.encode({"sub": f"{who}-{i}", **claims}, SECRET, "HS256") for i in range(n))
    path.write_text("\n".join(made) + "\n")
    return str(path)


def rounds(variant: Variant, times: int) -> Generator[None]:
    """Publish `times` times to a full room; a pause behind each."""
    with (
        started(peer_of(variant.name, variant.rule), MEMBERS) as (server, port),
        Load(port) as load,
    ):
        shown = tokens("fan", MEMBERS, "bench")
        # `connected` and `joined`
        group = load.open(
            MEMBERS, "/ws", protocols=variant.protocols, tokens=shown, answers=2, limit=120
        )["group"]
        load.fan(group, MESSAGE, 1)
        yield
        for _ in range(times):
            before = server.cpu()
            answer = load.fan(group, MESSAGE, 1)
            variant.costs.append((server.cpu() - before) / answer["delivered"] * 1e6)
            variant.rates.append(answer["rate"])
            yield


def settled(server: Process) -> int:
    """The memory of a server that has done its late work."""
    time.sleep(SETTLING_SECONDS)
    return server.memory()


def memory() -> float:
    """Bytes of an idle connection with a token, in one room, that watches who is there."""
    with (
        started(peer_of("presence", PRESENCE), BEFORE + MEMBERS) as (server, port),
        Load(port) as load,
    ):
        for who, n in (("before", BEFORE), ("rest", MEMBERS)):
            join = f'{{"type":"join","room":"{who}","presence":true,"id":1}}'
            before = settled(server)
            load.open(
                n,
                "/ws",
                protocols=JSON,
                tokens=tokens(who, n),
                first=join,
                answers=3,
                limit=120,
            )
        return (settled(server) - before) / MEMBERS


def measure(times: int) -> tuple[dict[str, object], list[Check]]:
    """Take all figures."""
    with ExitStack() as stack:
        running = [stack.enter_context(closing(rounds(one, times))) for one in VARIANTS]
        for number in range(times + 1):
            for steps in running if number % 2 else running[::-1]:
                next(steps)
    plain = VARIANTS[0]
    figures: dict[str, object] = {"machine": machine()}
    checks = []
    for one in VARIANTS:
        # Each round is compared with itself: a slow second of the machine slows both.
        ratio = statistics.median(a / b for a, b in zip(one.costs, plain.costs, strict=True))
        figures[one.name] = {
            "cpu": statistics.median(one.costs),
            "rate": statistics.median(one.rates),
            "of plain": ratio,
        }
        if one is not plain:
            most = MOST_MIXED if one.rule and one.protocols == THREE else float("inf")
            checks.append(Check(f"a publish, {one.name}", ratio, 0, most, " of plain"))
    taken = figures["memory"] = memory()
    checks.append(Check("memory of a connection that watches presence", taken, 0, MOST_BYTES, " B"))
    return figures, checks


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.messaging")
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if descriptors() < BEFORE + MEMBERS + 1000:
        print(f"messaging: needs {BEFORE + MEMBERS + 1000} file descriptors", file=sys.stderr)
        return 2
    try:
        prepare.compile_c()
        os.sched_setaffinity(0, {LOAD_CORE})
        figures, checks = measure(options.rounds)
    except BenchError as error:
        print(f"messaging: {error}", file=sys.stderr)
        return 1
    for check in checks:
        print(check)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"every figure is in {RESULTS.relative_to(HERE.parent)}")
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
