"""Connections in the waiting room of a node: what they are told, and how they are admitted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.admission.attempt import Attempt, Identity, Lease, Reject
from tidegate.core.admission.positions import Status
from tidegate.core.codes import DRAINING, Close, Refusal
from tidegate.engine.application import Application
from tidegate.engine.states import Admission
from tidegate.gate.decision import Held
from tidegate.node import waiting as module
from tidegate.node.waiting import WaitingConnections

WALL = 1_800_000_000.0


class Connection:
    def __init__(self) -> None:
        self.lease = Lease.unheld("192.0.2.1", "ann", None, 0)
        self.admission = Admission.WAITING
        self.open = True
        self.closed = False
        self.opened_at = 0.0
        self.ends: list[tuple[Refusal | Close, float | None]] = []

    def call(self, method: Callable[[Any], Any]) -> None:
        method(self)

    def end(self, reason: Refusal | Close, retry_after: float | None = None) -> None:
        self.ends.append((reason, retry_after))


class World(Application[Any]):
    """Everything around `WaitingConnections`, with a log of what is called."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        engine: Any = SimpleNamespace(
            shared=SimpleNamespace(poller=SimpleNamespace(now=1234.5)),
            after=lambda seconds, work: self.log.append(("after", seconds, work)),
        )
        identities: Any = SimpleNamespace(admitted=self.armed)
        self.waiting_connections = WaitingConnections(engine, self, identities)

    def armed(self, connection: Any, expires_in: float | None) -> None:
        self.log.append(("armed", connection.admission, expires_in))

    def waiting(self, connection: Any, status: Status[Any], /) -> None:
        self.log.append(("told", connection, status))

    def admitted(self, connection: Any, /) -> None:
        self.log.append(("admitted", connection))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "time", lambda: WALL)
    return World()


def held(*, unidentified: bool = False, expires_in: float | None = None) -> Held:
    expires_at = None if expires_in is None else WALL + expires_in
    return Held(Attempt("192.0.2.1", "/ws", Identity("ann", expires_at=expires_at)), unidentified)


def taken() -> Lease:
    lease = Lease.unheld("192.0.2.1", "ann", None, 0)
    lease.held = True
    return lease


def test_waiting_connection_is_told_its_position(world: World) -> None:
    connection: Any = Connection()
    status = Status(None, 2, 5, 1.0, None)
    world.waiting_connections.tell(connection, status)
    assert world.log == [("told", connection, status)]


@pytest.mark.parametrize(
    ("unidentified", "admission"),
    [(False, Admission.ADMITTED), (True, Admission.UNIDENTIFIED)],
)
@pytest.mark.parametrize("expires_in", [None, 30.0])
def test_waiting_connection_that_is_admitted_has_its_lease_before_it_is_told(
    world: World, unidentified: bool, admission: Admission, expires_in: float | None
) -> None:
    connection: Any = Connection()
    lease = taken()
    assert world.waiting_connections.admit(
        connection, lease, held(unidentified=unidentified, expires_in=expires_in)
    )
    assert connection.lease is lease
    assert connection.admission is admission
    assert connection.opened_at == 1234.5  # its time in the waiting room is not counted
    assert world.log == [("armed", admission, expires_in), ("admitted", connection)]


@pytest.mark.parametrize("state", [{"closed": True, "open": False}, {"open": False}])
def test_waiting_connection_that_has_ended_is_not_admitted(
    world: World, state: dict[str, bool]
) -> None:
    connection: Any = Connection()
    vars(connection).update(state)
    assert not world.waiting_connections.admit(connection, taken(), held())
    assert connection.admission is Admission.WAITING
    assert world.log == []


@pytest.mark.parametrize("retry_after", [5.0, None])
def test_waiting_connection_that_is_turned_away_is_told_why(
    world: World, retry_after: float | None
) -> None:
    connection: Any = Connection()
    world.waiting_connections.turn_away(connection, Reject(DRAINING, retry_after))
    assert connection.ends == [(DRAINING, retry_after)]


def test_work_of_the_waiting_room_is_done_by_the_engine(world: World) -> None:
    def work() -> None:
        pass

    world.waiting_connections.schedule(0.25, work)
    assert world.log == [("after", 0.25, work)]
