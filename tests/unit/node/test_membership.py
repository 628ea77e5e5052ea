"""A node among the others: how often it says how it is, and when another one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tidegate.backplane.nodes import NodeRecord, Seen
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.node.control.nodes import nodes_page
from tidegate.node.membership import Membership
from tidegate.node.rebalancing import Rebalancing


class Registry:
    """Keeps what is said, and knows one other node."""

    def __init__(self, age: float = 0.0) -> None:
        self.told: list[NodeRecord] = []
        self.age = age

    def announce(self, record: NodeRecord, done: Callable[[bool], None], /) -> None:
        self.told.append(record)
        done(True)

    async def leave(self) -> None:
        pass

    async def read(self) -> list[Seen]:
        other = NodeRecord("other", "b", 2, "1", ready=True, connections=5, capacity=10)
        return [Seen(other, self.age)]


def member(registry: Registry, beat: float, ends: Callable[[], bool] = lambda: False) -> Membership:
    resting = cast("Rebalancing", SimpleNamespace(tick=lambda now: None))
    own = NodeRecord("own", "a", 1, "1", ready=True, connections=3, capacity=10)
    return Membership(Stats(), registry, lambda: own, ends, resting, beat)


def test_it_says_at_each_beat_how_it_is_and_at_once_when_it_ends() -> None:
    registry, ending = Registry(), [False]
    membership = member(registry, 0.5, lambda: ending[0])
    for tenth in range(11):
        membership.tick(100 + tenth / 10)
    assert len(registry.told) == 3
    ending[0] = True
    membership.tick(101.1)
    membership.tick(101.2)
    assert len(registry.told) == 4


@pytest.mark.parametrize(("ttl", "age"), [(1.0, 0.9), (10.0, 9.9), (300.0, 299.0)])
def test_a_node_is_gone_after_the_ttl_of_the_fleet_and_counts_no_more(
    ttl: float, age: float
) -> None:
    def page(age: float) -> Any:
        settings = Settings.from_mapping({"fleet": {"ttl": ttl}})
        node: Any = SimpleNamespace(
            settings=settings, membership=member(Registry(age), 1.0), backplane=None
        )
        return asyncio.run(nodes_page(node))

    here, gone = page(age), page(ttl + 0.1)
    assert [row.state for row in here.nodes] == ["serving", "serving"]
    assert (here.connections, here.capacity) == (8, 20)
    assert [row.state for row in gone.nodes] == ["serving", "gone"]
    assert (gone.connections, gone.capacity) == (3, 10)
