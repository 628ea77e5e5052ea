"""Entries for a poller, and what the tests of pollers need: fixtures and a clock."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tidegate.engine import poller as module
from tidegate.engine.poller import Poller

POLLERS: dict[str, type[Poller]] = {"selectors": module._SelectorPoller}
if hasattr(select, "epoll"):
    POLLERS["epoll"] = module._EpollPoller

Pair = Callable[[], tuple[socket.socket, socket.socket]]
Errors = list[Exception]


class Entry(module.Entry):
    """Reads what is there and notes its calls; ``do`` is done in each."""

    def __init__(self, sock: socket.socket, calls: list[Any] | None = None) -> None:
        self.own = sock
        self.calls: list[Any] = [] if calls is None else calls
        self.crashes = 0
        self.do: Callable[[], None] = lambda: None
        self.reads = True

    def on_readable(self) -> None:
        self.calls.append("read")
        self.do()
        if self.reads:
            self.own.recv(65536)

    def on_events(self, events: int) -> bool:
        self.calls.append(events)
        self.do()
        return False

    def on_crash(self) -> None:
        self.crashes += 1


def watch(poller: Poller, sock: socket.socket, calls: list[Any] | None = None) -> Entry:
    entry = Entry(sock, calls)
    poller.register(sock.fileno(), entry)
    return entry


class Clock:
    """Stands in for the poller's clock; it goes on by ``tick`` whenever it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.tick = 0.0
        monkeypatch.setattr(module, "monotonic", self)

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def turn_until(loop: asyncio.AbstractEventLoop, condition: Callable[[], object]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0)

    loop.run_until_complete(wait())
