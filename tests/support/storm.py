"""A crowd of Python clients that is cut off at once, and how it comes back."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.process import Process
from tests.support.relay import relay
from tidegate.client import Client, State, StateChange

__all__ = ["Storm", "begun", "most_within", "storm"]

_TICK = 0.005
"""Seconds by which a timer may seem early: the loop's clock is read twice."""


@dataclass
class Storm:
    """What came of it."""

    clients: int
    seconds: float
    """From the cut until all are back."""
    most: int
    """The most connections that began within one second, as the server sees them."""
    refused: int
    """Attempts that the server refused."""
    early: int
    """Attempts that came before their time."""
    given_up: int
    """Clients that did not come back."""


def begun(server: Process) -> list[float]:
    """When each open connection began, by the clock of this machine, as the server sees it."""
    found: list[float] = []
    after = ""
    while True:
        status, page = server.get(f"/connections?limit=1000{after}")
        assert status == 200, page
        now = time.monotonic()
        found += [now - one["age"] for one in page["connections"]]
        if page["next"] is None:
            return sorted(found)
        after = f"&after={page['next']}"


def most_within(times: Sequence[float], seconds: float = 1.0) -> int:
    """The most of the times, which are sorted, within any span of so many seconds."""
    return max(
        (bisect_left(times, first + seconds) - n for n, first in enumerate(times)), default=0
    )


class _Watch:
    """Whether a client keeps to its times."""

    def __init__(self, client: Client) -> None:
        self.early = self.lost = 0
        self.closed = False
        self._due = 0.0
        self._loop = asyncio.get_running_loop()
        client.on(StateChange, self._note)

    def _note(self, change: StateChange) -> None:
        now = self._loop.time()
        match change.state:
            case State.BACKOFF:
                self.lost += change.previous is State.OPEN
                self._due = now + (change.delay or 0.0)
            case State.CONNECTING:
                self.early += now < self._due - _TICK
            case State.CLOSED:
                self.closed = True


async def storm(server: Process, count: int, *, patience: float = 120.0) -> Storm:
    """Connect so many clients, cut them all off at once, and wait until all are back."""

    def refused() -> int:
        return int(server.stats()["connections"]["rejected"])

    async with relay(server.port) as line:
        clients = [Client(line.url) for _ in range(count)]
        watches = [_Watch(client) for client in clients]
        try:
            async with asyncio.timeout(patience):
                for client in clients:
                    client.start()
                await asyncio.gather(*(client.ready() for client in clients))
                before = await asyncio.to_thread(refused)
                start = time.monotonic()
                line.cut()
                while not all(watch.lost or watch.closed for watch in watches):
                    await asyncio.sleep(0.01)
                await asyncio.gather(
                    *(client.ready() for client in clients), return_exceptions=True
                )
            seconds = time.monotonic() - start
            times = await asyncio.to_thread(begun, server)
            return Storm(
                count,
                seconds,
                most_within([at for at in times if at >= start - 0.1]),
                await asyncio.to_thread(refused) - before,
                sum(watch.early for watch in watches),
                sum(watch.closed for watch in watches),
            )
        finally:
            await asyncio.gather(*(client.close() for client in clients))
