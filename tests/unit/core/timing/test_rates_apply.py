"""Rates that change while connections send."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.unit.core.timing.test_rates_meter import NOW, rates, sent_at_once
from tidegate.core.settings import MessagesSettings
from tidegate.core.timing.rates import ABUSE_SECONDS, Abuse, Meter, Rates


def apply(shared: Rates, join_burst: int = 100, **values: Any) -> None:
    shared.apply(MessagesSettings(**values), join_burst)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"per_second": 10, "burst": 5}),
        ({"per_second": 10, "burst": 5}, {}),
        ({"per_second": 0}, {"per_second": 7}),
        ({"per_second": 7}, {"per_second": 0}),
        ({}, {"per_second": 0, "bytes_per_second": 50, "bytes_burst": 100, "max_size": 60}),
        ({"bytes_per_second": 50}, {"joins_per_second": 3, "control_per_second": 2}),
        ({}, {"abuse_after": 3}),
    ],
)
def test_apply_is_as_made_with_those_settings(before: Any, after: Any) -> None:
    shared = rates(5, **before)
    apply(shared, 9, **after)
    made = rates(9, **after)
    assert {name: getattr(shared, name) for name in Rates.__slots__} == {
        name: getattr(made, name) for name in Rates.__slots__
    }


@pytest.mark.parametrize(
    ("values", "at_once", "wait"),
    [
        ({"per_second": 1000, "burst": 2000}, 10, 1 / 5),
        ({"per_second": 4, "burst": 6}, 6, 1 / 4),
        ({"per_second": 0, "burst": 6}, 6, 1 / 5),
    ],
)
def test_apply_keeps_the_limit_of_a_zone(values: dict[str, Any], at_once: int, wait: float) -> None:
    shared = rates()
    shared.limit(5)
    apply(shared, **values)
    own = Meter(shared)
    assert sent_at_once(own, 1, NOW) == at_once
    assert own.ready_at - NOW == pytest.approx(wait, abs=1e-6)
    shared.limit(math.inf)
    fresh = Meter(shared)
    assert sent_at_once(fresh, 1, NOW, most=100) == (
        min(100, values["burst"]) if values["per_second"] else 100
    )


def test_apply_keeps_what_a_meter_has_counted() -> None:
    shared = rates(per_second=10, burst=5)
    own = Meter(shared)
    assert sent_at_once(own, 1, NOW) == 5
    apply(shared, per_second=10, burst=8)
    own.charge(1, NOW)  # it says when the next one may come, by the new burst
    assert sent_at_once(own, 1, NOW) == 2
    apply(shared, per_second=10, burst=2)
    own.charge(1, NOW)
    assert own.ready_at - NOW == pytest.approx(0.8, abs=1e-6)


def test_apply_counts_for_joins_and_control_frames_of_all_meters() -> None:
    shared = rates(2, joins_per_second=1, control_per_second=2)
    own = Meter(shared)
    assert [own.take_join(NOW) > 0 for _ in range(3)] == [False, False, True]
    assert [own.take_control(NOW) for _ in range(3)] == [True, True, False]
    apply(shared, 3, joins_per_second=1, control_per_second=4)
    assert [own.take_join(NOW) > 0 for _ in range(2)] == [False, True]
    # The two are made up for in a second, as before; four a second are allowed from then on.
    assert [own.take_control(NOW + 0.25) for _ in range(2)] == [True, False]
    assert own.take_control(NOW + 0.5)


@pytest.mark.parametrize(("limit", "over"), [(1, True), (3, True), (4, False), (9, False)])
def test_apply_keeps_the_refusals_that_were_counted(limit: int, over: bool) -> None:
    shared = rates(abuse_after=5)
    own = Meter(shared)
    assert not own.refused(NOW)
    assert not own.refused(NOW + 1)
    apply(shared, abuse_after=limit)
    assert own.refused(NOW + ABUSE_SECONDS) is over


def test_an_abuse_limit_that_falls_keeps_the_latest_times() -> None:
    abuse = Abuse(5, 10.0)
    for now in (0.0, 1.0, 20.0, 21.0):
        assert not abuse.happened(now)
    abuse.apply(3)
    assert abuse.happened(22.0)
    abuse.apply(3)
    assert abuse.happened(23.0)
    abuse.apply(5)
    assert not abuse.happened(24.0)
    assert abuse.happened(25.0)
