"""Which nodes live, on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.support.virtual_clock import VirtualClock
from tidegate.backplane import living
from tidegate.backplane.living import LivingNodes
from tidegate.backplane.nodes import NodeTimes, times_of

TTL = 10.0


@pytest.mark.parametrize(
    ("ttl", "times"),
    [(1, (1 / 3, 1, 61)), (1.5, (0.5, 1.5, 61.5)), (10, (2, 10, 70)), (300, (2, 300, 360))],
)
def test_times_follow_the_ttl_of_the_fleet_and_miss_three_beats(
    ttl: float, times: tuple[float, ...]
) -> None:
    assert times_of(ttl) == times


class World:
    """One node, and what it is told of the others."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.up = True
        self.told: list[str] = []
        self.said = 0
        self.nodes = LivingNodes("me", NodeTimes(1.0, TTL, 60.0), lambda: self.up, self._say)
        self.nodes.watch(
            lambda node: self.told.append(f"{node} is gone"),
            lambda node: self.told.append(f"{node} is back"),
            lambda: self.told.append("late"),
        )
        self.nodes.begin()

    def _say(self) -> None:
        self.said += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    clock = VirtualClock()
    loop = SimpleNamespace(
        call_later=lambda delay, call: SimpleNamespace(cancel=clock.call_later(delay, call))
    )
    monkeypatch.setattr(living, "monotonic", clock.time)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return World(clock)


def test_it_says_at_each_beat_that_it_lives_until_it_stops(world: World) -> None:
    world.clock.advance(5)
    assert world.said == 6
    world.nodes.stop()
    world.clock.advance(5)
    assert (world.said, len(world.clock)) == (6, 0)


def test_a_node_that_is_silent_is_gone_once_and_back_when_it_is_heard(world: World) -> None:
    world.nodes.heard("a")
    world.nodes.expect("b")
    world.nodes.expect("me")
    world.clock.advance(TTL - 1)
    assert world.nodes.known == {"a", "b"}
    world.clock.advance(1)
    assert (world.told, world.nodes.known) == (["a is back"], set())
    assert world.nodes.knows("a")
    world.clock.advance(2)
    assert world.told == ["a is back", "a is gone", "b is gone"]
    assert not world.nodes.knows("a")
    world.nodes.left("a")
    world.nodes.heard("a")
    assert world.told[3:] == ["a is back"]


def test_nobody_is_gone_while_this_node_does_not_hear(world: World) -> None:
    world.nodes.heard("a")
    world.up = False
    world.clock.advance(3 * TTL)
    assert (world.told, world.said) == (["a is back"], 1)
    world.up = True
    world.nodes.begin()
    world.clock.advance(TTL)
    assert world.nodes.knows("a")
    world.clock.advance(2)
    assert world.told == ["a is back", "a is gone"]


def test_one_that_stood_still_says_so_and_gives_the_others_their_time(world: World) -> None:
    world.nodes.heard("a")
    world.clock._now += TTL + 5  # no timer is due in between
    world.clock.advance(0.1)
    assert world.told == ["a is back", "late"]
    world.clock.advance(TTL - 1)
    assert world.nodes.knows("a")
