from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.admission import Admission
from tidegate.core.attempt import ANONYMOUS, Attempt, Identity, Lease, Rejection
from tidegate.core.codes import DRAINING, IP_LIMIT, SERVER_LIMIT, UNAUTHORIZED, USER_LIMIT, Reason
from tidegate.core.settings import Settings
from tidegate.core.tracker import ConnectionTracker

ANN = Identity("ann")
SECRET = "a" * 32
CLOSED = {"anonymous": False, "secret": SECRET}


def make(
    limits: dict[str, Any] | None = None, auth: dict[str, Any] | None = None
) -> tuple[Admission, ConnectionTracker]:
    settings = Settings.from_mapping({"limits": limits or {}, "auth": auth or {}})
    tracker = ConnectionTracker(settings.limits, settings.tiers)
    return Admission(settings, tracker), tracker


@pytest.mark.parametrize(
    ("limits", "auth", "draining", "identity", "native", "reason"),
    [
        ({}, {}, False, ANONYMOUS, False, None),
        ({}, {}, False, ANN, False, None),
        ({}, {}, True, ANN, True, DRAINING),
        ({}, CLOSED, False, ANN, False, None),
        ({}, CLOSED, False, ANONYMOUS, False, UNAUTHORIZED),
        # Only a native client has a first message to say who it is.
        ({}, CLOSED, False, ANONYMOUS, True, None),
        ({}, {**CLOSED, "first_message": False}, False, ANONYMOUS, True, UNAUTHORIZED),
        ({"connections": 0}, {}, False, ANN, False, SERVER_LIMIT),
        ({"per_ip": 0}, {}, False, ANN, False, IP_LIMIT),
        ({"per_user": 0}, {}, False, ANN, False, USER_LIMIT),
        # The order of the steps.
        ({"connections": 0}, CLOSED, True, ANONYMOUS, False, DRAINING),
        ({"connections": 0}, CLOSED, False, ANONYMOUS, False, UNAUTHORIZED),
    ],
)
def test_admit(
    limits: dict[str, Any],
    auth: dict[str, Any],
    draining: bool,
    identity: Identity,
    native: bool,
    reason: Reason | None,
) -> None:
    admission, tracker = make(limits, auth)
    admission.draining = draining
    verdict = admission.admit(Attempt("192.0.2.1", "/ws", identity, native), now=0.0)
    if reason is None:
        assert isinstance(verdict, Lease)
        assert (verdict.address, verdict.user) == ("192.0.2.1", identity.user)
        assert tracker.open == 1
    else:
        assert isinstance(verdict, Rejection)
        assert (verdict.reason, verdict.retry_after) == (reason, reason.retry_after)
        assert tracker.open == 0


def test_precheck_takes_nothing() -> None:
    admission, tracker = make({"per_ip": 1})
    assert admission.precheck("192.0.2.1", now=0.0) is None
    assert tracker.open == 0
    admission.admit(Attempt("192.0.2.1", "/ws"), now=0.0)
    rejection = admission.precheck("192.0.2.1", now=0.0)
    assert rejection == Rejection(IP_LIMIT, IP_LIMIT.retry_after, 1)
    assert admission.precheck("192.0.2.2", now=0.0) is None


def test_draining_ends_both_steps_and_can_be_undone() -> None:
    admission, _ = make({"per_ip": 0})
    admission.draining = True
    assert admission.precheck("192.0.2.1", now=0.0) == Rejection(DRAINING, DRAINING.retry_after)
    admission.draining = False
    rejection = admission.precheck("192.0.2.1", now=0.0)
    assert rejection is not None
    assert rejection.reason is IP_LIMIT
