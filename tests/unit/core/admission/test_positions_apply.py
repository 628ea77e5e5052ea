"""Size and longest wait change while some clients wait."""

from __future__ import annotations

import pytest

from tests.unit.core.admission.test_positions import MAX_WAIT, T0, room_of
from tidegate.core.admission.positions import Positions


def test_a_smaller_size_keeps_those_that_wait_and_takes_no_more() -> None:
    room = room_of("a", "b", "c")
    room.apply(2, MAX_WAIT)
    assert [room.position(key) for key in "abc"] == [1, 2, 3]
    assert room.enter("d", 9, T0) is None
    assert room.enter("b", 0, T0) == 2
    assert room.promote(T0) == "a"
    assert room.enter("d", 0, T0) is None
    assert room.promote(T0) == "b"
    assert room.enter("d", 0, T0) == 2


def test_a_larger_size_takes_more_at_once() -> None:
    room = room_of("a", size=1)
    assert room.enter("b", 0, T0) is None
    room.apply(2, MAX_WAIT)
    assert room.enter("b", 0, T0) == 2
    assert room.explain(0, T0).detail == "all 2 positions in the waiting room are taken"


@pytest.mark.parametrize(
    ("max_wait", "until", "ends"),
    [
        (60.0, None, 60.0),
        (10.0, None, 10.0),
        # When one that is away has to be back is not changed.
        (60.0, 40.0, 40.0),
        (60.0, 20.0, 20.0),
        (10.0, 20.0, 10.0),
    ],
)
def test_another_longest_wait_counts_from_the_arrival(
    max_wait: float, until: float | None, ends: float
) -> None:
    room = Positions[str](10, MAX_WAIT)
    room.enter("a", 0, T0, until=None if until is None else T0 + until)
    room.apply(10, max_wait)
    assert list(room.expired(T0 + ends - 0.001)) == []
    assert list(room.expired(T0 + ends)) == ["a"]
    assert len(room) == 0


def test_those_that_have_waited_too_long_end_in_the_order_of_their_ends() -> None:
    room = Positions[str](10, MAX_WAIT)
    for key, since, until in (("a", 5, None), ("b", 0, None), ("c", 2, 9.0), ("d", 6, 8.0)):
        room.enter(key, 0, T0 + since, until=None if until is None else T0 + until)
    room.apply(10, 4.0)
    assert list(room.expired(T0 + 7)) == ["b", "c"]
    assert list(room.expired(T0 + 9.5)) == ["d", "a"]


@pytest.mark.parametrize("first", ["arrived", "until"])
def test_those_that_end_at_the_same_time_go_in_the_order_in_which_they_came(
    first: str,
) -> None:
    room = Positions[str](10, MAX_WAIT)
    order = [first, "until" if first == "arrived" else "arrived"]
    for key in order:
        if key == "arrived":
            room.enter(key, 0, T0, arrived=T0 - 20)
        else:
            room.enter(key, 0, T0, until=T0 + 10)
    assert list(room.expired(T0 + 10)) == order
