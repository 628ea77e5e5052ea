"""Publications and direct messages over NATS.

A room is a subject, to which a node subscribes with its first member there. What is published to a
room without a history goes there at once, and is acknowledged when the server has taken it. What is
published to a room with one goes to JetStream, which publishes it there when it is kept.

So a node sees by the offsets whether it has missed something, and reads that from JetStream. Where
there is no history, or some of it is gone, the members are told that they may have missed messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Final

from tidegate.backplane.envelopes import (
    open_direct,
    open_publication,
    pack_direct,
    pack_publication,
)
from tidegate.backplane.following import Following, RoomState
from tidegate.backplane.nats.batches import Batch, Head
from tidegate.backplane.nats.counts import Counts
from tidegate.backplane.nats.histories import Histories
from tidegate.backplane.nats.reads import Reads
from tidegate.backplane.nats.servers import unreachable
from tidegate.backplane.nats.stream import HistoryStream
from tidegate.backplane.nats.subjects import token
from tidegate.backplane.presence import PRESENCE
from tidegate.core.codes import BACKPLANE_DOWN, NO_HISTORY, TOO_BIG
from tidegate.core.messaging.history import Position
from tidegate.core.messaging.publication import Direct

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, HistoryQuery, Receiver
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.peers import Peers
    from tidegate.backplane.nats.presence import NatsPresence
    from tidegate.backplane.nats.wire import Message
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Page
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules

__all__ = ["NatsBroker"]

_log = logging.getLogger("tidegate")

_TICK_SECONDS: Final = 0.25


class NatsBroker:
    """The broker of a node in a fleet.

    Args:
        bus: the connection to the server.
        rules: which rooms keep a history.
        replicas: on how many servers histories are kept.
        peers: knows which nodes there are; None to count the connections of this node only.
        presence: is told what concerns it of rooms; None for no presence.
    """

    _receiver: Receiver

    def __init__(
        self,
        bus: Bus,
        rules: Rules,
        replicas: int,
        peers: Peers | None = None,
        presence: NatsPresence | None = None,
    ) -> None:
        self._bus = bus
        self._link = bus.link
        self._traffic = bus.traffic
        self._rules = rules
        self._presence = presence
        self._room = f"{bus.prefix}.room."
        self._all = bus.name("all")
        self._stream = HistoryStream(bus.link, bus.prefix, rules, replicas)
        self._histories = Histories(self._link, self._stream, rules)
        self._reads = Reads(self._link, self._stream, self._histories, rules)
        self._following = Following(rules, self._reads.read)
        self._counts = Counts(bus, peers)
        self._numbers: dict[str, int] = {}
        self._subscribed: dict[int, str] = {}
        """The room of each subscription."""
        self._elections = -1
        self._was_down = False
        self._timer: asyncio.TimerHandle | None = None
        self._taken: list[Done] = []
        bus.serve(self._message, self._refused)
        bus.hear(self._all, self._direct)
        bus.watch(up=self._up, down=self._down, heard=self._heard)

    async def start(self, receiver: Receiver, /) -> None:
        """Connect, and deliver to this receiver.

        Raises:
            BackplaneError: the server cannot be reached, or cannot keep the histories.
        """
        self._receiver = receiver
        self._was_down = False
        self._following.start(receiver)
        self._loop = asyncio.get_running_loop()
        await self._bus.start()
        if self._rules.history_size:
            try:
                await self._stream.prepare()
            except (ConnectionError, TimeoutError) as error:
                raise unreachable(error) from error
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    async def stop(self) -> None:
        """End the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._following.rooms.clear()
        self._taken.clear()
        await self._stream.stop()
        await self._bus.stop()

    @property
    def up(self) -> bool:
        """Whether it can send and gets what others send."""
        return self._bus.up

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""
        return len(self._following.rooms)

    # In.

    def subscribe(self, room: str, done: Done, /) -> None:
        """Subscribe to a room's subject."""
        if not self._link.open:
            done(BACKPLANE_DOWN)
            return
        if self._presence is not None:
            done = self._presence.entering(room, done)
        self._following.add(room, done)
        self._subscribe(room)

    def unsubscribe(self, room: str, /) -> None:
        """Leave a room's subject."""
        if self._following.remove(room):
            if self._presence is not None:
                self._presence.left(room)
            number = self._numbers.pop(room, None)
            if number is not None:
                del self._subscribed[number]
                self._link.unsubscribe(number)

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Publish, and keep it where its room has a history. HOT."""
        room = publication.room
        self._traffic.published += 1
        if self._rules.some:
            rule = self._rules.of(room)
            if rule.timestamp:
                publication.timestamp = round(time(), 3)
            if rule.history_size:
                self._histories.publish(publication, rule.history_size, done)
                return
        self._send(self._room + token(room), pack_publication(publication), done)

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections."""
        self._to_nodes(message, done)

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections."""
        self._to_nodes(message, done)

    def history(
        self, room: str, query: HistoryQuery, done: Callable[[Page | Fault], None], /
    ) -> None:
        """Read a part of a room's history."""
        size = self._rules.of(room).history_size
        if not size:
            done(NO_HISTORY)
            return
        self._reads.read(room, query.since, min(query.limit, size), done)

    def _to_nodes(self, message: Direct | Publication, done: Callable[[int], None]) -> None:
        """Publish to all nodes. Those of this one are counted when it comes back."""
        if not self.up:
            done(0)
            return
        self._traffic.published += 1
        number = self._counts.begin(done)

        def sent(fault: Fault | None) -> None:
            if fault is not None:
                self._counts.failed(number)

        self._send(self._all, pack_direct(self._bus.node, number, message), sent)

    def _send(self, subject: str, data: bytes, done: Done) -> None:
        """Publish something. It is done when the server answers the PING of this turn."""
        link = self._link
        if not link.open:
            self._traffic.errors["down"] += 1
            done(BACKPLANE_DOWN)
            return
        if len(data) > link.largest:
            done(TOO_BIG)
            return
        link.publish(subject, data)
        if not self._taken:
            self._loop.call_soon(self._confirm)
        self._taken.append(done)

    def _confirm(self) -> None:
        taken, self._taken = self._taken, []

        def confirmed(error: Exception | None) -> None:
            fault = None if error is None else BACKPLANE_DOWN
            for done in taken:
                done(fault)

        self._link.confirm(confirmed)

    # Subscriptions.

    def _subscribe(self, room: str) -> None:
        """Subscribe, and find out where the room is once the server has taken that.

        Only then are the members told that they have joined. So what they get begins at a known
        offset, and nothing after it is missed unseen.
        """
        number = self._link.subscribe(self._room + token(room))
        self._numbers[room] = number
        self._subscribed[number] = room

        def confirmed(error: Exception | None) -> None:
            if error is not None or self._numbers.get(room) != number:
                return
            subscription = self._following.rooms[room]
            if subscription.state is RoomState.SUBSCRIBING and self._following.keeps(room):
                self._histories.head(room, found)
            else:
                self._following.subscribed(room)

        def found(head: Head | Fault) -> None:
            if self._numbers.get(room) != number:
                return
            if not isinstance(head, Head):
                self._give_up(room)
                return
            subscription = self._following.rooms[room]
            if subscription.last is None:
                subscription.last = head.position
            self._following.subscribed(room)

        self._link.confirm(confirmed)

    def _give_up(self, room: str) -> None:
        number = self._numbers.pop(room, None)
        if number is None:
            return
        del self._subscribed[number]
        self._link.unsubscribe(number)
        self._following.refused(room)

    def _up(self) -> None:
        """There is a link again: subscribe to everything."""
        self._subscribed.clear()
        self._numbers.clear()
        if self._rules.history_size:
            self._elections = self._link.subscribe(self._stream.elections)
        for room in self._following.rooms:
            self._subscribe(room)

    def _heard(self) -> None:
        if self._was_down:
            self._was_down = False
            self._receiver.missed_directs()

    def _down(self) -> None:
        self._was_down = True
        self._numbers.clear()
        self._following.down()

    def _refused(self, subject: str) -> None:
        """The server does not permit a subscription."""
        for room in self._following.rooms:
            if self._room + token(room) == subject:
                self._give_up(room)
                return

    def _tick(self) -> None:
        if self._link.open:
            self._histories.tick()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    # Out.

    def _message(self, message: Message) -> None:
        """The server sends something. HOT."""
        room = self._subscribed.get(message.sid)
        if room is None:
            if message.sid == self._elections:
                self._following.doubt()
            return  # else it is of a subscription that has ended
        if message.head:
            self._kept(room, message)
        elif message.data.startswith(PRESENCE):
            if self._presence is not None:
                self._presence.told(room, message.data[len(PRESENCE) :])
        else:
            self._following.published(open_publication(room, "", 0, message.data))

    def _kept(self, room: str, message: Message) -> None:
        """Messages that JetStream has taken."""
        batch = Batch.of(message.data)
        sequence = int(message.header(b"Nats-Sequence"))
        self._histories.learn(room, batch.epoch, batch.last, sequence)
        for publication in batch.publications(room):
            self._following.published(publication)
        if not batch.envelopes:
            self._following.reached(room, Position(batch.epoch, batch.last))

    def _direct(self, sent: Message) -> None:
        direction, message = open_direct(sent.data)
        if isinstance(message, Direct):
            count = self._receiver.deliver_to_user(message)
        else:
            count = self._receiver.deliver_to_all(message)
        self._counts.delivered(direction.node, direction.number, count)
