"""What the overload benchmarks share: a server that is watched, its people, and who they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import TracebackType

import jwt

from bench.herd import Herd
from bench.measure import started
from bench.peers import PEERS, SECRET, Peer, Start
from bench.process import BUILD, Process

__all__ = ["Check", "Sample", "Watch", "crew", "natives", "served", "tidegate"]

EVERY = 0.25
"""Seconds between two looks at a server."""

CREW = 200
"""How many of those who are in send messages all the time."""

CREW_EVERY = 0.1
"""Seconds between two messages of each of them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server had used by then: CPU in seconds, memory in bytes."""

    at: float
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Check:
    """A figure beside the bound that it has to keep."""

    what: str
    measured: float
    low: float
    high: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is within its bounds."""
        return self.low <= self.measured <= self.high

    def __str__(self) -> str:
        mark = "ok  " if self.holds else "FAIL"
        return (
            f"{mark} {self.what}: {self.measured:,.4g}{self.unit} "
            f"({self.low:,.4g} to {self.high:,.4g})"
        )


@dataclass
class Watch:
    """Looks at a server from a thread of its own while the context lasts."""

    server: Process
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> Watch:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            memory = self.server.memory()
            self.samples.append(Sample(time.monotonic(), self.server.cpu(), memory))
            if self._over.wait(EVERY):
                return

    def cpu(self, began: float, seconds: int) -> list[float]:
        """The share of a core that the server used in each second from `began` on."""
        marks = [self._used(began + second) for second in range(seconds + 1)]
        return [later - earlier for earlier, later in pairwise(marks)]

    def _used(self, at: float) -> float:
        before = self.samples[0]
        for sample in self.samples:
            if sample.at >= at:
                share = (at - before.at) / (sample.at - before.at) if sample is not before else 0
                return before.cpu + share * (sample.cpu - before.cpu)
            before = sample
        return before.cpu

    def memory(self, began: float, ended: float) -> list[int]:
        """What the server had between two times, sample by sample."""
        return [sample.memory for sample in self.samples if began <= sample.at <= ended]


def tidegate(settings: Mapping[str, object]) -> Peer:
    """Return `tidegate serve` with these settings, beside those of all benchmarks."""
    native = PEERS["serve"]

    def command(start: Start) -> list[str]:
        sets = (part for item in settings.items() for part in ("--set", "{}={}".format(*item)))
        return [*native.command(start), *sets]

    return replace(native, command=command)


@contextmanager
def served(peer: Peer, connections: int) -> Iterator[tuple[Process, Herd, Watch]]:
    """Run a server, a herd for it and a watch."""
    with (
        started(peer, connections) as (server, port),
        Herd(port) as herd,
        Watch(server) as watch,
    ):
        yield server, herd, watch


def natives(
    herd: Herd,
    peer: Peer,
    who: str,
    n: int,
    *,
    room: str = "home",
    text: str | None = None,
    rate: float | None = None,
    stay: float | None = None,
    again: bool = False,
    every: float | None = None,
    silent: bool = False,
) -> int:
    """Make a group of users who join a room, and send `text` to it when it is given."""
    path = BUILD / f"tokens-{who}"
    tokens = (jwt.encode({"sub": f"{who}-{i}"}, SECRET, "HS256") for i in range(n))
    path.write_text("\n".join(tokens) + "\n")
    return herd.group(
        n,
        peer.fan_path,
        heads=peer.heads,
        tokens=str(path),
        first=f'{{"type":"join","room":"{room}","id":1}}',
        answers=peer.answers,
        text=text,
        rate=rate,
        stay=stay,
        again=again,
        every=every,
        silent=silent,
    )


def crew(herd: Herd, peer: Peer) -> None:
    """Let those in whose messages show the latency: each hears its own message from its own room.

    At a peer without rooms they hear the echo.
    """
    if peer.joins:
        text = '{"type":"room_message","room":"crew-@","data":"#"}'
        group = natives(herd, peer, "crew", CREW, room="crew-@", text=text, every=CREW_EVERY)
    else:
        path = peer.echo_path or "/"
        group = herd.group(CREW, path, text="message #", every=CREW_EVERY)
    herd.run(10, until_settled=group)
