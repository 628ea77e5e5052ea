"""Histories: offsets without holes, pages, ends, and bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.messaging.history import OVERHEAD, History, Position
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import RoomsSettings

MIB = 1 << 20


def make(rooms: int = 100, size: int = MIB) -> History:
    return History(RoomsSettings(history_bytes=size, history_rooms=rooms), "n")


def publish(
    history: History,
    room: str = "a",
    data: bytes = b"x",
    *,
    size: int = 5,
    ttl: float = 60.0,
    now: float = 0.0,
) -> Position:
    position = history.next(room)
    publication = Publication(room, data, epoch=position.epoch, offset=position.offset)
    history.add(publication, size, ttl, now)
    return position


def offsets(page: Any) -> list[int]:
    return [one.offset for one in page.publications]


def test_history_numbers_the_messages_of_each_room_from_one() -> None:
    history = make()
    assert history.position("a") == ("n-0", 0)
    assert [publish(history, room).offset for room in "aabab"] == [1, 2, 1, 3, 2]
    assert history.position("a") == ("n-0", 3)


@pytest.mark.parametrize(
    ("since", "limit", "expected", "recovered"),
    [
        (("n-0", 7), 9, [], True),  # the last one
        (("n-0", 4), 9, [5, 6, 7], True),
        (("n-0", 2), 9, [3, 4, 5, 6, 7], True),  # all that are kept
        (("n-0", 1), 9, [], False),  # 2 is gone
        (("n-0", 0), 9, [], False),
        (("n-0", 8), 9, [], False),  # of the future: another server's
        (("n-1", 4), 9, [], False),  # of another epoch
        (("n-0", 2), 2, [3, 4], True),  # the first ones
    ],
)
def test_since_gives_what_came_after_a_position_or_says_that_it_cannot(
    since: tuple[str, int], limit: int, expected: list[int], recovered: bool
) -> None:
    history = make()
    for _ in range(7):
        publish(history)
    page = history.since("a", Position(*since), limit, 0.0)
    assert offsets(page) == expected
    assert page.recovered is recovered
    assert page.position == ("n-0", 7)


@pytest.mark.parametrize(("limit", "expected"), [(0, []), (2, [6, 7]), (9, [3, 4, 5, 6, 7])])
def test_last_gives_the_newest(limit: int, expected: list[int]) -> None:
    history = make()
    for _ in range(7):
        publish(history)
    assert offsets(history.last("a", limit, 0.0)) == expected


def test_a_room_without_messages_has_the_position_before_its_first() -> None:
    history = make()
    before = history.position("a")
    publish(history)
    assert offsets(history.since("a", before, 9, 0.0)) == [1]


def test_messages_end_and_their_offsets_are_not_used_again() -> None:
    history = make()
    publish(history, ttl=10.0, now=0.0)
    publish(history, ttl=10.0, now=5.0)
    assert offsets(history.last("a", 9, 9.9)) == [1, 2]
    assert offsets(history.last("a", 9, 10.0)) == [2]
    page = history.since("a", Position("n-0", 0), 9, 15.0)
    assert (page.publications, page.recovered) == ([], False)
    assert history.since("a", Position("n-0", 2), 9, 15.0).recovered
    assert publish(history, now=20.0).offset == 3


def test_beyond_its_rooms_the_one_published_to_longest_ago_is_lost_and_its_epoch_ends() -> None:
    history = make(rooms=2)
    publish(history, "a")
    publish(history, "b")
    publish(history, "a")
    publish(history, "c")
    assert (len(history), history.lost) == (2, 1)
    assert history.position("a") == ("n-0", 2)
    # A client that was in `b` before is told that messages may be missing.
    assert not history.since("b", Position("n-0", 1), 9, 0.0).recovered
    assert publish(history, "b") == ("n-1", 1)
    assert not history.since("b", Position("n-0", 0), 9, 0.0).recovered


def test_beyond_its_bytes_other_rooms_are_lost_first_and_then_the_oldest_messages() -> None:
    history = make()
    big = b"x" * (MIB // 3)
    publish(history, "a", big)
    publish(history, "b", big)
    publish(history, "b", big)
    assert history.position("a").offset == 0
    publish(history, "b", big)
    assert offsets(history.last("b", 9, 0.0)) == [2, 3]
    assert history.size <= MIB


def test_apply_takes_smaller_bounds_at_once() -> None:
    history = make()
    for room in "abc":
        publish(history, room)
    history.apply(RoomsSettings(history_rooms=1))
    assert len(history) == 1
    assert history.position("c").offset == 1


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 400_000), st.integers(1, 4)), max_size=40
    ),
    rooms=st.integers(1, 4),
)
def test_history_is_never_larger_than_its_bounds_and_has_no_holes(
    steps: list[tuple[str, int, int]], rooms: int
) -> None:
    history = make(rooms)
    for now, (room, size, keep) in enumerate(steps):
        position = publish(history, room, b"x" * size, size=keep, ttl=7.0, now=float(now))
        assert history.position(room) == position
        assert history.size <= MIB or size + OVERHEAD > MIB // 2
        assert len(history) <= rooms
        kept = offsets(history.last(room, 99, float(now)))
        assert len(kept) <= keep
        assert kept == list(range(position.offset - len(kept) + 1, position.offset + 1))
