"""Rebalancing: who gives how many connections away, and how fast."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.balancing.moves import (
    SETTLE_SECONDS,
    Member,
    Phase,
    Rounds,
    is_balanced,
    room,
    share,
    taker,
)


def members(*rows: tuple[int, int] | tuple[int, int, bool]) -> list[Member]:
    """Members a, b, ... of connections, capacity and whether they take any."""
    return [Member("abcdefgh"[i], *row) for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        # One that has joined.
        ([(20, 100), (0, 100)], [10, 10]),
        ([(30, 100), (30, 100), (0, 100)], [20, 20, 20]),
        # By capacity.
        ([(90, 100), (0, 200)], [30, 60]),
        # Rounded up, so that nobody moves for less than a whole connection.
        ([(11, 100), (10, 100)], [11, 11]),
        ([(7, 100), (7, 100), (6, 100)], [7, 7, 7]),
        # Alone, and nobody else takes any.
        ([(20, 100)], [None]),
        ([(20, 100), (0, 100, False)], [None, None]),
        # One that takes nobody gives nobody either: it is critical, drains, or is full.
        ([(100, 100, False), (20, 100), (0, 100)], [None, 10, 10]),
        ([(20, 100), (0, 0)], [None, None]),
        ([(0, 100), (0, 100)], [0, 0]),
    ],
)
def test_share_is_even_by_capacity(rows: list[tuple[int, int]], shares: list[int | None]) -> None:
    them = members(*rows)
    assert [share(member.name, them) for member in them] == shares


def test_share_of_a_node_that_is_not_listed_is_none() -> None:
    assert share("z", members((20, 100), (0, 100))) is None
    assert share("a", []) is None


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([(20, 100), (0, 100)], {"b": 10}),
        ([(40, 100), (8, 100), (0, 100)], {"b": 8, "c": 16}),
        ([(10, 100), (10, 100)], {}),
        ([(20, 100), (0, 100, False)], {}),
    ],
)
def test_room_is_what_is_missing_to_the_share(
    rows: list[tuple[int, int]], found: dict[str, int]
) -> None:
    assert room(members(*rows)) == found


def test_taker_is_chosen_in_proportion_to_the_room() -> None:
    free = {"b": 10, "c": 30}
    counts = Counter(taker(free, number / 1000) for number in range(1000))
    assert counts == {"b": 250, "c": 750}
    assert taker({"b": 1}, 0.999999) == "b"


@pytest.mark.parametrize(
    ("connections", "share", "balanced"),
    [
        (10, None, True),
        (10, 10, True),
        (11, 10, True),
        (12, 10, False),
        (105, 100, True),
        (106, 100, False),
        (0, 0, True),
        (2, 0, False),
    ],
)
def test_balanced_is_within_a_twentieth(
    connections: int, share: int | None, balanced: bool
) -> None:
    assert is_balanced(connections, share) is balanced


def test_rounds_move_at_their_rate_until_the_share_is_reached() -> None:
    rounds = Rounds()
    assert rounds.begin(20, 14, rate=2, now=100.0)
    left, moved = 20, []
    for tenth in range(50):
        count = rounds.due(left, 100.0 + tenth / 10, 10**6)
        left -= count
        moved.append(count)
    assert left == 14
    assert rounds.moved == 6
    assert rounds.phase is Phase.SETTLING
    # Two a second, and the last of them after 3 s.
    assert [sum(moved[: tenth + 1]) for tenth in (4, 5, 10, 20, 30, 40)] == [0, 1, 2, 4, 6, 6]


def test_rounds_with_nothing_to_move_do_not_begin() -> None:
    rounds = Rounds()
    for connections, own in ((10, 10), (9, 10), (10, None)):
        assert not rounds.begin(connections, own, 5, 0.0)
        assert rounds.phase is Phase.IDLE
        assert rounds.due(connections, 10.0, 10**6) == 0


def test_rounds_do_not_make_up_for_a_time_in_which_nobody_asked() -> None:
    rounds = Rounds()
    rounds.begin(1000, 0, rate=10, now=0.0)
    assert rounds.due(1000, 60.0, 10**6) == 10
    assert rounds.due(990, 60.05, 10**6) == 0


def test_rounds_slower_than_one_a_second_move_one_now_and_then() -> None:
    rounds = Rounds()
    rounds.begin(100, 0, rate=0.1, now=0.0)
    moved = [rounds.due(100, float(second), 10**6) for second in range(1, 36)]
    assert sum(moved) == 3


def test_rounds_stop_by_themselves_when_clients_leave_for_other_reasons() -> None:
    rounds = Rounds()
    rounds.begin(20, 10, rate=1, now=0.0)
    assert rounds.due(20, 1.0, 10**6) == 1
    assert rounds.due(10, 2.0, 10**6) == 0
    assert rounds.phase is Phase.SETTLING


def test_rounds_look_again_when_those_that_were_asked_are_back() -> None:
    rounds = Rounds()
    rounds.begin(20, 10, rate=100, now=0.0)
    assert rounds.due(20, 1.0, 10**6) == 10
    assert not rounds.settled(1.0 + SETTLE_SECONDS - 0.1)
    assert rounds.settled(1.0 + SETTLE_SECONDS)
    # Half of them have come back to this node.
    rounds.look(15, 10, 20.0)
    assert rounds.phase is Phase.MOVING
    assert rounds.due(15, 21.0, 10**6) == 5
    rounds.look(11, 10, 40.0)
    assert rounds.phase is Phase.IDLE
    assert rounds.moved == 15


def test_rounds_move_no_more_than_may_be_moved_and_count_no_more() -> None:
    rounds = Rounds()
    rounds.begin(100, 0, rate=10, now=0.0)
    assert [rounds.due(100, 1.0, 3), rounds.due(97, 1.0, 0), rounds.due(97, 1.0, 100)] == [3, 0, 7]
    assert rounds.moved == 10


def test_rounds_pause_and_end() -> None:
    rounds = Rounds()
    rounds.pause(0.0)
    assert rounds.phase is Phase.IDLE
    rounds.begin(20, 10, rate=1, now=0.0)
    rounds.pause(1.0)
    assert rounds.due(20, 5.0, 10**6) == 0
    assert rounds.settled(1.0 + SETTLE_SECONDS)
    rounds.end()
    assert not rounds.settled(100.0)


def test_rounds_take_another_rate_while_they_are_under_way() -> None:
    rounds = Rounds()
    rounds.begin(100, 0, rate=1, now=0.0)
    assert rounds.due(100, 1.0, 10**6) == 1
    assert rounds.begin(99, 0, rate=10, now=1.0)
    assert rounds.due(99, 2.0, 10**6) == 10
    assert rounds.moved == 11


counts = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 2000)), min_size=2, max_size=6)


@given(counts, st.integers(0, 2**32))
def test_one_round_of_all_nodes_never_moves_more_than_is_needed(
    rows: list[tuple[int, int]], seed: int
) -> None:
    dice = random.Random(seed)
    them = members(*rows)
    free = room(them)
    shares = {member.name: share(member.name, them) for member in them}
    have = {member.name: member.connections for member in them}
    arrived: Counter[str] = Counter()
    for member in them:
        rounds = Rounds()
        own = shares[member.name]
        if not rounds.begin(member.connections, own, rate=5000, now=0.0):
            continue
        assert own is not None
        for _ in range(rounds.due(member.connections, 1.0, 10**6)):
            have[member.name] -= 1
            arrived[taker(free, dice.random())] += 1
        # It has its share afterwards: not one connection less.
        assert have[member.name] == own
    # Rounding up leaves less than one for each node.
    missing = sum(free.values())
    assert missing - len(them) < arrived.total() <= missing
