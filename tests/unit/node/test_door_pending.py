"""Attempts that are decided about late, because an application says late who they belong to."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.support.raw import KEY
from tests.unit.node.door import NOW, PEER, Door, Promise, Refused
from tidegate.core.admission.attempt import Identity
from tidegate.core.codes import DECISION_TIMEOUT, PENDING_LIMIT, UNAUTHORIZED, Refusal
from tidegate.engine.door import Grant, Undecided
from tidegate.engine.states import Admission
from tidegate.errors import UsageError
from tidegate.gate.decision import Decision, Pending
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.handshake import accept_response

ANN = Identity("ann")
DEFLATE = ("Sec-WebSocket-Extensions", "permessage-deflate")


def late(**options: Any) -> tuple[Door, Promise]:
    promise = Promise()
    return Door(subprotocols=(JSON_V1,), identifier=promise, **options), promise


def ready(undecided: Undecided, promise: Promise, outcome: Any) -> None:
    told: list[bool] = []
    undecided.then(lambda: told.append(True))
    assert told == []
    promise.keep(outcome)
    assert told == [True]


def test_undecided_that_is_identified_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.node.undecided.time", lambda: 5000.0)
    door, promise = late(deflate={"enabled": True})
    undecided = door.undecided(DEFLATE, protocols=JSON_V1)
    (request,) = promise.asked
    assert (request.address, request.path, request.in_band) == (PEER, "/ws", True)
    ready(undecided, promise, Identity("ann", expires_at=5030.0))
    grant = door.go_on(undecided)
    assert isinstance(grant, Grant)
    assert (grant.lease.user, grant.path, grant.subprotocol) == ("ann", "/ws", JSON_V1)
    assert (grant.admission, grant.expires_in) == (Admission.ADMITTED, 30.0)
    assert grant.deflate is not None
    assert b"permessage-deflate" in grant.response
    assert door.counted() == {}


def test_undecided_that_is_anonymous_has_to_identify() -> None:
    door, promise = late(auth={"anonymous": False})
    undecided = door.undecided(protocols=JSON_V1)
    ready(undecided, promise, Identity())
    grant = door.go_on(undecided)
    assert isinstance(grant, Grant)
    assert grant.admission is Admission.UNIDENTIFIED


@pytest.mark.parametrize("protocols", [None, JSON_V1])
def test_undecided_that_is_refused_is_told_so(protocols: str | None) -> None:
    door, promise = late()
    undecided = door.undecided(DEFLATE, protocols=protocols)
    ready(undecided, promise, UNAUTHORIZED)
    refused = door.go_on(undecided)
    assert isinstance(refused, Refused)
    if protocols is None:
        assert refused.status == UNAUTHORIZED.status
        assert "WWW-Authenticate" in refused.headers
    else:
        assert refused.close == (4501, {"error": "unauthorized", "retryAfter": None})
    assert door.counted() == {"unauthorized": 1}


@pytest.mark.parametrize("reason", [DECISION_TIMEOUT, PENDING_LIMIT])
@pytest.mark.parametrize("protocols", [None, JSON_V1])
@pytest.mark.parametrize("raises", [False, True])
def test_undecided_that_is_given_up_is_told_why(
    reason: Refusal, protocols: str | None, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the application fails to stop; that is logged."""
    door, promise = late(deflate={"enabled": True})
    undecided = door.undecided(DEFLATE, protocols=protocols)
    undecided.then(lambda: pytest.fail("it was given up"))
    if raises:
        promise.outcome = RuntimeError("swordfish")
    answer = door.check(lambda: undecided.refuse(reason))
    assert isinstance(answer, Refused)
    if protocols is None:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.body["error"] == reason.name
    else:
        assert answer.close == (1013, {"error": reason.name, "retryAfter": 5})
    assert promise.cancelled == 1
    assert len(caplog.records) == raises
    assert door.counted() == {reason.name: 1}
    (kept,) = door.refusals
    assert (kept.address, kept.user, kept.reason) == (PEER, None, reason)
    promise.keep(ANN)


def test_undecided_whose_client_left_takes_nothing() -> None:
    door, promise = late()
    undecided = door.undecided()
    undecided.then(lambda: pytest.fail("it has left"))
    undecided.cancel()
    undecided.cancel()
    assert promise.cancelled == 1
    promise.keep(ANN)
    assert (door.tracker.open, door.stats.accepted, door.counted()) == (0, 0, {})


def test_undecided_whose_application_raises_is_refused_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door, promise = late()
    undecided = door.undecided()
    ready(undecided, promise, RuntimeError("swordfish"))
    answer = undecided.decide(NOW)
    assert isinstance(answer, bytes)
    assert b"internal_error" in answer
    assert b"swordfish" not in answer
    assert "swordfish" in caplog.text
    assert (door.tracker.open, door.counted()) == (0, {"internal_error": 1})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda door: door.fill(2, "192.0.2.9"), "server_limit"),
        (lambda door: setattr(door.admission, "draining", True), "draining"),
    ],
)
def test_undecided_on_a_server_that_changed_is_refused(change: Any, reason: str) -> None:
    door, promise = late(limits={"connections": 2})
    undecided = door.undecided()
    change(door)
    ready(undecided, promise, ANN)
    refused = door.go_on(undecided)
    assert isinstance(refused, Refused)
    assert refused.headers["X-Rejection-Reason"] == reason
    assert door.counted() == {reason: 1}


@pytest.mark.parametrize("protocols", [None, JSON_V1])
def test_undecided_on_a_server_that_became_full_waits(protocols: str | None) -> None:
    door, promise = late(limits={"connections": 1}, waiting_room={"enabled": True})
    undecided = door.undecided(protocols=protocols)
    door.fill(1, "192.0.2.9")
    ready(undecided, promise, ANN)
    answer = door.go_on(undecided)
    if protocols is None:
        assert isinstance(answer, Refused)
        assert answer.headers["X-Queue-Position"] == "1"
    else:
        assert isinstance(answer, Grant)
        assert answer.admission is Admission.WAITING
        assert answer.lease.user == "ann"
        assert answer.held.attempt.identity == ANN


def test_undecided_may_be_undecided_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that asks an application first, and then a fleet."""
    door, promise = late()

    class Fleet:
        def __init__(self, first: Pending) -> None:
            self.first = first
            self.cancelled = False

        def then(self, ready: Any, /) -> None:
            ready()

        def decide(self, now: float, wall: float, /) -> Decision | Pending:
            return self.first

        def cancel(self) -> None:
            self.cancelled = True

    plain = door.gate.decide
    fleets: list[Fleet] = []

    def decide(*args: Any) -> Decision | Pending:
        fleets.append(Fleet(cast(Pending, plain(*args))))
        return fleets[-1]

    monkeypatch.setattr(door.gate, "decide", decide)
    first = door.undecided(protocols=JSON_V1)
    second = door.go_on(first)
    assert not isinstance(second, Grant | Refused)
    ready(second, promise, ANN)
    grant = door.go_on(second)
    assert isinstance(grant, Grant)
    assert grant.response == accept_response(KEY, JSON_V1)
    assert not fleets[0].cancelled
    door.undecided().cancel()
    assert fleets[1].cancelled


def test_a_door_refuses_a_subprotocol_that_no_response_can_hold() -> None:
    with pytest.raises(UsageError, match="token"):
        Door(subprotocols=("chat v2",))


def test_an_error_while_rendering_comes_before_the_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that no lease is taken, and no application asked, for an answer that cannot be given."""
    door, promise = late(deflate={"enabled": True})

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("swordfish")

    monkeypatch.setattr("tidegate.node.door.negotiate", fail)
    with pytest.raises(RuntimeError, match="swordfish"):
        door.knock(DEFLATE, protocols=JSON_V1)
    assert promise.asked == []
    assert (door.tracker.open, door.stats.accepted, door.counted()) == (0, 0, {})
