"""Fixtures of the tests that run with every poller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop

from tests.unit.engine.polling import POLLERS, Clock, Errors, Pair
from tidegate.engine import engine, receiving
from tidegate.engine.poller import Poller


@pytest.fixture(autouse=True)
def _leave_the_collector_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning it takes time, and is for a process that does nothing but serve."""
    monkeypatch.setattr(engine, "_tune_collector", lambda: None)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection goes behind the others because this machine is busy."""
    monkeypatch.setattr(receiving, "SERVED_SECONDS", 60.0)


@pytest.fixture(params=sorted(POLLERS))
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """A poller whose clock stands still, so that no turn is over before its work is done."""
    Clock(monkeypatch)
    poller = POLLERS[request.param]()
    yield poller
    poller.close()


@pytest.fixture
def pairs() -> Iterator[Pair]:
    """Makes pairs of sockets; the first is the poller's, the second the peer's."""
    made: list[socket.socket] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        mine, peers = socket.socketpair()
        mine.setblocking(False)
        made.extend((mine, peers))
        return mine, peers

    yield pair
    for sock in made:
        sock.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def errors() -> Errors:
    """The errors that the loop heard of; a test that expects some takes them out."""
    return []


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(
    request: pytest.FixtureRequest, poller: Poller, errors: Errors
) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that drives the poller."""
    loop = request.param()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    poller.attach(loop)
    yield loop
    poller.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert errors == []


@pytest.fixture(params=sorted(POLLERS))
def each_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test of whole servers with every poller."""
    monkeypatch.setattr(engine, "make_poller", POLLERS[request.param])
