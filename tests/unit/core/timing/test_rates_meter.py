"""What one connection may send, on a virtual clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.settings import MessagesSettings
from tidegate.core.timing.rates import ABUSE_SECONDS, Meter, Rates

NOW = 12_345.678


def rates(join_burst: int = 100, **values: Any) -> Rates:
    return Rates(MessagesSettings(**values), join_burst)


def meter(**values: Any) -> Meter:
    return Meter(rates(**values))


def sent_at_once(meter: Meter, size: int, now: float, most: int = 1000) -> int:
    """Send until the meter asks to wait; how many messages that were."""
    for count in range(most):
        if now < meter.ready_at:
            return count
        meter.charge(size, now)
    return most


@pytest.mark.parametrize(
    ("values", "size", "at_once", "wait"),
    [
        ({}, 10, 200, 0.01),  # the defaults
        ({"per_second": 10, "burst": 5}, 10, 5, 0.1),
        ({"per_second": 10, "burst": 1}, 10, 1, 0.1),
        ({"per_second": 0.5, "burst": 2}, 10, 2, 2.0),
        ({"per_second": 0, "bytes_per_second": 0}, 1 << 20, 1000, 0.0),
        (
            {"per_second": 0, "max_size": 100, "bytes_per_second": 100, "bytes_burst": 400},
            100,
            4,
            0.01,
        ),
        # One of max_size may always come, and what is over is made up for.
        (
            {"per_second": 0, "max_size": 300, "bytes_per_second": 100, "bytes_burst": 1},
            300,
            1,
            0.01,
        ),
        (
            {"per_second": 0, "max_size": 300, "bytes_per_second": 100, "bytes_burst": 1},
            200,
            2,
            1.01,
        ),
        # Whichever is used up first.
        ({"per_second": 1, "burst": 3, "bytes_per_second": 1 << 20}, 10, 3, 1.0),
        (
            {"per_second": 1, "burst": 9, "max_size": 1, "bytes_per_second": 1, "bytes_burst": 4},
            2,
            2,
            1.0,
        ),
    ],
)
def test_what_may_come_at_once(
    values: dict[str, float], size: int, at_once: int, wait: float
) -> None:
    own = meter(**values)
    assert sent_at_once(own, size, NOW) == at_once
    assert own.ready_at - NOW == pytest.approx(wait, abs=1e-6)


def test_it_fills_up_again_and_no_further() -> None:
    own = meter(per_second=10, burst=5)
    assert sent_at_once(own, 1, NOW) == 5
    assert sent_at_once(own, 1, NOW + 0.2) == 2
    assert sent_at_once(own, 1, NOW + 0.3) == 1
    assert sent_at_once(own, 1, NOW + 1000) == 5


def test_meters_are_apart() -> None:
    shared = rates(per_second=1, burst=2)
    one, other = Meter(shared), Meter(shared)
    assert sent_at_once(one, 1, NOW) == 2
    assert sent_at_once(other, 1, NOW) == 2


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 1), min_size=1, max_size=150),
)
@settings(max_examples=80)
def test_never_more_than_the_rate_and_the_burst(rate: float, burst: int, gaps: list[float]) -> None:
    own = meter(per_second=rate, burst=burst, bytes_per_second=0)
    now = NOW
    taken: list[float] = []
    for gap in gaps:
        now += gap
        if now >= own.ready_at:
            own.charge(1, now)
            taken.append(now)
    for first, start in enumerate(taken):
        for count, end in enumerate(taken[first:], 1):
            assert count <= rate * (end - start) + burst + 1e-3


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
@settings(max_examples=80)
def test_who_waits_as_told_gets_the_whole_rate_of_bytes(sizes: list[int]) -> None:
    own = meter(per_second=0, max_size=1000, bytes_per_second=100, bytes_burst=1)
    now = NOW
    for size in sizes:
        now = max(now, own.ready_at)
        own.charge(size, now)
    before = sum(sizes[:-1])
    if now == NOW:
        assert before < 1000 + 1e-3
    else:
        assert before == pytest.approx(100 * (now - NOW) + 999, abs=1e-2)


# The zones.


@pytest.mark.parametrize(
    ("values", "most", "at_once", "wait"),
    [
        ({}, 50, 100, 1 / 50),
        ({}, 5, 10, 1 / 5),
        ({}, 0.1, 1, 10),
        ({}, 1000, 200, 1 / 100),
        ({}, math.inf, 200, 1 / 100),
        ({"per_second": 3, "burst": 7}, 5, 7, 1 / 3),
        ({"per_second": 0, "burst": 7}, 5, 7, 1 / 5),
    ],
)
def test_a_lower_rate_for_all(
    values: dict[str, Any], most: float, at_once: int, wait: float
) -> None:
    shared = rates(**values)
    shared.limit(most)
    own = Meter(shared)
    assert sent_at_once(own, 1, NOW) == at_once
    assert own.ready_at - NOW == pytest.approx(wait, abs=1e-6)


def test_the_rate_may_change_at_any_time() -> None:
    shared = rates()
    own = Meter(shared)
    assert sent_at_once(own, 1, NOW) == 200
    shared.limit(5)
    assert sent_at_once(own, 1, NOW + 2) == 10
    shared.limit(math.inf)
    assert sent_at_once(own, 1, NOW + 4) == 200


# Joins, control frames and refusals.


def test_joins_come_back_at_their_rate() -> None:
    own = Meter(rates(3, joins_per_second=2))
    assert [own.take_join(NOW) for _ in range(3)] == [0.0] * 3
    assert own.take_join(NOW) == pytest.approx(0.5)
    assert own.take_join(NOW + 0.5) == 0.0
    assert own.take_join(NOW + 0.5) > 0


@pytest.mark.parametrize(("rooms", "at_once"), [(0, 1), (1, 1), (40, 40)])
def test_as_many_joins_at_once_as_rooms(rooms: int, at_once: int) -> None:
    own = Meter(rates(rooms, joins_per_second=20))
    assert [own.take_join(NOW) == 0.0 for _ in range(at_once + 1)] == [True] * at_once + [False]


@pytest.mark.parametrize(("rate", "at_once"), [(20, 20), (0.1, 1), (1.5, 1)])
def test_control_frames(rate: float, at_once: int) -> None:
    own = meter(control_per_second=rate)
    assert [own.take_control(NOW) for _ in range(at_once + 1)] == [True] * at_once + [False]
    assert own.take_control(NOW + 1 / rate)


def test_a_rate_of_zero_is_no_limit() -> None:
    own = meter(joins_per_second=0, control_per_second=0)
    assert not any(own.take_join(NOW) for _ in range(1000))
    assert all(own.take_control(NOW) for _ in range(1000))


def test_repeated_refusals_are_abuse() -> None:
    own = meter(abuse_after=3)
    assert [own.refused(NOW + at) for at in (0, 1, ABUSE_SECONDS + 0.5)] == [False, False, False]
    assert own.refused(NOW + ABUSE_SECONDS + 0.75)


@pytest.mark.parametrize(
    ("use", "full_after"),
    [
        (lambda own: own.charge(10, NOW), 0.5),
        (lambda own: own.charge(300, NOW), 3.0),  # its bytes take longer
        (lambda own: own.take_join(NOW), 0.25),
        (lambda own: own.take_control(NOW), 0.2),
        (lambda own: own.refused(NOW), ABUSE_SECONDS),
    ],
)
def test_a_meter_is_of_no_use_once_everything_is_full(
    use: Callable[[Meter], object], full_after: float
) -> None:
    own = meter(per_second=2, bytes_per_second=100, joins_per_second=4, control_per_second=5)
    assert own.is_full(NOW)
    use(own)
    assert not own.is_full(NOW + full_after - 1e-3)
    assert own.is_full(NOW + full_after + 1e-3)
