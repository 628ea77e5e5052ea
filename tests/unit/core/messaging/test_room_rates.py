"""How fast clients may publish in a room, on a virtual clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.messaging.room_rates import RoomRates
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings.rooms import RoomRule


def make(rate: float, burst: int) -> tuple[Rules, RoomRates]:
    rules = Rules([RoomRule("chat:*", publish_per_second=rate, publish_burst=burst)])
    return rules, RoomRates(rules)


@pytest.mark.parametrize(
    ("rate", "burst", "times", "delays"),
    [
        # The burst at once, then one for each tenth of a second.
        (10, 3, [0, 0, 0, 0, 0.05, 0.1, 0.1], [0, 0, 0, 0.1, 0.05, 0, 0.1]),
        # One a second, and none is saved up.
        (1, 1, [0, 0.5, 1, 9, 9], [0, 0.5, 0, 0, 1]),
        # What was saved up is no more than the burst.
        (2, 2, [0, 100, 100, 100], [0, 0, 0, 0.5]),
        # Less than one a second.
        (0.1, 1, [0, 4, 10], [0, 6, 0]),
        # Zero is no limit.
        (0, 1, [0] * 5, [0] * 5),
    ],
)
def test_messages_come_at_the_rate_of_their_room(
    rate: float, burst: int, times: list[float], delays: list[float]
) -> None:
    _, rates = make(rate, burst)
    found = [rates.take("chat:1", 1000 + time) for time in times]
    assert found == pytest.approx(delays, abs=1e-6)
    assert rates.refused == sum(delay > 0 for delay in delays)


def test_rooms_have_rates_of_their_own_and_others_have_none() -> None:
    _, rates = make(1, 1)
    assert [rates.take(room, 0) for room in ("chat:1", "chat:2", "hall", "hall")] == [0] * 4
    assert rates.take("chat:1", 0)
    assert len(rates) == 2


def test_without_a_rule_nothing_is_counted() -> None:
    rates = RoomRates(Rules())
    assert not any(rates.take("hall", 0) for _ in range(100))
    assert len(rates) == 0


def test_another_rate_holds_at_once() -> None:
    rules, rates = make(1, 1)
    assert rates.take("chat:1", 0) == 0
    rules.apply([RoomRule("chat:*", publish_per_second=10, publish_burst=20)])
    assert rates.take("chat:1", 0) == 0
    rules.apply([])
    assert rates.take("chat:1", 0) == 0


def test_rooms_that_say_nothing_any_more_are_forgotten() -> None:
    _, rates = make(1, 5)
    for number in range(1000):
        rates.take(f"chat:{number}", number * 0.1)
        assert len(rates) <= 12
    rates.take("chat:last", 1e6)
    rates.take("chat:last", 1e6)
    assert len(rates) < 12


def test_asking_for_the_delay_counts_nothing() -> None:
    _, rates = make(2, 1)
    assert [rates.delay("chat:1", 5), rates.delay("chat:1", 5)] == [0, 0]
    rates.take("chat:1", 5)
    assert rates.delay("chat:1", 5.1) == pytest.approx(0.4, abs=1e-6)
    assert rates.delay("hall", 5.1) == 0
    assert rates.refused == 0


@given(
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 10),
    gaps=st.lists(st.floats(0, 3), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate_are_taken(
    rate: float, burst: int, gaps: list[float]
) -> None:
    _, rates = make(rate, burst)
    now, taken = 0.0, []
    for gap in gaps:
        now += gap
        delay = rates.take("chat:1", now)
        if delay:
            assert rates.take("chat:1", now + delay * 0.99) or delay < 1e-4
        else:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            span = taken[last] - taken[first]
            assert last - first + 1 <= burst + rate * span + 1e-3
