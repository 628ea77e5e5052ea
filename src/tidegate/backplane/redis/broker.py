"""Publications and direct messages over Valkey or Redis.

A room is a channel, to which a node subscribes with its first member there. The server gives a room
its order: one primary handles all that is published to it, one after another.

Where a room keeps a history, one script gives a message its offset, keeps it in a stream and
publishes it. So a node sees by the offsets whether it has missed something, after a link was down
say: it reads that from the stream, and delivers it in its order. Where there is no history, or some
of it is gone, the members are told that they may have missed messages.

Acknowledged is what the server has taken. A server that is restarted, or replaced by a replica, may
have lost the last of these; so a room's epoch is bound to the run of the server, and clients with a
position of an earlier one are told that it cannot be recovered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.envelopes import (
    open_direct,
    open_publication,
    pack_direct,
    pack_publication,
)
from tidegate.backplane.following import Following, Subscription
from tidegate.backplane.presence import PRESENCE
from tidegate.backplane.redis.counts import Counts
from tidegate.backplane.redis.directs import Directs
from tidegate.backplane.redis.streams import Streams, fault_of, page_of
from tidegate.core.codes import BACKPLANE_DOWN, NO_HISTORY
from tidegate.core.messaging.history import Page, Position

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, HistoryQuery, Receiver
    from tidegate.backplane.redis.channels import Covers
    from tidegate.backplane.redis.link import Link
    from tidegate.backplane.redis.links import Links
    from tidegate.backplane.redis.presence import RedisPresence
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.core.messaging.rules import Rules

__all__ = ["RedisBroker"]

_TOGETHER: Final = 500  # channels in one command


class RedisBroker:
    """The broker of a node in a fleet.

    Args:
        links: the connections to the server.
        rules: which rooms keep a history.
        presence: is told what concerns it of rooms and their channels; None for no presence.
    """

    _receiver: Receiver

    def __init__(self, links: Links, rules: Rules, presence: RedisPresence | None = None) -> None:
        self._links = links
        self._presence = presence
        self._rules = rules
        self._traffic = links.traffic
        self._node = links.node
        self._streams = Streams(links)
        self._following = Following(rules, self._read)
        # SUBSCRIBE commands that are not confirmed: a room may be left and joined in between.
        self._unconfirmed: Counter[bytes] = Counter()
        self._unsettled: dict[Link, list[tuple[Subscription, Position]]] = {}
        self._counts = Counts(links)
        links.serve(self)
        self._directs = Directs(links, self._direct, lambda: self._receiver.missed_directs())

    async def start(self, receiver: Receiver, /) -> None:
        """Connect, and deliver to this receiver.

        Raises:
            BackplaneError: the server cannot be reached.
        """
        self._receiver = receiver
        self._following.start(receiver)
        await self._links.start()

    async def stop(self) -> None:
        """End the connections."""
        self._following.rooms.clear()
        self._counts.stop()
        await self._links.stop()

    @property
    def up(self) -> bool:
        """Whether it can send, and gets what others send."""
        return self._links.up

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""
        return len(self._following.rooms)

    # In.

    def subscribe(self, room: str, done: Done, /) -> None:
        """Subscribe to a room's channel."""
        if not self._links.hears(self._channel(room)).open:
            done(BACKPLANE_DOWN)
            return
        if self._presence is not None:
            done = self._presence.entering(room, done)
        self._following.add(room, done)
        self._subscribe((room,))

    def unsubscribe(self, room: str, /) -> None:
        """Leave a room's channel."""
        if self._following.remove(room):
            if self._presence is not None:
                self._presence.left(room)
            self._links.unsubscribe(self._channel(room))

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Publish, and keep it where its room has a history. HOT."""
        room = publication.room
        self._traffic.published += 1
        if self._rules.some:
            rule = self._rules.of(room)
            if rule.timestamp:
                publication.timestamp = round(time(), 3)
            if rule.history_size:
                self._streams.publish(publication, rule, lambda answer: done(fault_of(answer)))
                return
        self._links.publish(
            self._channel(room),
            b"\n" + pack_publication(publication),
            lambda answer: done(fault_of(answer)),
        )

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections of all nodes."""
        self._to_nodes(message, done)

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        """Send a message to every node; `done` is told to how many connections of all nodes."""
        self._to_nodes(message, done)

    def history(
        self, room: str, query: HistoryQuery, done: Callable[[Page | Fault], None], /
    ) -> None:
        """Read a part of a room's stream."""
        rule = self._rules.of(room)
        if not rule.history_size:
            done(NO_HISTORY)
            return
        since, limit = query
        self._streams.read(
            room,
            -1 if since is None else since.offset,
            min(limit, rule.history_size),
            lambda answer: done(page_of(room, answer, since, limit, rule.history_ttl)),
        )

    def _read(
        self, room: str, last: Position | None, limit: int, done: Callable[[Page | Fault], None]
    ) -> None:
        """Read what followed a position."""
        ttl = self._rules.of(room).history_ttl
        after = -1 if last is None else last.offset
        self._streams.read(
            room, after, limit, lambda answer: done(page_of(room, answer, last, limit, ttl))
        )

    def _to_nodes(self, message: Direct | Publication, done: Callable[[int], None]) -> None:
        if not self._links.up:
            done(0)
            return
        self._traffic.published += 1
        number = self._counts.begin(done)
        packed = pack_direct(self._node, number, message)
        answer = partial(self._counts.sent, number)
        self._directs.publish(packed, answer)

    def _channel(self, room: str) -> bytes:
        return self._links.room(room)

    # Subscriptions.

    def _subscribe(self, rooms: Iterable[str]) -> None:
        channels = [self._channel(room) for room in rooms]
        self._unconfirmed.update(channels)
        self._links.subscribe(channels)

    def listening_up(self, covers: Covers, /) -> None:
        """There is a link again: subscribe to its rooms."""
        rooms = [room for room in self._following.rooms if covers(room)]
        for first in range(0, len(rooms), _TOGETHER):
            self._subscribe(rooms[first : first + _TOGETHER])

    def listening_down(self, covers: Covers, /) -> None:
        """The link is down: nothing is delivered, and what is published may be missed."""
        room_of = self._links.room_of
        for channel in [one for one in self._unconfirmed if covers(room_of(one))]:
            del self._unconfirmed[channel]
        self._unsettled.clear()
        if not self._links.up:
            self._counts.lost()
        self._following.down(covers)

    def confirmed(self, channel: bytes, /) -> None:
        """A room's subscription is there, for the first time or again."""
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] > 0:
            return  # this is of a subscription that has ended, and there is a newer one
        del self._unconfirmed[channel]
        subscription = self._following.subscribed(self._links.room_of(channel))
        if subscription is not None:
            self._settle(subscription)

    def wants(self, channel: bytes, /) -> bool:
        """Whether a subscription that the server says has ended is still wanted."""
        room = self._links.room_of(channel)
        return room in self._following.rooms and not self._unconfirmed[channel]

    def _settle(self, subscription: Subscription) -> None:
        """Find out where a room is now, so that it is known later whether something was missed.

        What was published before that has reached this node when the server answers a ping on the
        link that subscribes.
        """

        link = self._links.hears(self._channel(subscription.room))

        def read(answer: Any) -> None:
            if isinstance(answer, Exception):
                return
            unsettled = self._unsettled.setdefault(link, [])
            unsettled.append((subscription, Position(answer[0].decode(), answer[1])))
            if len(unsettled) == 1:
                link.ask("PING", answer=partial(self._settled, link))

        self._streams.read(subscription.room, -1, 0, read)

    def _settled(self, link: Link, answer: Any) -> None:
        settled = self._unsettled.pop(link, [])
        if isinstance(answer, Exception):
            return
        for subscription, position in settled:
            if subscription.last is None:
                subscription.last = position

    # Out.

    def _direct(self, data: bytes) -> None:
        direction, message = open_direct(data)
        if direction.user is None:
            count = self._receiver.deliver_to_all(message)  # type: ignore[arg-type]  # by the user
        else:
            count = self._receiver.deliver_to_user(message)  # type: ignore[arg-type]  # the same
        self._counts.delivered(direction.node, direction.number, count)

    def published(self, channel: bytes, data: bytes, /) -> None:
        """Deliver what was published to a room, if it is the next one. HOT."""
        room = self._links.room_of(channel)
        if room not in self._following.rooms:
            return
        if data.startswith(PRESENCE):
            if self._presence is not None:
                self._presence.told(room, data[len(PRESENCE) :])
            return
        head, _, envelope = data.partition(b"\n")
        epoch, offset = "", 0
        if head:
            first, _, second = head.partition(b" ")
            epoch, offset = first.decode(), int(second)
        self._following.published(open_publication(room, epoch, offset, envelope))
