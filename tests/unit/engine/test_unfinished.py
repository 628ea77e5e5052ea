"""Who may hold how many descriptors, and how many unfinished attempts one address may have."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.settings import LimitsSettings
from tidegate.engine.descriptors import Shares
from tidegate.engine.unfinished import Unfinished


@pytest.mark.parametrize(
    ("limit", "connections", "attempts", "others"),
    [
        (64, 40, 16, 8),
        (400, 300, 50, 50),
        (1024, 832, 128, 64),
        (65_536, 57_280, 8192, 64),
        (1 << 20, (1 << 20) - 8256, 8192, 64),
        # With less than this nothing works; the sum is no more than there is otherwise.
        (24, 0, 16, 8),
        (10, 0, 16, 8),
    ],
)
def test_shares_of_a_limit(limit: int, connections: int, attempts: int, others: int) -> None:
    shares = Shares.of(limit)
    assert shares == (connections, attempts, others)
    assert shares.clients == connections + attempts
    assert shares.openings + shares.lingering == attempts
    assert shares.clients + others == max(limit, 24)


def test_shares_without_a_limit_bound_attempts_all_the_same() -> None:
    shares = Shares.of(None)
    assert (shares.attempts, shares.lingering) == (8192, 1024)
    assert shares.connections > 1 << 40


@pytest.mark.parametrize(
    ("most", "limits", "of_one"),
    [
        (3000, {}, 100),
        (3000, {"per_ip": 5000}, 1000),
        (3000, {"per_ip": 20}, 20),
        # An address that may not connect still has to be told so.
        (3000, {"per_ip": 0}, 4),
        (37, {}, 12),
        (6, {}, 4),
        (3000, {"per_ip": 20, "dry_run": ("per_ip",)}, 1000),
        (3000, {"per_ip": 20, "dry_run": ("all",)}, 1000),
    ],
)
def test_unfinished_of_one_address_is_a_part_of_all_and_its_limit(
    most: int, limits: dict[str, Any], of_one: int
) -> None:
    unfinished = Unfinished(most, LimitsSettings(**limits))
    assert unfinished.of_one == of_one
    keys = [unfinished.enter("192.0.2.1") for _ in range(of_one + 5)]
    assert keys == ["192.0.2.1"] * of_one + [None] * 5
    assert unfinished.enter("192.0.2.2") == "192.0.2.2"
    assert len(unfinished) == of_one + 1
    unfinished.leave("192.0.2.1")
    assert unfinished.enter("192.0.2.1") is not None


def test_unfinished_of_an_ipv6_network_are_those_of_one_address() -> None:
    unfinished = Unfinished(12, LimitsSettings())
    keys = [unfinished.enter(f"2001:db8::{number}") for number in range(5)]
    assert keys == ["2001:db8::/64"] * 4 + [None]
    assert unfinished.enter("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    unfinished.leave("2001:db8::/64")
    assert unfinished.enter("2001:db8::9") is not None


def test_unfinished_when_all_is_taken_are_one_of_an_address() -> None:
    unfinished = Unfinished(12, LimitsSettings())
    assert unfinished.enter("192.0.2.1", full=True)
    assert unfinished.enter("192.0.2.1", full=True) is None
    assert unfinished.enter("192.0.2.2", full=True)
    assert unfinished.enter(None, full=True) == ""
    assert not unfinished.several("192.0.2.1")
    assert unfinished.enter("192.0.2.1")
    assert unfinished.several("192.0.2.1")
    assert not unfinished.several("192.0.2.2")
    assert not unfinished.several("")


def test_unfinished_of_a_proxy_are_not_counted() -> None:
    unfinished = Unfinished(12, LimitsSettings())
    keys = [unfinished.enter(None) for _ in range(100)]
    assert keys == [""] * 100
    for key in keys:
        assert key is not None
        unfinished.leave(key)
    assert len(unfinished) == 0


def test_unfinished_that_are_there_stay_when_the_bound_is_lowered() -> None:
    unfinished = Unfinished(300, LimitsSettings())
    for _ in range(50):
        assert unfinished.enter("192.0.2.1")
    unfinished.apply(LimitsSettings(per_ip=10))
    assert len(unfinished) == 50
    for _ in range(41):
        assert unfinished.enter("192.0.2.1") is None
        unfinished.leave("192.0.2.1")
    assert unfinished.enter("192.0.2.1")
