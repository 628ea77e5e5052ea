"""Publications and direct messages over Kafka.

All are records of one topic. A room's are in one partition, which its name decides, so they have
one order; those of a user, and those to all, likewise. Every node reads all partitions and delivers
what is sent to its rooms and users. A subscription is a matter of the node alone.

No room has a history here. But the log remembers for a while: a node whose link has ended reads on
from where it was, so its members miss nothing, and are told nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import time
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from tidegate.backplane.envelopes import (
    open_direct,
    open_publication,
    pack_direct,
    pack_publication,
)
from tidegate.backplane.kafka.link import Link
from tidegate.backplane.kafka.servers import client_options
from tidegate.backplane.traffic import Traffic
from tidegate.core.codes import BACKPLANE_DOWN, NO_HISTORY
from tidegate.core.messaging.publication import Direct

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, HistoryQuery, Receiver
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Page
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import BackplaneSettings, Settings

__all__ = ["KafkaBackplane", "KafkaBroker"]

_log = logging.getLogger("tidegate")

_ROOM: Final = b"room:"
_USER: Final = b"user:"
_ALL: Final = b"all:"


class KafkaBroker:
    """The broker of a node in a fleet.

    Args:
        url: of the servers, valid by the settings.
        settings: the prefix of the topic, how long an answer may take, and on how many servers a
            new topic is kept.
        rules: which rooms have times in their messages.
        node: the name of this node: no other one has it.

    Raises:
        ConfigError: aiokafka is missing, or the file of the URL cannot be read.
    """

    _receiver: Receiver

    def __init__(self, url: str, settings: BackplaneSettings, rules: Rules, node: str) -> None:
        self._rules = rules
        self._node = node
        self.traffic = Traffic()
        options = client_options(url, "backplane.url")
        # It writes a line for every attempt of a link that is down, and we write that it is down.
        library = logging.getLogger("aiokafka")
        if library.level == logging.NOTSET:
            library.setLevel(logging.CRITICAL)
        self._link = Link(
            {**options, "client_id": f"tidegate-{node}"},
            f"{settings.prefix}.messages",
            settings.replicas,
            settings.timeout,
            self.traffic,
            down=self._down,
            record=self._record,
            lost=self._lost,
        )
        self._rooms: dict[bytes, str] = {}
        """The rooms of this node, by the keys of their records."""
        self._number = 0
        self._sending: dict[int, Callable[[int], None]] = {}

    async def start(self, receiver: Receiver, /) -> None:
        """Connect, and deliver to this receiver.

        Raises:
            BackplaneError: no server can be reached, or the topic cannot be made.
        """
        self._receiver = receiver
        await self._link.start()

    async def stop(self) -> None:
        """End the connection."""
        self._rooms.clear()
        self._sending.clear()
        await self._link.stop()

    @property
    def up(self) -> bool:
        """Whether it can send, and has got what others have sent."""
        return self._link.heard

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""
        return len(self._rooms)

    # In.

    def subscribe(self, room: str, done: Done, /) -> None:
        """Deliver what comes for a room. What was missed is read first: it came before this."""
        if not self._link.heard:
            self.traffic.errors["down"] += 1
            done(BACKPLANE_DOWN)
            return
        self._rooms[_key(_ROOM, room)] = room
        done(None)

    def unsubscribe(self, room: str, /) -> None:
        """Deliver nothing more of a room."""
        self._rooms.pop(_key(_ROOM, room), None)

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Publish to a room. HOT."""
        room = publication.room
        if self._rules.some and self._rules.of(room).timestamp:
            publication.timestamp = round(time(), 3)
        self._send(_key(_ROOM, room), pack_publication(publication), done)

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections of this one."""
        self._to_nodes(_key(_USER, message.user), message, done)

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections of this one."""
        self._to_nodes(_ALL, message, done)

    def history(
        self,
        room: str,  # noqa: ARG002
        query: HistoryQuery,  # noqa: ARG002
        done: Callable[[Page | Fault], None],
        /,
    ) -> None:
        """Say that there is none."""
        done(NO_HISTORY)

    def _to_nodes(
        self, key: bytes, message: Direct | Publication, done: Callable[[int], None]
    ) -> None:
        """Publish to all nodes. Those of this one are counted when it comes back."""
        if not self.up:
            self.traffic.errors["down"] += 1
            done(0)
            return
        self._number = number = self._number + 1
        self._sending[number] = done

        def sent(fault: Fault | None) -> None:
            if fault is not None:
                self._delivered(number, 0)

        self._send(key, pack_direct(self._node, number, message), sent)

    def _delivered(self, number: int, count: int) -> None:
        done = self._sending.pop(number, None)
        if done is not None:
            done(count)

    def _send(self, key: bytes, data: bytes, done: Done) -> None:
        sending = self._link.sending
        if sending is None:
            self.traffic.errors["down"] += 1
            done(BACKPLANE_DOWN)
        else:
            sending.send(crc32(key) % self._link.partitions, key, data, done)

    # Out.

    def _down(self) -> None:
        for number in tuple(self._sending):
            self._delivered(number, 0)

    def _lost(self, partitions: Iterable[int] | None) -> None:
        """Messages of these partitions, or of all, are gone before they were read."""
        _log.warning("the backplane does not have any more what this node has missed")
        for key, room in tuple(self._rooms.items()):
            if partitions is None or crc32(key) % self._link.partitions in partitions:
                self._receiver.missed(room)
        self._receiver.missed_directs()

    def _record(self, key: bytes, data: bytes) -> None:
        """A record has come. HOT."""
        room = self._rooms.get(key)
        try:
            if room is not None:
                if self._receiver.deliver(open_publication(room, "", 0, data)) is not None:
                    self._receiver.missed(room)
            elif not key.startswith(_ROOM):
                self._direct(data)
        except (msgspec.DecodeError, ValueError) as error:
            _log.warning("the backplane sent what no node sends: %s", error)

    def _direct(self, data: bytes) -> None:
        direction, message = open_direct(data)
        if isinstance(message, Direct):
            count = self._receiver.deliver_to_user(message)
        else:
            count = self._receiver.deliver_to_all(message)
        if direction.node == self._node:
            self._delivered(direction.number, count)


class KafkaBackplane:
    """All that Kafka does for a node: it carries messages."""

    orders = presence = sessions = nodes = revocations = None

    def __init__(self, url: str, settings: Settings, rules: Rules, node: str) -> None:
        self.broker = KafkaBroker(url, settings.backplane, rules, node)
        self.traffic = self.broker.traffic

    @property
    def up(self) -> bool:
        """Whether it can be reached, and this node hears the others."""
        return self.broker.up

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""
        return self.broker.subscriptions


def _key(kind: bytes, name: str) -> bytes:
    return kind + name.encode("utf-8", "surrogatepass")
