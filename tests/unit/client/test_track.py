"""The position in a room's history."""

from __future__ import annotations

from tidegate.client import Position
from tidegate.client.track import Track


def placed(offset: int, *, history: int = 0) -> Track:
    track = Track()
    track.place("e1", offset, history=history, recovered=True)
    return track


def test_track_without_history_takes_everything() -> None:
    track = Track()
    track.place(None, None, history=0, recovered=True)
    assert track.position is None
    assert track.take(None)
    assert track.take(7)
    assert track.is_at(99)


def test_track_goes_on_message_by_message() -> None:
    track = placed(5)
    assert track.take(6)
    assert track.take(7)
    assert track.position == Position("e1", 7)


def test_track_refuses_what_is_old_or_too_far() -> None:
    track = placed(5)
    assert not track.take(5)
    assert not track.take(7)
    assert track.position == Position("e1", 5)


def test_track_takes_fewer_messages_of_history_than_asked_for() -> None:
    track = placed(100, history=10)
    assert track.position == Position("e1", 90)
    assert track.take(95)
    assert track.take(96)
    assert not track.take(98)


def test_track_without_any_message_of_history_goes_on_live() -> None:
    track = placed(100, history=10)
    assert track.take(101)


def test_track_skips_own_messages_that_do_not_come_back() -> None:
    track = placed(5)
    track.publish(7)
    assert track.take(6)
    assert track.position == Position("e1", 7)
    track.publish(8)
    assert track.take(9)


def test_track_that_recovered_keeps_its_position() -> None:
    track = placed(5)
    track.place("e1", 9, history=0, recovered=True)
    assert track.position == Position("e1", 5)
    track.place("e2", 2, history=0, recovered=False)
    assert track.position == Position("e2", 2)


def test_track_ignores_offsets_that_are_none() -> None:
    track = placed(5)
    for offset in (None, "6", True, 6.0):
        assert track.take(offset)
    assert track.position == Position("e1", 5)
