"""The two connections of a node to its server, and what the parts of the backplane do with them.

One is for commands, one subscribes: to some channels for as long as the node runs (`hear`), and to
those of the rooms that have members here. In a cluster there are two to each shard, and channels
are those of sharded pub/sub.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.backplane.redis.link import Link, LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS, SHARDED
from tidegate.backplane.redis.servers import cluster_of, connector_of, unreachable
from tidegate.backplane.redis.shards import Pair, Shards
from tidegate.backplane.traffic import Traffic

if TYPE_CHECKING:
    from tidegate.backplane.redis.channels import Covers, RoomChannels
    from tidegate.backplane.redis.cluster import Cluster
    from tidegate.backplane.redis.link import Answer
    from tidegate.backplane.redis.scripts import Script
    from tidegate.backplane.redis.servers import Connector
    from tidegate.core.settings import BackplaneSettings

__all__ = ["Links", "links_of"]

_log = logging.getLogger("tidegate")


class Links:
    """The connections of one node.

    Args:
        connector: makes connections to the server.
        settings: the prefix of all names, and how long an answer may take.
        node: the name of this node: no other one has it.
        cluster: None for one server; else `connector` is not used.
    """

    def __init__(
        self,
        connector: Connector,
        settings: BackplaneSettings,
        node: str,
        cluster: Cluster | None = None,
    ) -> None:
        self.node = node
        self.timeout = settings.timeout
        # Names with the same part in braces are in the same slot of a cluster. An empty part would
        # be none, hence the letter.
        self._prefix = f"{{{settings.prefix}}}:" if cluster else f"{settings.prefix}:"
        self._room_prefix = f"{settings.prefix}:{{{'r' if cluster else ''}"
        self._sharded = "S" if cluster else ""
        self._cut = len(self._room_prefix.encode())
        self.traffic = Traffic()
        """Counts what goes over them."""
        if cluster is not None:
            home_slot = cluster.slot(self._prefix)
            connector = cluster.connect_to(home_slot)
        self.commands = self.link(connector, "command", self._commands_up, self._commands_down)
        self.listening = self.link(
            connector, "subscription", self._listening_up, self._listening_down, hears=True
        )
        self._shards: Shards | None = None
        if cluster is not None:
            home = Pair(self.commands, self.listening)
            self._shards = Shards(cluster, home, home_slot, self)
        self._ups: list[Callable[[], None]] = []
        self._downs: list[Callable[[], None]] = []
        self._heard_again: list[Callable[[], None]] = []
        self._ends: list[Callable[[], None]] = []
        self._handlers: dict[bytes, Callable[[bytes], None]] = {}
        self._unconfirmed: set[bytes] = set()
        self._rooms: RoomChannels | None = None
        self._heard = asyncio.Event()
        self._started = False

    # What parts want, before the start.

    def name(self, *parts: str) -> bytes:
        """Return the name of a key or a channel."""
        return (self._prefix + ":".join(parts)).encode()

    def room(self, room: str) -> bytes:
        """Return the name of a room's channel, with which the names of its keys begin.

        It has braces, so that a cluster keeps all of them on the same server.
        """
        return f"{self._room_prefix}{room}}}".encode()

    def room_of(self, channel: bytes) -> str:
        """Return the room of a channel. HOT."""
        return channel[self._cut : -1].decode()

    def watch(
        self,
        up: Callable[[], None] = lambda: None,
        down: Callable[[], None] = lambda: None,
        heard: Callable[[], None] = lambda: None,
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Be told of each connection for commands, and of its end.

        Args:
            up: called when there is one, before anything else is sent on it.
            down: called when there is none any more.
            heard: called when the node hears all that is sent to it and can send: at the start, and
                after each time in which it may have missed something.
            stopped: called at the end.
        """
        self._ups.append(up)
        self._downs.append(down)
        self._heard_again.append(heard)
        self._ends.append(stopped)

    def hear(self, channel: bytes, handler: Callable[[bytes], None]) -> None:
        """Be subscribed to a channel for as long as there is a connection."""
        self._handlers[channel] = handler

    def serve(self, rooms: RoomChannels) -> None:
        """Give what concerns all other channels to this one."""
        self._rooms = rooms

    # Life.

    async def start(self) -> None:
        """Connect.

        Raises:
            BackplaneError: the server cannot be reached.
        """
        if self._started:
            return
        self._started = True
        if self._shards is not None:
            await self._shards.start()
        await self.commands.start()
        await self.listening.start()
        asked = asyncio.Event()
        try:
            async with asyncio.timeout(self.timeout):
                await self._heard.wait()
                # What parts have asked for at the start is answered before this is.
                self.commands.ask("PING", answer=lambda _: asked.set())
                await asked.wait()
        except TimeoutError as error:
            raise unreachable(error) from error

    async def stop(self) -> None:
        """End the connections, and call nobody any more."""
        for end in self._ends:
            end()
        if self._shards is not None:
            await self._shards.stop()
        await self.listening.stop()
        await self.commands.stop()

    @property
    def up(self) -> bool:
        """Whether it can send, and hears what others send."""
        return self.commands.open and self._heard.is_set()

    # Commands.

    def of(self, name: bytes | str) -> Link:
        """Return the link for commands on the server that has a key. HOT."""
        return self.commands if self._shards is None else self._shards.of(name).commands

    def hears(self, channel: bytes) -> Link:
        """Return the link that subscribes to a room's channel. HOT."""
        return self.listening if self._shards is None else self._shards.of(channel).listening

    def publish(self, channel: bytes, data: bytes, answer: Answer) -> None:
        """Publish to a channel. HOT."""
        self.of(channel).ask(self._sharded + "PUBLISH", channel, data, answer=answer)

    def subscribe(self, channels: Iterable[bytes]) -> None:
        """Subscribe to channels of rooms; what comes of it is told to those who `serve` them."""
        if self._shards is None:
            self.listening.tell("SUBSCRIBE", *channels)
            return
        for channel in channels:  # one command is for one slot
            self.hears(channel).tell("SSUBSCRIBE", channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Leave the channel of a room."""
        self.hears(channel).tell(self._sharded + "UNSUBSCRIBE", channel)

    def run(
        self, script: Script, keys: Sequence[bytes | str], *arguments: Any, answer: Answer
    ) -> None:
        """Run a script; one that the server has forgotten is given again. HOT."""
        if self._shards is not None:
            script = SHARDED[script]
        self.of(keys[0]).ask(
            "EVALSHA",
            script.sha,
            len(keys),
            *keys,
            *arguments,
            answer=lambda found: self._ran(script, keys, arguments, answer, found),
        )

    def _ran(
        self,
        script: Script,
        keys: Sequence[bytes | str],
        arguments: tuple[Any, ...],
        answer: Answer,
        found: Any,
    ) -> None:
        if isinstance(found, Exception) and str(found).startswith("No matching script"):
            self.of(keys[0]).ask("EVAL", script.text, len(keys), *keys, *arguments, answer=answer)
        else:
            answer(found)

    def _commands_up(self) -> None:
        self.load(self.commands)
        if self._shards is not None:
            self._shards.follow(Pair(self.commands, self.listening))
        for up in self._ups:
            up()
        if self._heard.is_set():
            self._tell_heard()

    def _commands_down(self) -> None:
        for down in self._downs:
            down()

    # What is sent to this node.

    def _listening_up(self) -> None:
        """There is a link again: subscribe to everything."""
        self._unconfirmed = set(self._handlers)
        self.listening.tell(self._sharded + "SUBSCRIBE", *self._handlers)
        self.rooms_up(self.listening)

    def _listening_down(self) -> None:
        self._heard.clear()
        self.rooms_down(self.listening)

    def _pushed(self, pushed: list[Any]) -> None:
        """The server sends something on the link that subscribes. HOT."""
        kind, channel, data = pushed
        handler = self._handlers.get(channel)
        if kind in (b"message", b"smessage"):
            self.traffic.received += 1
            self.traffic.bytes_received += len(data)
            try:
                if handler is not None:
                    handler(data)
                elif self._rooms is not None:
                    self._rooms.published(channel, data)
            except (msgspec.DecodeError, ValueError) as error:
                _log.warning("the backplane sent what no node sends: %s", error)
        elif kind in (b"subscribe", b"ssubscribe"):
            if handler is None:
                if self._rooms is not None:
                    self._rooms.confirmed(channel)
            else:
                self._hears(channel)
        elif kind == b"sunsubscribe" and (handler is not None or self._wants(channel)):
            self.hears(channel).again()  # the slot is elsewhere, or this is a replica now

    def _wants(self, channel: bytes) -> bool:
        return self._rooms is not None and self._rooms.wants(channel)

    def _hears(self, channel: bytes) -> None:
        self._unconfirmed.discard(channel)
        if not self._unconfirmed and not self._heard.is_set():
            self._heard.set()
            if self.commands.open:
                self._tell_heard()

    # What shards want (`shards.Owner`).

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
        return Link(
            connector,
            name,
            self.timeout,
            up=up,
            down=down,
            pushed=self._pushed if hears else None,
            traffic=self.traffic,
        )

    def load(self, link: Link) -> None:
        """Give all scripts to a server."""
        for script in SCRIPTS.values():
            text = script.text if self._shards is None else SHARDED[script].text
            link.ask("SCRIPT", "LOAD", text, answer=_loaded)

    def rooms_up(self, listening: Link) -> None:
        """Subscribe to the rooms of a link."""
        if self._rooms is not None:
            self._rooms.listening_up(self._covered_by(listening))

    def rooms_down(self, listening: Link) -> None:
        """Nothing comes for the rooms of a link."""
        if self._rooms is not None:
            self._rooms.listening_down(self._covered_by(listening))

    def all_down(self) -> None:
        """Nothing comes for any room."""
        if self._rooms is not None:
            self._rooms.listening_down(lambda _: True)

    def heard_again(self) -> None:
        """Something may have been missed, and can be read now."""
        if self.up:
            self._tell_heard()

    def _covered_by(self, link: Link) -> Covers:
        return lambda room: self.hears(self.room(room)) is link

    def _tell_heard(self) -> None:
        for heard in self._heard_again:
            heard()


def links_of(url: str, settings: BackplaneSettings, node: str) -> Links:
    """Return the links to the server, or the cluster, of a URL.

    Args:
        url: valid by the settings.
        settings: the prefix of all names, and how long an answer may take.
        node: the name of this node: no other one has it.

    Raises:
        ConfigError: redis-py is missing.
    """
    timeout = settings.timeout
    cluster = cluster_of(url, timeout)
    return Links(connector_of(url, timeout), settings, node, cluster)


def _loaded(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.error("the backplane does not take scripts: %s", answer)
