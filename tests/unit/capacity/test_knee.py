"""Where a load becomes too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.capacity.knee import Knee, Step, search


class Server:
    """Is good up to a load, and reaches what is asked for, up to another one."""

    def __init__(
        self, knee: float, reaches: float = 1e9, odd: frozenset[int] = frozenset()
    ) -> None:
        self.knee = knee
        self.reaches = reaches
        self.odd = odd
        self.asked: list[float] = []

    def measure(self, load: float) -> Step:
        self.asked.append(load)
        reached = min(load, self.reaches)
        bad = reached > self.knee or len(self.asked) in self.odd
        return Step(load, reached, driver="latency" if bad else "")


@pytest.mark.parametrize("knee", [150, 1_000, 7_777, 123_456])
def test_search_finds_the_knee_within_a_tenth(knee: float) -> None:
    server = Server(knee)
    found = search(server.measure, 100, 1e6)
    assert knee / 1.11 <= found.load <= knee
    assert found.driver == "latency"


def test_search_without_a_bad_step_ends_at_the_most() -> None:
    server = Server(1e9)
    found = search(server.measure, 100, 1000)
    assert (found.load, found.driver) == (1000, "")
    assert server.asked == [100, 200, 400, 800, 1000]


def test_search_whose_first_step_is_bad_tries_lower_ones() -> None:
    found = search(Server(40).measure, 100, 1000)
    assert 36 <= found.load <= 40


def test_search_of_what_holds_nothing_finds_nothing() -> None:
    found = search(Server(0).measure, 100, 1000)
    assert (found.load, found.driver) == (0, "latency")


@pytest.mark.parametrize(("odd", "asked"), [({2}, 2), ({2, 3}, 3)])
def test_a_bad_step_is_tried_again(odd: set[int], asked: int) -> None:
    server = Server(1e9, odd=frozenset(odd))
    found = search(server.measure, 100, 400)
    assert (found.load, found.driver) == (400, "")
    assert server.asked == [100, *[200] * asked, 400]


def test_a_step_that_is_bad_three_times_is_bad() -> None:
    server = Server(1e9, odd=frozenset({2, 3, 4}))
    found = search(server.measure, 100, 400)
    assert found.driver == "latency"
    assert found.load < 200


def test_what_is_reached_counts_and_not_what_is_asked_for() -> None:
    found = search(Server(1e9, reaches=300).measure, 100, 1000)
    assert found.load == 300


def test_a_final_step_ends_the_search() -> None:
    def measure(load: float) -> Step:
        return Step(load, load, final=load >= 200)

    assert search(measure, 100, 1e6).load == 200


def test_search_ends_when_its_time_is_over() -> None:
    server = Server(1e9)
    found = search(server.measure, 100, 1e9, late=lambda: len(server.asked) >= 3)
    assert found.load == 400


@given(knee=st.floats(0, 1e6), start=st.floats(1, 1e4), most=st.floats(1, 1e6))
def test_the_knee_is_never_above_what_was_good(knee: float, start: float, most: float) -> None:
    server = Server(knee)
    found = search(server.measure, start, most)
    assert isinstance(found, Knee)
    assert found.load <= max(knee, 0)
    assert found.load == max((step.reached for step in found.steps if step.good), default=0)
    assert len(found.steps) < 100
