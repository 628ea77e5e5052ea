"""The measurements: each starts a server, loads it, and puts figures under the names of rows.

Each is a generator that pauses after every step, so that servers which are compared take turns step
by step: what slows the machine for a second or a minute slows all of them. A figure that could be
taken stays even if a later one of the same server fails.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import time
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import jwt

from bench.load import Answer, Load
from bench.peers import MESSAGE, SECRET, Peer, Start
from bench.process import BUILD, SERVER_CORE, BenchError, Process, free_port, wait_for_port

__all__ = [
    "MEASUREMENTS",
    "Figures",
    "Measurement",
    "Sizes",
    "Steps",
    "join",
    "started",
    "write_tokens",
]

Steps = Iterator[None]
"""A measurement of one server: each step runs to its end when the next one is asked for."""

Figures = MutableMapping[str, float]
"""By row; with `.cpu`, microseconds of the server's processor time an operation; with `.slowest`,
milliseconds that the slowest attempt took. `ran` and `waited` are the seconds for which the server
had its core and waited for it, while it had work."""

BURST = 20
_FAN_TOKENS = BUILD / "tokens-fan"
_REST_TOKENS = BUILD / "tokens-rest"
_MOST_SECONDS = 6.0  # for what is taken several times
_SETTLING_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much load there is."""

    others: int
    """Idle ones, which come first."""
    members: int
    """Those that fan-outs go to."""
    refusals: int = 10_000
    fans: int = 11
    echoes: int = 8
    seconds: float = 0.15
    """How long each of the `echoes` is taken for."""

    @property
    def connections(self) -> int:
        """All of them together."""
        return self.others + self.members


@contextmanager
def started(peer: Peer, connections: int, heartbeat: float = 30.0) -> Iterator[tuple[Process, int]]:
    """Run the server of `peer`; yields it and its port once it listens."""
    start = Start(free_port(), free_port(), connections, heartbeat)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    env.update(peer.env)
    name = "server-" + "-".join(re.findall(r"\w+", peer.name))
    with Process(name, peer.command(start), SERVER_CORE, env) as server:
        wait_for_port(server, start.port)
        yield server, start.port


def write_tokens(sizes: Sizes) -> None:
    """Make a token for a user of its own for every connection."""
    groups = ((_FAN_TOKENS, "fan", sizes.members), (_REST_TOKENS, "rest", sizes.others))
    for path, who, n in groups:
        tokens = (jwt.encode({"sub": f"{who}-{i}"}, SECRET, "HS256") for i in range(n))
        path.write_text("\n".join(tokens) + "\n")


def join(load: Load, peer: Peer, n: int, *, members: bool) -> Answer:
    """Open `n` connections: in the room that is published to, or idle in another one."""
    return load.open(
        n,
        peer.fan_path if members else peer.echo_path or peer.fan_path,
        heads=peer.heads,
        tokens=str(_FAN_TOKENS if members else _REST_TOKENS) if peer.tokens else None,
        first=peer.joins("bench" if members else "other") if peer.joins else None,
        answers=peer.answers,
    )


def _settled(peer: Peer, server: Process) -> int:
    """Return the memory once garbage is collected and late work is done."""
    if peer.collects:
        os.kill(server.pid, signal.SIGUSR2)
    time.sleep(_SETTLING_SECONDS)
    return server.memory()


@contextmanager
def _watched(figures: Figures, server: Process) -> Iterator[None]:
    """Count for how long the server runs and waits for its core meanwhile."""
    ran, waited = server.scheduled()
    yield
    ran_until, waited_until = server.scheduled()
    figures["ran"] = figures.get("ran", 0.0) + ran_until - ran
    figures["waited"] = figures.get("waited", 0.0) + waited_until - waited


def _timed(
    figures: Figures, row: str, server: Process, operation: Callable[[], Answer], n: int
) -> Answer:
    before = server.cpu()
    with _watched(figures, server):
        answer = operation()
    figures[row] = answer["rate"]
    figures[f"{row}.cpu"] = (server.cpu() - before) / n * 1e6
    figures[f"{row}.slowest"] = answer["slowest"] * 1e3
    return answer


def _median(
    figures: Figures, row: str, server: Process, operation: Callable[[], Answer], times: int
) -> Steps:
    """Take a figure several times, a step each, and keep the median.

    Not the best: a collection of garbage is the server's own, and not noise.
    """
    rates: list[float] = []
    costs: list[float] = []
    ran = 0.0
    while len(rates) < times and ran < _MOST_SECONDS:
        began, before = time.monotonic(), server.cpu()
        with _watched(figures, server):
            answer = operation()
        ran += time.monotonic() - began
        done = answer["delivered"] if "delivered" in answer else answer["echoes"]
        rates.append(answer["rate"])
        costs.append((server.cpu() - before) / done * 1e6)
        figures[row] = statistics.median(rates)
        figures[f"{row}.cpu"] = statistics.median(costs)
        yield


def _refusals(
    figures: Figures, server: Process, load: Load, peer: Peer, row: str, attempts: int
) -> None:
    refusal = peer.refusals[row]
    answer = _timed(
        figures,
        row,
        server,
        lambda: load.refuse(attempts, refusal.path, refusal.heads),
        attempts,
    )
    wanted = {"statuses": {str(refusal.status): attempts}, "closes": {}, "resets": 0, "failed": 0}
    if refusal.close is not None:
        wanted["closes"] = {str(refusal.close): attempts}
    found = {key: answer[key] for key in wanted}
    if found != wanted:
        del figures[row]
        raise BenchError(f"{row}: {found} instead of {wanted}, {answer['note']}")


def population(peer: Peer, figures: Figures, sizes: Sizes, wanted: Collection[str]) -> Steps:
    """Fill a server: accepts, memory, fan-out to the members, and refusals when it is full.

    The first connections come to a process that has served nobody, as after a restart, when all
    come at once; the others to one whose code is compiled and whose tables have grown. Memory is
    what the latter add: what a process takes or keeps free at its start is not theirs. The
    accepts that end come last: right after the refusals that they are compared with, and when the
    room that they leave free in a heap cannot be mistaken for connections that need none.
    """
    others, members = sizes.others, sizes.members
    with started(peer, sizes.connections) as (server, port), Load(port) as load:
        yield
        first = _timed(
            figures, "accepts", server, lambda: join(load, peer, others, members=False), others
        )
        yield
        before = _settled(peer, server)
        rest = _timed(
            figures,
            "accepts_warm",
            server,
            lambda: join(load, peer, members, members=True),
            members,
        )
        figures["memory"] = (_settled(peer, server) - before) / members
        yield
        if "fanout" in wanted:
            one = partial(load.fan, rest["group"], MESSAGE, 1)
            yield from _median(figures, "fanout", server, one, sizes.fans)
        if "joined" in wanted:
            many = partial(load.fan, rest["group"], MESSAGE, BURST)
            yield from _median(figures, "joined", server, many, 1)
        if "refusals" in wanted:
            for row in peer.refusals:
                _refusals(figures, server, load, peer, row, sizes.refusals)
        load.reset(first["group"])
        time.sleep(_SETTLING_SECONDS)
        path = peer.echo_path or peer.fan_path
        _timed(figures, "visits", server, lambda: load.visit(others, path), others)
        closes = load.stat()["unexpected_closes"]
        if closes:
            raise BenchError(f"{closes} connections were closed unexpectedly")


def echo(peer: Peer, figures: Figures, sizes: Sizes, _wanted: Collection[str]) -> Steps:
    """Echo 64 B and 1 KB on 200 connections, one message on the way on each."""
    if peer.echo_path is None:
        return
    with started(peer, sizes.connections) as (server, port), Load(port) as load:
        group = load.open(200, peer.echo_path)["group"]
        load.echo(group, 64, 0.5)
        yield
        for row, size in (("echo_64", 64), ("echo_1k", 1024)):
            burst = partial(load.echo, group, size, sizes.seconds)
            yield from _median(figures, row, server, burst, sizes.echoes)


def _stall(server: Process) -> tuple[float, float]:
    """Return the longest stall since the last call, in ms, and the CPU time in it."""
    said = len(server.log.read_bytes())
    os.kill(server.pid, signal.SIGUSR1)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(0.02)
        lines = server.log.read_bytes()[said:].splitlines(keepends=True)
        for line in lines:
            if line.startswith(b'{"stall"') and line.endswith(b"\n"):
                answer = json.loads(line)
                return answer["stall"], answer["cpu"]
    raise BenchError("the probe in the server did not answer")


def stall(peer: Peer, figures: Figures, sizes: Sizes, _wanted: Collection[str]) -> Steps:
    """The longest time that the loop of `tidegate serve` did not turn, phase by phase."""
    interval = 5.0

    def phase(row: str) -> None:
        figures[row], figures[f"{row}.cpu"] = _stall(server)

    with (
        started(peer, sizes.connections, interval) as (server, port),
        Load(port) as load,
        _watched(figures, server),
    ):
        _stall(server)  # from here on
        others = join(load, peer, sizes.others, members=False)["group"]
        group = join(load, peer, sizes.members, members=True)["group"]
        phase("stall_open")
        for _ in range(5):
            load.fan(group, MESSAGE, 1)
        for _ in range(3):
            load.fan(group, MESSAGE, BURST)
        phase("stall_fan")
        pings = load.stat()["pings"]
        until = time.monotonic() + 3 * interval
        while load.stat()["pings"] < pings + sizes.connections:
            if time.monotonic() > until:
                raise BenchError(f"no {sizes.connections} pings in {3 * interval} s")
            time.sleep(0.1)
        phase("stall_ping")
        load.reset(group)
        load.reset(others)
        time.sleep(1.0)
        phase("stall_leave")
    yield


@dataclass(frozen=True, slots=True)
class Measurement:
    """One start of a server and the names under which its figures are asked for."""

    steps: Callable[[Peer, Figures, Sizes, Collection[str]], Steps]
    rows: frozenset[str]


MEASUREMENTS = (
    Measurement(population, frozenset({"memory", "accepts", "fanout", "joined", "refusals"})),
    Measurement(echo, frozenset({"echo"})),
    Measurement(stall, frozenset({"stall"})),
)
