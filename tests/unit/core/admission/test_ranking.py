from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidegate.core.admission.ranking import _NONE, Ranking, _Node


class Counted:
    """A number that counts how often it is compared, which is what an operation costs."""

    compared = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __lt__(self, other: Counted) -> bool:
        Counted.compared += 1
        return self.value < other.value


def ranking_of(items: Iterable[int]) -> Ranking[int]:
    ranking = Ranking[int]()
    for item in items:
        ranking.add(item)
    return ranking


def weigh(node: _Node[int]) -> int:
    """The weight of a tree, balanced as it must be."""
    if node is _NONE:
        return 1
    left, right = weigh(node.left), weigh(node.right)
    assert max(left, right) <= 3 * min(left, right)
    assert node.weight == left + right
    return node.weight


def test_empty() -> None:
    ranking = Ranking[int]()
    assert ranking.first() is None
    assert ranking.rank(5) == 0
    assert list(ranking) == []
    assert len(ranking) == 0


def test_the_rank_of_what_is_not_in() -> None:
    ranking = ranking_of([10, 30, 20])
    assert [ranking.rank(n) for n in (5, 10, 15, 20, 25, 30, 35)] == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("missing", [0, 15, 99])
def test_removing_what_is_not_in_changes_nothing(missing: int) -> None:
    ranking = ranking_of([10, 20, 30])
    with pytest.raises(KeyError):
        ranking.remove(missing)
    assert list(ranking) == [10, 20, 30]
    assert len(ranking) == 3


def test_two_rankings_share_nothing() -> None:
    first, second = ranking_of([1, 2, 3]), ranking_of([4])
    first.remove(2)
    assert (list(first), list(second)) == ([1, 3], [4])


N = 2048
ORDERS: dict[str, list[int]] = {
    "rising": list(range(N)),
    "falling": list(range(N, 0, -1)),
    "outwards": [n if n % 2 else -n for n in range(N)],
    "inwards": [n if n % 2 else 2 * N - n for n in range(N)],
    "scattered": [n * 769 % 2053 for n in range(N)],
}


@pytest.mark.parametrize("order", ORDERS)
def test_no_operation_ever_walks_the_whole(order: str) -> None:
    # The height of such a tree is at most log(n + 1) to the base 4/3; two comparisons a level.
    most = 2 * math.log(N + 1, 4 / 3) + 2
    ranking = Ranking[Counted]()
    items = [Counted(n) for n in ORDERS[order]]

    def cost_of(operation: object, *args: Counted) -> None:
        Counted.compared = 0
        operation(*args)  # type: ignore[operator]
        assert Counted.compared <= most

    for item in items:
        cost_of(ranking.add, item)
        cost_of(ranking.rank, item)
    # As it is used: the first goes, a new one comes last; then only some in the middle.
    for n in range(N):
        cost_of(ranking.remove, items[n])
        items.append(Counted(2 * N + n))
        cost_of(ranking.add, items[-1])
    for item in items[N + N // 4 : -1]:
        cost_of(ranking.remove, item)
        cost_of(ranking.rank, item)
    assert [item.value for item in ranking] == sorted(
        item.value for item in (*items[N : N + N // 4], items[-1])
    )


def test_what_takes_the_place_of_the_root_leaves_no_hole() -> None:
    ranking = ranking_of(range(200))
    left = list(range(200))
    while left:
        left.remove(ranking._root.item)
        ranking.remove(ranking._root.item)
        assert list(ranking) == left
        weigh(ranking._root)


class RankingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ranking = Ranking[int]()
        self.model: list[int] = []

    @rule(items=st.lists(st.integers(-50, 50), max_size=30))
    def add(self, items: list[int]) -> None:
        for item in items:
            if item not in self.model:
                self.ranking.add(item)
                self.model.insert(bisect_left(self.model, item), item)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), times=st.integers(1, 20))
    def remove(self, data: st.DataObject, times: int) -> None:
        start = data.draw(st.integers(0, len(self.model) - 1))
        for item in self.model[start : start + times]:
            self.ranking.remove(item)
        del self.model[start : start + times]

    @invariant()
    def the_same_order(self) -> None:
        assert list(self.ranking) == self.model
        assert len(self.ranking) == len(self.model)
        assert self.ranking.first() == (self.model[0] if self.model else None)
        for n in range(-51, 52, 5):
            assert self.ranking.rank(n) == bisect_left(self.model, n)

    @invariant()
    def balanced(self) -> None:
        weigh(self.ranking._root)


TestRankingMachine = RankingMachine.TestCase
TestRankingMachine.settings = settings(max_examples=40, stateful_step_count=20)
