from __future__ import annotations

import pytest

from tidegate.core.admission.positions import Positions, Status

MAX_WAIT = 30.0
T0 = 1000.0


def room_of(*keys: str, size: int = 10) -> Positions[str]:
    room = Positions[str](size, MAX_WAIT)
    for key in keys:
        assert room.enter(key, 0, T0) is not None
    return room


def order(room: Positions[str], now: float = T0) -> list[str]:
    """All that wait, as they are promoted."""
    found: list[str] = []
    while (key := room.promote(now)) is not None:
        found.append(key)
    return found


def told(room: Positions[str], now: float) -> dict[str, int]:
    return {status.key: status.position for status in room.status(now)}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param("a0 b0 c0", "a b c", id="first come, first served"),
        pytest.param("a0 b9 c5 d9 e0", "b d c a e", id="priorities, and in each the same rule"),
        pytest.param("a0 b-1 c0", "a c b", id="below zero"),
    ],
)
def test_order(entries: str, expected: str) -> None:
    room = Positions[str](10, MAX_WAIT)
    # All at the same moment: it is the order of entering that counts then.
    for entry in entries.split():
        room.enter(entry[0], int(entry[1:]), T0)
    assert order(room) == expected.split()


def test_entering_says_the_position_among_those_before() -> None:
    room = Positions[str](10, MAX_WAIT)
    positions = [
        room.enter(key, priority, T0) for key, priority in zip("abcd", (0, 9, 0, 5), strict=True)
    ]
    assert positions == [1, 1, 3, 2]
    assert [room.position(key) for key in "bdac"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arrived", "expected"),
    [
        pytest.param(T0 - 20, "x a b c", id="before all"),
        pytest.param(T0 + 0.5, "a x b c", id="between"),
        pytest.param(T0 + 1, "a b x c", id="at the same time as one that waits"),
        pytest.param(T0 + 3, "a b c x", id="just now"),
        pytest.param(T0 + 999, "a b c x y", id="by a clock that runs ahead"),
    ],
)
def test_a_ticket_keeps_its_position_among_those_that_came_since(
    arrived: float, expected: str
) -> None:
    room = Positions[str](10, MAX_WAIT)
    for n, key in enumerate("abc"):
        room.enter(key, 0, T0 + n)
    room.enter("x", 0, T0 + 3, arrived=arrived)
    if "y" in expected:
        room.enter("y", 0, T0 + 4)
    assert order(room, T0 + 5) == expected.split()


def test_an_early_ticket_does_not_pass_a_higher_priority() -> None:
    room = Positions[str](10, MAX_WAIT)
    room.enter("vip", 1, T0)
    assert room.enter("ticket", 0, T0, arrived=T0 - 20) == 2


def test_entering_again_keeps_the_position_and_the_priority() -> None:
    room = room_of("a", "b", "c")
    assert room.enter("b", 99, T0 + 5) == 2
    assert room.enter("b", 0, T0 + 6, arrived=T0 - 9) == 2
    assert len(room) == 3
    assert order(room) == ["a", "b", "c"]


@pytest.mark.parametrize("size", [0, 1, 3])
def test_so_many_positions_and_no_more(size: int) -> None:
    room = Positions[int](size, MAX_WAIT)
    assert [room.enter(n, 0, T0) for n in range(size)] == list(range(1, size + 1))
    # Neither priority nor an early ticket makes a position where there is none.
    assert room.enter(99, 100, T0, arrived=T0 - 5) is None
    assert 99 not in room
    assert len(room) == size


def test_one_that_waits_may_enter_again_when_all_are_taken() -> None:
    room = room_of("a", "b", size=2)
    assert room.enter("c", 0, T0) is None
    assert room.enter("b", 0, T0) == 2


@pytest.mark.parametrize("way_out", ["leave", "promote", "expired"])
def test_every_way_out_gives_the_position_back(way_out: str) -> None:
    room = room_of("a", "b", size=2)
    late = T0 + MAX_WAIT
    if way_out == "leave":
        assert room.leave("a", T0)
    elif way_out == "promote":
        assert room.promote(T0) == "a"
    else:
        room.enter("b", 0, T0, until=T0 + 1)
        assert list(room.expired(T0 + 1)) == ["b"]
    assert len(room) == 1
    assert room.enter("c", 0, T0 + 1) == 2
    assert room.enter("d", 0, T0 + 1) is None
    # And nothing of it is left to come up later.
    assert len(list(room.expired(late))) == 1
    assert list(room.expired(late + 1)) == ["c"]
    assert len(room) == 0


def test_leaving_without_a_position_changes_nothing() -> None:
    room = room_of("a")
    assert not room.leave("stranger", T0)
    assert room.leave("a", T0)
    assert not room.leave("a", T0)
    assert room.position("a") is None
    assert room.next() is None
    assert room.promote(T0) is None


def test_looking_at_the_head_takes_nothing() -> None:
    room = room_of("a", "b")
    assert [room.next(), room.next(), room.promote(T0), room.next()] == ["a", "a", "a", "b"]


@pytest.mark.parametrize(
    ("arrived", "until", "ends"),
    [
        (None, None, T0 + MAX_WAIT),
        (None, T0 + 5, T0 + 5),
        (None, T0 + 99, T0 + MAX_WAIT),
        (T0 - 20, None, T0 + 10),
        (T0 - 20, T0 + 5, T0 + 5),
        (T0 - 20, T0 + 15, T0 + 10),
        (T0 + 99, None, T0 + MAX_WAIT),
        (T0 - 99, None, T0),
    ],
)
def test_when_a_position_ends(arrived: float | None, until: float | None, ends: float) -> None:
    room = Positions[str](10, MAX_WAIT)
    room.enter("a", 0, T0, arrived, until)
    if ends > T0:
        assert list(room.expired(ends - 0.001)) == []
    assert list(room.expired(ends)) == ["a"]
    assert list(room.expired(ends)) == []


def test_a_holder_that_comes_back_gets_more_time_but_not_without_end() -> None:
    room = Positions[str](10, MAX_WAIT)
    now = T0
    while not list(room.expired(now)):
        room.enter("a", 0, now, until=now + 4)
        now += 3
    assert T0 + MAX_WAIT <= now < T0 + MAX_WAIT + 3


def test_those_whose_time_is_over_go_in_the_order_of_it() -> None:
    room = Positions[str](10, MAX_WAIT)
    for key, until in (("a", 7.0), ("b", 3.0), ("c", 9.0), ("d", 3.0)):
        room.enter(key, 0, T0, until=T0 + until)
    assert list(room.expired(T0 + 8)) == ["b", "d", "a"]
    assert room.position("c") == 1


def run(room: Positions[str], per_second: float, start: float, seconds: float) -> float:
    """Promote evenly, while two are kept waiting; returns the time at the end."""
    gap = 1 / per_second
    for n in range(1, int(seconds * per_second) + 1):
        room.enter(f"{start} {n}", 0, start + (n - 1) * gap)
        room.promote(start + n * gap)
    return start + seconds


@pytest.mark.parametrize("rate", [0.2, 1.0, 7.0, 50.0])
@pytest.mark.parametrize("seconds", [10.0, 30.0, 100.0])
def test_the_estimate_follows_the_measured_rate(rate: float, seconds: float) -> None:
    room = room_of("stays last", "second")
    now = run(room, rate, T0, seconds)
    for position in (1, 2, 40):
        assert room.eta(position, now) == pytest.approx(position / rate, rel=0.15)


def test_the_estimate_follows_a_change_of_the_rate_within_30_seconds() -> None:
    room = room_of("stays last", "second")
    now = run(room, 20.0, T0, 60.0)
    now = run(room, 2.0, now, 30.0)
    assert room.eta(10, now) == pytest.approx(5.0, rel=0.15)


def test_measuring_takes_bounded_memory_when_nobody_asks() -> None:
    room = room_of("stays last", "second")
    run(room, 2.0, T0, 200.0)
    assert len(room._rate._counts) <= 30


def test_the_estimate_is_unknown_before_a_promotion_and_in_the_first_second() -> None:
    room = room_of("a", "b", "c")
    assert room.eta(1, T0 + 5) is None
    room = room_of("a", "b", "c")
    room.promote(T0 + 0.5)
    assert room.eta(1, T0 + 0.9) is None
    assert room.eta(1, T0 + 1) == 1.0
    assert room.eta(1, T0 + 2) == 2.0
    assert room.eta(2, T0 + 2) == 4.0


def test_the_estimate_is_unknown_when_none_was_promoted_for_long() -> None:
    room = room_of("a", "b")
    room.promote(T0 + 1)
    assert room.eta(1, T0 + 29) == 29.0
    assert room.eta(1, T0 + 32) is None


def test_the_estimate_is_unknown_while_none_waits() -> None:
    room = room_of("a")
    assert room.eta(1, T0) is None
    room.promote(T0 + 5)
    assert room.eta(1, T0 + 6) is None


def test_time_in_which_none_waits_is_not_counted() -> None:
    room = room_of("a")
    room.promote(T0 + 2)
    room.enter("b", 0, T0 + 12)
    room.promote(T0 + 14)
    room.enter("c", 0, T0 + 24)
    # Two were promoted in four seconds of waiting, not in twenty-four.
    assert room.eta(1, T0 + 24) == 2.0


def test_a_rate_of_long_ago_is_forgotten() -> None:
    room = room_of("a")
    room.promote(T0 + 2)
    room.enter("b", 0, T0 + 33)
    assert room.eta(1, T0 + 35) is None


def test_no_holder_is_told_what_it_knows() -> None:
    room = room_of("a", "b", "c")
    assert told(room, T0 + 5) == {}
    room.promote(T0 + 5)
    assert told(room, T0 + 5) == {"b": 1, "c": 2}
    assert told(room, T0 + 10) == {}


def test_only_those_behind_a_change_are_told() -> None:
    room = room_of("a", "b", "c", "d")
    room.leave("c", T0 + 2)
    assert told(room, T0 + 2) == {"d": 3}
    room.enter("vip", 9, T0 + 4)
    assert told(room, T0 + 4) == {"a": 2, "b": 3, "d": 4}


def test_at_most_once_a_second_and_then_the_latest() -> None:
    room = room_of("a", "b", "c", "d")
    room.promote(T0 + 0.5)
    assert told(room, T0 + 0.5) == {}
    assert told(room, T0 + 1.0) == {"b": 1, "c": 2, "d": 3}
    room.promote(T0 + 1.1)
    room.promote(T0 + 1.2)
    assert told(room, T0 + 1.9) == {}
    assert told(room, T0 + 2.0) == {"d": 1}


def test_one_that_is_back_at_its_position_is_not_told() -> None:
    room = room_of("a", "b")
    room.enter("vip", 9, T0 + 1)
    room.leave("vip", T0 + 1)
    assert told(room, T0 + 5) == {}


def test_what_a_status_says() -> None:
    room = room_of("a", "b", "c")
    room.enter("ticket", 0, T0 + 3, arrived=T0 - 2)
    # The one before all others goes, and they are where they were.
    assert room.promote(T0 + 4) == "ticket"
    assert list(room.status(T0 + 5)) == []
    room.enter("vip", 9, T0 + 6)
    room.leave("b", T0 + 7)
    assert list(room.status(T0 + 8)) == [Status("a", 2, 3, 8.0, 16.0)]
    room.leave("vip", T0 + 8)
    assert list(room.status(T0 + 10)) == [
        Status("a", 1, 2, 10.0, 10.0),
        Status("c", 2, 2, 10.0, 20.0),
    ]


def test_positions_may_change_while_the_holders_are_told() -> None:
    room = room_of("a", "b", "c", "d", "e")
    room.promote(T0 + 2)
    statuses = room.status(T0 + 2)
    assert next(statuses)[:3] == ("b", 1, 4)
    room.leave("c", T0 + 2)
    room.enter("vip", 9, T0 + 2)
    assert [status[:3] for status in statuses] == [("d", 3, 4), ("e", 4, 4)]
    assert told(room, T0 + 3) == {"b": 2}
    room.leave("vip", T0 + 4)
    assert told(room, T0 + 4) == {"b": 1, "d": 2, "e": 3}


@pytest.mark.parametrize(
    ("waiting", "priority", "passed", "position", "detail"),
    [
        ("", 0, True, 1, "no attempt waits before this one"),
        ("ab", 0, False, 3, "it would wait at position 3 of 3"),
        ("ab", 9, True, 1, "no attempt waits before this one"),
        ("ab", -9, False, 3, "it would wait at position 3 of 3"),
        ("abc", 0, False, 4, "all 3 positions in the waiting room are taken"),
    ],
)
def test_explain(waiting: str, priority: int, passed: bool, position: int, detail: str) -> None:
    room = room_of(*waiting, size=3)
    step = room.explain(priority, T0 + 5)
    assert (step.name, step.passed, step.detail) == ("waiting_room", passed, detail)
    assert step.numbers == {
        "waiting": len(waiting),
        "size": 3,
        "position": position,
        "eta": None,
        "max_wait": MAX_WAIT,
    }
    assert len(room) == len(waiting)


def test_explain_agrees_with_entering() -> None:
    room = Positions[int](50, MAX_WAIT)
    for n in range(40):
        priority = n * 7 % 5
        expected = room.explain(priority, T0 + n // 8).numbers["position"]
        assert room.enter(n, priority, T0 + n // 8) == expected
