"""The weight of a process among others."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.balancing.weight import Load, Weight, wanted

IDLE = Load("normal", 0.0)


@pytest.mark.parametrize(
    ("loads", "weight"),
    [
        ([IDLE], 100.0),
        ([Load("normal", 0.5)], 50.0),
        # The hold of a zone goes on after the pressure has fallen.
        ([Load("warning", 0.1)], 50.0),
        ([Load("warning", 0.8)], 20.0),
        ([Load("critical", 0.2)], 10.0),
        ([Load("critical", 0.94)], 6.0),
        ([Load("emergency", 0.0)], 0.0),
        ([Load("normal", 1.0)], 0.0),
        ([None], 0.0),
        ([], 0.0),
        # Of workers it is the mean, and one that takes nobody is one of them.
        ([IDLE, Load("normal", 0.5)], 75.0),
        ([IDLE, None], 50.0),
        ([IDLE, IDLE, IDLE, Load("emergency", 1.0)], 75.0),
    ],
)
def test_wanted_follows_pressure_and_zone(loads: list[Load | None], weight: float) -> None:
    assert wanted(loads) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        # (seconds, wanted) and what is shown. The first is believed.
        ([(0, 100)], [100]),
        ([(0, 43)], [40]),
        ([(0, 3)], [10]),
        ([(0, 0)], [0]),
        # It falls at once, as far as it must.
        ([(0, 100), (0.1, 40), (0.2, 0)], [100, 40, 0]),
        # It rises by a step a second, however often it is asked.
        ([(0, 50), (0.5, 100), (1, 100), (1.5, 100), (2, 100)], [50, 50, 60, 60, 70]),
        ([(0, 0), (0.9, 100), (1, 100), (2, 100)], [0, 0, 10, 20]),
        # Small changes are none.
        ([(0, 50), (5, 57), (6, 43), (7, 57), (8, 50)], [50, 50, 50, 50, 50]),
        ([(0, 50), (5, 58), (6, 55), (7, 62), (8, 52)], [50, 60, 60, 60, 50]),
        # Who can take a few gets a few.
        ([(0, 50), (1, 2), (2, 1), (3, 9)], [50, 10, 10, 10]),
        ([(0, 90), (1, 97), (2, 100)], [90, 90, 100]),
    ],
)
def test_weight_follows_without_swinging(
    asked: list[tuple[float, float]], shown: list[int]
) -> None:
    weight = Weight()
    assert [weight.follow(value, now) for now, value in asked] == shown


@given(
    st.floats(10, 90),
    st.lists(st.floats(-2.4, 2.4), min_size=1, max_size=50),
)
def test_a_weight_that_trembles_changes_once_at_most(middle: float, around: list[float]) -> None:
    weight = Weight()
    shown = [weight.follow(middle + by, float(now)) for now, by in enumerate(around)]
    assert sum(one != other for one, other in pairwise(shown)) <= 1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), min_size=1, max_size=50))
def test_a_weight_is_0_exactly_when_nothing_is_wanted_and_a_step_away_at_most(
    asked: list[tuple[float, float]],
) -> None:
    weight, now = Weight(), 0.0
    before = 100
    for value, pause in asked:
        now += pause
        shown = weight.follow(value, now)
        assert shown in range(0, 101, 10)
        assert shown <= value + 10
        assert shown == 0 or value > 0
        assert shown - before <= 10 or before == 100
        before = shown
