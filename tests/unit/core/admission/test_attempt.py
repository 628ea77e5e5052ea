from __future__ import annotations

import dataclasses
import sys

import pytest

from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject, Step
from tidegate.core.codes import IP_LIMIT


def test_nobody_in_particular_is_the_default() -> None:
    assert Attempt("192.0.2.1", "/ws").identity is ANONYMOUS
    assert Identity(user=None, tier=None, priority=0, expires_at=None) == ANONYMOUS


def test_an_identity_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ANONYMOUS.user = "root"  # type: ignore[misc]


def test_a_reject_is_of_no_limit_by_default() -> None:
    assert Reject(IP_LIMIT, 10) == (IP_LIMIT, 10, None)


def test_a_lease_of_a_client_that_waits_holds_nothing() -> None:
    lease = Lease.unheld("192.0.2.1", "ann", "gold", 7)
    assert (lease.address, lease.user, lease.tier, lease.priority) == (
        "192.0.2.1",
        "ann",
        "gold",
        7,
    )
    assert not lease.held


def test_a_lease_is_small() -> None:
    lease = Lease("192.0.2.1", None, None)
    assert not hasattr(lease, "__dict__")
    assert sys.getsizeof(lease) <= 88
    assert repr(lease) == "<Lease held address='192.0.2.1' user=None tier=None>"


def test_a_step_cannot_be_changed() -> None:
    step = Step("per_ip", False, "100 of 100 from this address", {"open": 100})
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.passed = True  # type: ignore[misc]
