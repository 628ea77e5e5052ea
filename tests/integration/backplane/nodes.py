"""Brokers of nodes, and all that they deliver; the tests of each kind of broker use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tidegate.backplane.base import HistoryQuery
from tidegate.backplane.kafka.broker import KafkaBroker
from tidegate.backplane.nats.broker import NatsBroker
from tidegate.backplane.nats.bus import Bus
from tidegate.backplane.nats.peers import Peers
from tidegate.backplane.nats.servers import Servers
from tidegate.backplane.nodes import times_of
from tidegate.backplane.redis.broker import RedisBroker
from tidegate.backplane.redis.links import links_of
from tidegate.core.codes import BACKPLANE_DOWN, Fault
from tidegate.core.messaging.history import Page, Position
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings import BackplaneSettings, Settings

__all__ = ["Node", "all_got", "asked", "nodes", "publish_on", "until"]

KEPT = {"pattern": "kept*", "history_size": 200, "history_ttl": 60}


def broker_of(settings: BackplaneSettings, rules: Rules, name: str) -> Any:
    assert settings.url is not None
    if settings.url.startswith(("nats:", "tls:")):
        servers = Servers(settings.url, settings.timeout, name)
        bus = Bus(servers, settings, name)
        return NatsBroker(bus, rules, settings.replicas, Peers(bus, times_of(10.0)))
    if settings.url.startswith("kafka"):
        return KafkaBroker(settings.url, settings, rules, name)
    links = links_of(settings.url, settings, name)
    return RedisBroker(links, rules)


class Node:
    """A broker and all that it has delivered."""

    def __init__(
        self,
        url: str,
        name: str,
        timeout: float = 1.0,
        prefix: str = "tidegate",
        replicas: int = 1,
        **rule: Any,
    ) -> None:
        settings = Settings.from_mapping({"rooms": {"rules": [{**KEPT, **rule}]}})
        backplane = BackplaneSettings(url=url, timeout=timeout, prefix=prefix, replicas=replicas)
        self.broker = broker_of(backplane, Rules(settings.rooms.rules), name)
        self.got: list[Publication] = []
        self.directs: list[Direct] = []
        self.all: list[Publication] = []
        self.gaps: list[str] = []
        self.missing = 0
        self.full: set[str] = set()

    def deliver(self, publication: Publication, /) -> Fault | None:
        if publication.room in self.full:
            return BACKPLANE_DOWN
        self.got.append(publication)
        return None

    def deliver_to_user(self, message: Direct, /) -> int:
        self.directs.append(message)
        return 2

    def deliver_to_all(self, message: Publication, /) -> int:
        self.all.append(message)
        return 3

    def missed_directs(self) -> None:
        self.missing += 1

    def missed(self, room: str, /) -> None:
        self.gaps.append(room)

    def data(self, room: str) -> list[int]:
        return [int(one.data) for one in self.got if one.room == room]

    async def join(self, room: str) -> Fault | None:
        fault: Fault | None = await asked(self.broker.subscribe, room)
        return fault

    async def publish(self, room: str, number: int, **more: Any) -> Fault | None:
        data = str(number).encode()
        publication = Publication(room, data, **more)
        fault: Fault | None = await asked(self.broker.publish, publication)
        return fault

    async def history(self, room: str, since: Position | None, limit: int = 100) -> Page | Fault:
        found: Page | Fault = await asked(self.broker.history, room, HistoryQuery(since, limit))
        return found


async def asked(ask: Callable[..., None], *asked: Any) -> Any:
    """Call what answers by its last argument, and return that."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(*asked, answer.set_result)
    return await asyncio.wait_for(answer, 20)


async def until(condition: Callable[[], object], what: str = "") -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


def all_got(made: list[Node], room: str, count: int) -> bool:
    return all(len(node.data(room)) == count for node in made)


@asynccontextmanager
async def nodes(url: str, count: int = 2, **options: Any) -> AsyncIterator[list[Node]]:
    made = [Node(url, f"node-{number}", **options) for number in range(count)]
    try:
        for node in made:
            await node.broker.start(node)
        yield made
    finally:
        for node in made:
            await node.broker.stop()


async def publish_on(node: Node, room: str, numbers: range) -> None:
    for number in numbers:
        assert await node.publish(room, number) is None
        await asyncio.sleep(0.005)
