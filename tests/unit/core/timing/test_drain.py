from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.timing.drain import DrainSchedule

CASES = pytest.mark.parametrize(
    ("total", "window"),
    [(1, 30.0), (2, 30.0), (7, 0.4), (10, 30.0), (45, 30.0), (300, 5.0), (10_000, 30.0), (3, 600)],
)


def ask(schedule: DrainSchedule, until: float, every: float = 0.05) -> list[tuple[float, int, int]]:
    """Time, told and due of each question, from a start at 1000."""
    count = int((until - 1000.0) / every + 1e-9)
    times = [1000.0 + every * tick for tick in range(count + 1)]
    return [(now, schedule.told(now), schedule.due(now)) for now in times]


def fastest_second(answers: list[tuple[float, int]]) -> int:
    """The most that became due within any second, its end not included."""
    times = [now for now, _ in answers]
    closed = [0] + [due for _, due in answers]
    return max(due - closed[bisect_right(times, now - 1.0)] for now, due in answers)


@CASES
def test_all_are_told_and_then_closed_before_the_deadline(total: int, window: float) -> None:
    schedule = DrainSchedule(total, window, 1000.0)
    assert schedule.deadline == 1000.0 + window
    answers = ask(schedule, schedule.deadline - 0.02 * window, min(0.05, window / 100))
    assert answers[-1][1:] == (total, total)
    for _, told, due in answers:
        assert due == 0 or told == total
    for column in (1, 2):
        values = [answer[column] for answer in answers]
        assert values == sorted(values)
        assert values[-1] == total


@CASES
def test_closes_are_even_and_at_their_slots(total: int, window: float) -> None:
    schedule = DrainSchedule(total, window, 1000.0)
    slots = [schedule.slot(index) for index in range(total)]
    assert 0 < slots[0] <= 0.05 * window
    assert slots[-1] < 0.97 * window
    gaps = [later - earlier for earlier, later in pairwise(slots)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-6) for gap in gaps)
    assert all(gap >= window / total / 1.2 for gap in gaps)
    tick = min(0.05, window / 200)
    answers = ask(schedule, schedule.deadline, tick)
    closed = [0] + [due for _, _, due in answers]
    for (now, _, due), before in zip(answers, closed, strict=False):
        for slot in slots[before:due]:
            # Integers: the bound of a second may hold one back until that second is over.
            assert -1e-6 <= now - 1000.0 - slot <= (2 * tick if total / window > 20 else 1.0)
    assert fastest_second([(now, due) for now, _, due in answers]) <= math.ceil(
        1.15 * total / window
    )


def test_notices_are_no_burst() -> None:
    schedule = DrainSchedule(10_000, 30.0, 1000.0)
    told = [told for _, told, _ in ask(schedule, 1001.0, 0.05)]
    assert max(later - earlier for earlier, later in pairwise(told)) <= 501
    assert told[-1] == 10_000


@pytest.mark.parametrize("total", [0, 1, 500])
def test_a_window_of_0_closes_all_at_once(total: int) -> None:
    schedule = DrainSchedule(total, 0.0, 50.0)
    assert schedule.told(50.0) == total
    assert schedule.due(50.0) == total
    assert schedule.deadline == 50.0
    assert all(schedule.slot(index) == 0.0 for index in range(total))


def test_a_window_that_is_hardly_one_closes_all_at_once() -> None:
    schedule = DrainSchedule(91, 5e-324, 10.0)
    assert schedule.due(10.001) == 91


def test_nobody_is_soon_done() -> None:
    schedule = DrainSchedule(0, 30.0, 0.0)
    assert (schedule.told(0.0), schedule.due(0.0), schedule.due(99.0)) == (0, 0, 0)


@pytest.mark.parametrize("stall", [0.3, 1.0, 2.5])
def test_a_stall_is_caught_up_with_without_a_burst(stall: float) -> None:
    schedule = DrainSchedule(3000, 30.0, 1000.0)
    times = [1000.0 + 0.05 * tick for tick in range(601)]
    answers = [(now, schedule.due(now)) for now in times if not 5.0 < now - 1000.0 < 5.0 + stall]
    assert fastest_second(answers) <= 115
    assert answers[-1][1] == 3000


@given(
    total=st.integers(0, 400),
    window=st.floats(0.1, 40.0),
    waits=st.lists(st.floats(0.0, 3.0) | st.floats(0.0, 0.1), max_size=60),
)
@settings(max_examples=80)
def test_whenever_it_is_asked_no_second_has_more_than_its_share(
    total: int, window: float, waits: list[float]
) -> None:
    schedule = DrainSchedule(total, window, 1000.0)
    now = 1000.0
    answers = [(now, schedule.due(now))]
    for wait in waits:
        now += wait
        told, due = schedule.told(now), schedule.due(now)
        assert answers[-1][1] <= due <= told <= total
        if due:
            assert now - 1000.0 >= schedule.slot(due - 1) - 1e-6
        answers.append((now, due))
    assert fastest_second(answers) <= math.ceil(1.15 * total / window)
    # Asked often enough from then on, it ends.
    for _ in range(200):
        now += 1.0
        due = schedule.due(now)
    assert due == total
