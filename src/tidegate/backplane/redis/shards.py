"""The connections to the shards of a cluster, by the slots that they have.

What is not of a room is in one slot, on the shard that is called home here; rooms are on all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tidegate.backplane.redis.cluster import shard_of
from tidegate.backplane.redis.servers import unreachable

if TYPE_CHECKING:
    from tidegate.backplane.redis.cluster import Cluster
    from tidegate.backplane.redis.link import Link
    from tidegate.backplane.redis.servers import Connector

__all__ = ["Owner", "Pair", "Shards"]

_log = logging.getLogger("tidegate")


class Pair(NamedTuple):
    """The connections to one server."""

    commands: Link
    listening: Link


class Owner(Protocol):
    """What makes links, and is told what becomes of them."""

    def link(
        self,
        connector: Connector,
        name: str,
        up: Callable[[], None],
        down: Callable[[], None],
        *,
        hears: bool = False,
    ) -> Link:
        """Return a link that is not connected yet; whether it `hears` channels."""

    def load(self, link: Link) -> None:
        """Give all scripts to a server."""

    def rooms_up(self, listening: Link) -> None:
        """Subscribe to the rooms of a link."""

    def rooms_down(self, listening: Link) -> None:
        """Nothing comes for the rooms of a link."""

    def all_down(self) -> None:
        """Nothing comes for any room."""

    def heard_again(self) -> None:
        """Something may have been missed, and can be read now."""


class Shards:
    """The pairs of a cluster.

    Args:
        cluster: knows where the slots are.
        home: the pair of the slot `home_slot`.
        owner: makes the links of the others.
    """

    def __init__(self, cluster: Cluster, home: Pair, home_slot: int, owner: Owner) -> None:
        self._cluster = cluster
        self._home = home
        self._home_slot = home_slot
        self._owner = owner
        self._table = [home] * 16384
        self._others: list[Pair] = []
        self._moving: asyncio.Task[None] | None = None
        cluster.watch(self._moved)

    def of(self, name: bytes | str) -> Pair:
        """Return the pair of a key or a channel. HOT."""
        return self._table[self._cluster.slot(name)]

    async def start(self) -> None:
        """Connect to all shards but the one at home.

        Raises:
            BackplaneError: one cannot be reached.
        """
        try:
            await self._cluster.read()
        except Exception as error:
            raise unreachable(error) from error
        self._build()
        for pair in self._others:
            await pair.commands.start()
            await pair.listening.start()

    async def stop(self) -> None:
        """End the connections, and call nobody any more."""
        if self._moving is not None:
            await asyncio.wait((self._moving,))
        for pair in self._others:
            await pair.listening.stop()
            await pair.commands.stop()

    def follow(self, pair: Pair) -> None:
        """Subscribe where commands go: a replica takes subscriptions too, and is not left else."""
        if pair.listening.open and pair.listening.peer != pair.commands.peer:
            pair.listening.again()

    def _build(self) -> None:
        """Make a pair for each shard that the cluster has now. They are not connected yet."""
        self._others = []
        shards = self._cluster.shards
        at_home = shard_of(shards, self._home_slot)
        for number, ranges in enumerate(shards):
            pair = self._home
            if number != at_home:
                pair = self._pair(ranges[0][0])
                self._others.append(pair)
            for first, last in ranges:
                self._table[first : last + 1] = [pair] * (last - first + 1)

    def _pair(self, slot: int) -> Pair:
        owner, connector = self._owner, self._cluster.connect_to(slot)

        def commands_up() -> None:
            owner.load(pair.commands)
            self.follow(pair)

        def listening_up() -> None:
            owner.rooms_up(pair.listening)
            # When this is answered the rooms are subscribed, and what was missed can be read.
            pair.listening.ask("PING", answer=heard)

        def heard(answer: Any) -> None:
            if not isinstance(answer, Exception):
                owner.heard_again()

        pair = Pair(
            owner.link(connector, "command", commands_up, lambda: None),
            owner.link(
                connector,
                "subscription",
                listening_up,
                lambda: owner.rooms_down(pair.listening),
                hears=True,
            ),
        )
        return pair

    def _moved(self) -> None:
        """Slots have moved to another shard."""
        if self._moving is None or self._moving.done():
            self._moving = asyncio.get_running_loop().create_task(self._connect_anew())

    async def _connect_anew(self) -> None:
        """Make the links anew: rooms may be elsewhere now."""
        _log.warning("slots of the cluster have moved: all connections are made again")
        self._owner.all_down()
        before = self._others
        self._build()
        for pair in before:
            await pair.listening.stop(answer=True)
            await pair.commands.stop(answer=True)
        self._home.listening.again()
        self._home.commands.again()
        for pair in self._others:
            pair.commands.begin()
            pair.listening.begin()
