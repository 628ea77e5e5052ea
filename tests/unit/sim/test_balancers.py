from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest

from tidegate.errors import UsageError
from tidegate.sim.balancers import Balancer, balancer
from tidegate.sim.behaviours import BEHAVIOURS
from tidegate.sim.clients import Client
from tidegate.sim.node import Node

CLIENTS = [Client(n, BEHAVIOURS["browser"], "10.0.0.1", None, 0) for n in range(1000)]


class Stand:
    """As much of a node as a balancer looks at."""

    def __init__(self, number: int, load: int = 0, weight: int = 100) -> None:
        self.number, self.load, self.weight = number, load, weight

    def weigh(self) -> int:
        return self.weight


def made(name: str, *stands: Stand) -> Balancer:
    found = balancer(name, Random(1).random)
    found.rotate(cast("list[Node]", list(stands)))
    return found


def picks(found: Balancer, count: int = 1000, *, adds: bool = False) -> list[int]:
    numbers = []
    for client in CLIENTS[:count]:
        node: Any = found.pick(client)
        numbers.append(node.number)
        if adds:
            node.load += 1
    return numbers


def test_round_robin_takes_one_after_the_other() -> None:
    seen = picks(made("round-robin", Stand(0), Stand(1), Stand(2)), 6)
    assert sorted(seen[:3]) == [0, 1, 2]
    assert seen[:3] == seen[3:]


def test_least_connections_fills_up_the_emptiest() -> None:
    stands = Stand(0, 10), Stand(1, 4), Stand(2, 7)
    seen = picks(made("least-connections", *stands), 9, adds=True)
    assert [stand.load for stand in stands] == [10, 10, 10]
    assert seen.count(1) == 6


def test_least_connections_finds_who_has_lost_some_at_the_next_look() -> None:
    stands = Stand(0, 10), Stand(1, 10)
    found = made("least-connections", *stands)
    stands[1].load = 0
    found.look()
    assert picks(found, 5, adds=True) == [1] * 5


def test_agent_check_follows_what_nodes_ask_for() -> None:
    stands = Stand(0, weight=90), Stand(1, weight=10), Stand(2, weight=0)
    seen = picks(made("agent-check", *stands))
    assert 830 < seen.count(0) < 960
    assert seen.count(2) == 0


def test_agent_check_gives_nothing_to_nodes_that_all_ask_for_nothing() -> None:
    assert made("agent-check", Stand(0, weight=0)).pick(CLIENTS[0]) is None


def test_sticky_gives_a_client_the_same_node_and_spreads_clients() -> None:
    found = made("sticky", *map(Stand, range(4)))
    seen = picks(found)
    assert seen == picks(found)
    assert all(200 < seen.count(number) < 300 for number in range(4))


@pytest.mark.parametrize("name", ["round-robin", "least-connections", "agent-check", "sticky"])
def test_balancer_without_nodes_has_none(name: str) -> None:
    assert made(name).pick(CLIENTS[0]) is None


def test_balancer_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError):
        balancer("random", Random(1).random)
