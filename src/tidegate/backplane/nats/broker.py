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
import re
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Final

import msgspec

from tidegate.backplane.envelopes import (
    open_direct,
    open_publication,
    pack_direct,
    pack_publication,
)
from tidegate.backplane.following import Following, RoomState
from tidegate.backplane.nats.batches import Batch, Head
from tidegate.backplane.nats.histories import Histories
from tidegate.backplane.nats.link import Link
from tidegate.backplane.nats.reads import Reads
from tidegate.backplane.nats.servers import Servers, unreachable
from tidegate.backplane.nats.stream import Stream
from tidegate.backplane.nats.subjects import token
from tidegate.core.codes import BACKPLANE_DOWN, NO_HISTORY, TOO_BIG
from tidegate.core.messaging.history import Position
from tidegate.core.messaging.publication import Direct

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, HistoryQuery, Receiver
    from tidegate.backplane.nats.wire import Message
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Page
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import BackplaneSettings

__all__ = ["NatsBroker"]

_log = logging.getLogger("tidegate")

_TICK_SECONDS: Final = 0.25
_SUBJECT: Final = re.compile(r'subscription to "([^"]*)"', re.IGNORECASE)


class NatsBroker:
    """The broker of a node in a fleet.

    Args:
        servers: makes connections.
        settings: the prefix of all subjects, how long an answer may take, and on how many servers
            histories are kept.
        rules: which rooms keep a history.
        node: the name of this node: no other one has it.
    """

    _receiver: Receiver

    def __init__(
        self, servers: Servers, settings: BackplaneSettings, rules: Rules, node: str
    ) -> None:
        prefix = token(settings.prefix)
        self._rules = rules
        self._node = node
        self._timeout = settings.timeout
        self._room = f"{prefix}.room."
        self._all = f"{prefix}.all"
        self._link = Link(
            servers,
            prefix,
            settings.timeout,
            up=self._up,
            down=self._down,
            message=self._message,
            refused=self._refused,
        )
        self._stream = Stream(self._link, prefix, rules, settings.replicas)
        self._histories = Histories(self._link, self._stream, rules)
        self._reads = Reads(self._link, self._stream, self._histories, rules)
        self._following = Following(rules, self._reads.read)
        self._numbers: dict[str, int] = {}
        self._subscribed: dict[int, str] = {}
        """The room of each subscription; of one to all nodes it is empty."""
        self._elections = -1
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False
        self._problem = ""
        self._sent = 0
        self._sending: dict[int, Callable[[int], None]] = {}
        self._taken: list[Done] = []

    async def start(self, receiver: Receiver, /) -> None:
        """Connect, and deliver to this receiver.

        Raises:
            BackplaneError: the server cannot be reached, or cannot keep the histories.
        """
        self._receiver = receiver
        self._problem = ""
        self._following.start(receiver)
        self._loop = asyncio.get_running_loop()
        await self._link.start()
        heard: asyncio.Future[Exception | None] = self._loop.create_future()
        self._link.confirm(heard.set_result)
        problem = await heard
        if problem is not None or self._problem:
            raise unreachable(problem or ConnectionError(self._problem))
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
        self._sending.clear()
        self._taken.clear()
        await self._stream.stop()
        await self._link.stop()

    @property
    def up(self) -> bool:
        """Whether it can send and gets what others send."""
        return self._link.open and self._heard

    # In.

    def subscribe(self, room: str, done: Done, /) -> None:
        """Subscribe to a room's subject."""
        if not self._link.open:
            done(BACKPLANE_DOWN)
            return
        self._following.add(room, done)
        self._subscribe(room)

    def unsubscribe(self, room: str, /) -> None:
        """Leave a room's subject."""
        if self._following.remove(room):
            number = self._numbers.pop(room, None)
            if number is not None:
                del self._subscribed[number]
                self._link.unsubscribe(number)

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Publish, and keep it where its room has a history. HOT."""
        room = publication.room
        if self._rules.some:
            rule = self._rules.of(room)
            if rule.timestamp:
                publication.timestamp = round(time(), 3)
            if rule.history_size:
                self._histories.publish(publication, rule.history_size, done)
                return
        self._send(self._room + token(room), pack_publication(publication), done)

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections of this one."""
        self._to_nodes(message, done)

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections of this one."""
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
        self._sent = number = self._sent + 1
        self._sending[number] = done

        def sent(fault: Fault | None) -> None:
            if fault is not None:
                self._delivered(number, 0)

        self._send(self._all, pack_direct(self._node, number, message), sent)

    def _delivered(self, number: int, count: int) -> None:
        done = self._sending.pop(number, None)
        if done is not None:
            done(count)

    def _send(self, subject: str, data: bytes, done: Done) -> None:
        """Publish something. It is done when the server answers the PING of this turn."""
        link = self._link
        if not link.open:
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
        self._subscribed[self._link.subscribe(self._all)] = ""
        if self._rules.history_size:
            self._elections = self._link.subscribe(self._stream.elections)
        self._heard = True
        for room in self._following.rooms:
            self._subscribe(room)

    def _down(self) -> None:
        self._heard = False
        self._numbers.clear()
        for number in tuple(self._sending):
            self._delivered(number, 0)
        self._following.down()

    def _refused(self, text: str) -> None:
        """The server does not permit something; it says only on which subject."""
        _log.warning("the backplane does not permit: %s", text)
        found = _SUBJECT.search(text)
        if found is None:
            return
        if found[1] == self._all:
            self._problem = text
        for room in self._following.rooms:
            if self._room + token(room) == found[1]:
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
        try:
            if not room:
                self._direct(message.data)
            elif message.head:
                self._kept(room, message)
            else:
                self._following.published(open_publication(room, "", 0, message.data))
        except (msgspec.DecodeError, ValueError) as error:
            _log.warning("the backplane sent what no node sends: %s", error)

    def _kept(self, room: str, message: Message) -> None:
        """Messages that JetStream has taken."""
        batch = Batch.of(message.data)
        sequence = int(message.header(b"Nats-Sequence"))
        self._histories.learn(room, batch.epoch, batch.last, sequence)
        for publication in batch.publications(room):
            self._following.published(publication)
        if not batch.envelopes:
            self._following.reached(room, Position(batch.epoch, batch.last))

    def _direct(self, data: bytes) -> None:
        direction, message = open_direct(data)
        if isinstance(message, Direct):
            count = self._receiver.deliver_to_user(message)
        else:
            count = self._receiver.deliver_to_all(message)
        if direction.node == self._node:
            self._delivered(direction.number, count)
