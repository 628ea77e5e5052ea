"""Messages to all nodes: in order and once, whatever the link did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidegate.backplane.redis.directs import Directs
from tidegate.backplane.redis.link import LinkDownError


class Links:
    """As much of the connections as they need."""

    def __init__(self) -> None:
        self.commands = self
        self.asked: list[Callable[[Any], None]] = []
        self.since: list[int] = []
        self.down = False

    def name(self, *parts: str) -> bytes:
        return ":".join(parts).encode()

    def hear(self, _: bytes, handler: Callable[[bytes], None]) -> None:
        self.published = handler

    def watch(self, heard: Callable[[], None]) -> None:
        self.heard = heard


class World:
    def __init__(self) -> None:
        links: Any = Links()
        self.links = links
        links.run = self.run
        self.got: list[bytes] = []
        self.missed = 0
        self.directs = Directs(links, self.got.append, self.miss)

    def miss(self) -> None:
        self.missed += 1

    def run(self, *arguments: Any, answer: Callable[[Any], None]) -> None:
        if self.links.down:
            answer(LinkDownError())
        else:
            self.links.asked.append(answer)

    def publish(self, *offsets: int, epoch: str = "e") -> None:
        for offset in offsets:
            self.links.published(b"%b %d\n%d" % (epoch.encode(), offset, offset))

    def answer(self, top: int, *offsets: int, epoch: bytes = b"e") -> None:
        entries = [[b"%d-0" % one, [b"t", b"0", b"m", b"%d" % one]] for one in offsets]
        self.links.asked.pop(0)([epoch, top, 0, entries])

    @property
    def numbers(self) -> list[int]:
        return [int(one) for one in self.got]


def test_messages_are_delivered_from_where_the_node_came() -> None:
    world = World()
    world.links.heard()
    world.publish(4, 5)
    world.answer(5)
    world.publish(6)
    assert world.numbers == [4, 5, 6]
    assert not world.missed


def test_a_hole_is_read_and_nothing_comes_twice() -> None:
    world = World()
    world.links.heard()
    world.answer(3)
    world.publish(4, 7, 8)
    assert world.numbers == [4]
    world.publish(9)
    world.answer(8, 5, 6, 7, 8)
    assert world.numbers == [4, 5, 6, 7, 8, 9]
    assert not world.missed


def test_what_is_gone_is_told_once() -> None:
    world = World()
    world.links.heard()
    world.answer(3)
    world.links.heard()
    world.answer(9, 8, 9)
    assert (world.numbers, world.missed) == ([], 1)
    world.publish(10)
    assert world.numbers == [10]
    world.links.heard()
    world.answer(2, 1, 2, epoch=b"other")
    assert world.missed == 2
    world.publish(3, epoch="other")
    assert world.numbers == [10, 3]


def test_a_hole_waits_for_a_connection() -> None:
    world = World()
    world.links.heard()
    world.answer(3)
    world.links.down = True
    world.publish(6, 7)
    assert world.numbers == []
    world.links.down = False
    world.links.heard()
    world.answer(7, 4, 5, 6, 7)
    assert world.numbers == [4, 5, 6, 7]
    world.publish(8)
    assert (world.numbers[-1], world.missed) == (8, 0)
