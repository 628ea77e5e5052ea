"""Connections and a poller for tests of what sends to many, without sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from tidegate.core.codes import Close
from tidegate.core.stats import Stats, Traffic
from tidegate.engine.fanout import Fanout
from tidegate.engine.outbox import DISCARD

__all__ = ["EVER", "NOW", "FakeConnection", "FakePoller", "at_once", "make_fanout"]

EVER, NOW = float("inf"), 0.0
"""Until when a step of fan-out goes on: to the end, or for one look at the clock."""


class FakePoller:
    """What fan-out needs of a poller."""

    def __init__(self) -> None:
        self.wakes = 0
        self.errors: list[Exception] = []

    def wake(self) -> None:
        self.wakes += 1

    def crashed(self, error: Exception, entry: None) -> None:
        self.errors.append(error)


class FakeConnection:
    """A connection that keeps what it is sent, one entry for each system call.

    Args:
        calls: a list that the connection is added to with each call, to see the order of several.
    """

    def __init__(
        self,
        subprotocol: str | None = None,
        *,
        name: str = "",
        user: str | None = None,
        calls: list[Any] | None = None,
    ) -> None:
        self.subprotocol = subprotocol
        self.id = name
        self.user = user
        self.open = True
        self.rooms: tuple[str, ...] = ()
        self.sink: Any = self
        self.got: list[bytes] = []
        self.held: list[tuple[bytes, int]] = []
        self.losses: list[Close] = []
        self.takes = 1 << 30
        self.error: Exception | None = None
        self.shared: Any = SimpleNamespace(outbox=SimpleNamespace(max_bytes=1 << 20))
        self._calls = calls if calls is not None else []

    def __repr__(self) -> str:
        return f"<FakeConnection {self.id}>"

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        self.got.append(data)
        self._calls.append(self)
        return min(self.takes, len(data))

    def transmit(self, frame: bytes) -> None:
        self.sink.send(frame)

    def hold_back(self, frame: bytes, sent: int) -> None:
        self.held.append((frame, sent))

    def lost(self, reason: Close) -> None:
        self.losses.append(reason)
        self.sink = DISCARD


def make_fanout(poller: FakePoller | None = None, traffic: Traffic | None = None) -> Fanout:
    """Fan-out over fakes."""
    stats = Stats()
    stats.outgoing = traffic or stats.outgoing
    any_poller: Any = poller or FakePoller()
    return Fanout(any_poller, stats)


def at_once(items: Iterable[Any], do: Callable[[Any], None]) -> None:
    """Do something with each of many, as an engine that has the time."""
    for item in items:
        do(item)
