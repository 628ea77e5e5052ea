"""The rooms that a node has subscribed to: in their order, without a hole, or with a word about it.

A broker passes on here what its server sends. A publication with an offset is delivered after the
one before it: what is missing is read from the history first. Where there is no history, or some of
it is gone, the room's members are told that they may have missed messages. Each room is in a state:

    subscribing -> live -> (the link broke) -> stale -> catching up -> live
                    ^                                        |
                    +----------------------------------------+

What is published to a room that is catching up is kept until what was missed is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from tidegate.core.codes import BACKPLANE_DOWN
from tidegate.core.messaging.history import Page, Position

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, Receiver
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules

__all__ = ["Following", "Read", "RoomState", "Subscription"]

_MOST_KEPT: Final = 1 << 20
_OVERHEAD: Final = 256
_MOST_MISSED: Final = 10_000
_AGAIN_SECONDS: Final = 0.1

Read: TypeAlias = "Callable[[str, Position | None, int, Callable[[Page | Fault], None]], None]"
"""Reads a room's history: after a position, so many messages. Without one, only where it is now."""


class RoomState(Enum):
    """How far a subscription is."""

    SUBSCRIBING = auto()
    LIVE = auto()
    STALE = auto()
    CATCHING_UP = auto()


class Subscription:
    """One room that this node is subscribed to."""

    __slots__ = ("done", "kept", "last", "lost", "room", "size", "state")

    def __init__(self, room: str, done: Done) -> None:
        self.room = room
        self.done: Done | None = done
        self.state = RoomState.SUBSCRIBING
        self.last: Position | None = None
        """The position of the last message that was delivered, or at which it was subscribed; None
        where the room has no history, or as long as that is not known."""
        self.kept: list[Publication] = []
        self.size = 0
        self.lost = False
        """Whether more came while it caught up than is kept."""

    def keep(self, publication: Publication) -> None:
        """Keep what came while it catches up."""
        self.size += _OVERHEAD + len(publication.data)
        if self.size > _MOST_KEPT:
            self.lost = True
            self.kept.clear()
            self.size = 0
        self.kept.append(publication)

    def take(self) -> list[Publication]:
        """Return what was kept, once."""
        kept, self.kept = self.kept, []
        self.size = 0
        self.lost = False
        return kept


class Following:
    """The subscriptions of a node.

    Args:
        rules: which rooms keep a history.
        read: reads it.
    """

    _receiver: Receiver

    def __init__(self, rules: Rules, read: Read) -> None:
        self._rules = rules
        self._read = read
        self.rooms: dict[str, Subscription] = {}

    def start(self, receiver: Receiver) -> None:
        """Deliver to this receiver."""
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()

    def keeps(self, room: str) -> bool:
        """Whether a room has a history."""
        return self._rules.some and self._rules.of(room).history_size > 0

    def add(self, room: str, done: Done) -> None:
        """Begin with a room; `done` is told when it is subscribed, or why it cannot be."""
        self.rooms[room] = Subscription(room, done)

    def remove(self, room: str) -> bool:
        """End a room; whether there was a subscription."""
        return self.rooms.pop(room, None) is not None

    def subscribed(self, room: str) -> Subscription | None:
        """The server has confirmed a subscription; the one of a room with a history that is new."""
        subscription = self.rooms.get(room)
        if subscription is None:
            return None
        if subscription.state is RoomState.STALE:
            self._catch_up(subscription)
            return None
        done, subscription.done = subscription.done, None
        if done is None:
            return None
        subscription.state = RoomState.LIVE
        done(None)
        return subscription if self.keeps(room) else None

    def refused(self, room: str) -> None:
        """The server does not take a subscription, so the room's members get nothing."""
        subscription = self.rooms.get(room)
        if subscription is None:
            return
        done, subscription.done = subscription.done, None
        if done is None:
            self._receiver.missed(room)
        else:
            del self.rooms[room]
            done(BACKPLANE_DOWN)

    def down(self, covers: Callable[[str], bool] = lambda _: True) -> None:
        """There is no link any more, for these rooms: what is published now is missed."""
        for room, subscription in tuple(self.rooms.items()):
            if not covers(room):
                continue
            done, subscription.done = subscription.done, None
            if done is not None:
                del self.rooms[room]
                done(BACKPLANE_DOWN)
            else:
                subscription.state = RoomState.STALE

    def published(self, publication: Publication) -> None:
        """The server sends a publication to a room. HOT."""
        subscription = self.rooms.get(publication.room)
        if subscription is None:
            return
        if not publication.offset:
            self._deliver(publication)
        elif subscription.state in (RoomState.STALE, RoomState.CATCHING_UP):
            subscription.keep(publication)
        else:
            self._deliver_next(subscription, publication)

    def reached(self, room: str, position: Position) -> None:
        """The server says where a room is: something may be missing up to there."""
        subscription = self.rooms.get(room)
        if subscription is not None and subscription.state is RoomState.LIVE:
            last = subscription.last
            if last is not None and position.epoch == last.epoch and position.offset > last.offset:
                self._catch_up(subscription)

    def doubt(self) -> None:
        """Something may be missing in any room with a history: look."""
        for subscription in tuple(self.rooms.values()):
            if subscription.state is RoomState.LIVE and self.keeps(subscription.room):
                self._catch_up(subscription)

    def _deliver(self, publication: Publication) -> None:
        if self._receiver.deliver(publication) is not None:
            self._receiver.missed(publication.room)

    def _deliver_next(self, subscription: Subscription, publication: Publication) -> None:
        """Deliver one that has an offset, if it is the next one."""
        last = subscription.last
        here = Position(publication.epoch, publication.offset)
        if last is not None:
            if here.epoch == last.epoch and here.offset <= last.offset:
                return  # it was read from the history already
            if here.epoch != last.epoch or here.offset != last.offset + 1:
                subscription.keep(publication)
                self._catch_up(subscription)
                return
        if self._receiver.deliver(publication) is None:
            subscription.last = here
        elif last is None:
            self._receiver.missed(subscription.room)
        else:  # too much waits to be sent: it comes a little later, from the history
            subscription.state = RoomState.CATCHING_UP
            self._loop.call_later(_AGAIN_SECONDS, partial(self._catch_up, subscription))

    # Catching up.

    def _catch_up(self, subscription: Subscription) -> None:
        """Read what a room was sent while the link was down, and go on from there."""
        room = subscription.room
        if self.rooms.get(room) is not subscription:
            return
        last = subscription.last
        if last is None and not self.keeps(room):
            subscription.state = RoomState.LIVE
            self._receiver.missed(room)
            for publication in subscription.take():
                self._deliver(publication)
            return
        subscription.state = RoomState.CATCHING_UP
        limit = 0 if last is None else _MOST_MISSED
        self._read(room, last, limit, partial(self._caught_up, subscription, last))

    def _caught_up(
        self, subscription: Subscription, last: Position | None, page: Page | Fault
    ) -> None:
        room = subscription.room
        if (
            self.rooms.get(room) is not subscription
            or subscription.state is not RoomState.CATCHING_UP
        ):
            return
        if not isinstance(page, Page):
            self._loop.call_later(_AGAIN_SECONDS, partial(self._catch_up, subscription))
            return
        lost = subscription.lost or last is None or not page.recovered
        subscription.state = RoomState.LIVE
        kept = subscription.take()
        if lost:
            first = kept[0] if kept else None
            subscription.last = (
                page.position if first is None else Position(first.epoch, first.offset - 1)
            )
            self._receiver.missed(room)
        for publication in (*(() if lost else page.publications), *kept):
            if subscription.state is RoomState.LIVE:
                self._deliver_next(subscription, publication)
            else:
                subscription.keep(publication)
        behind = subscription.last is not None and subscription.last.offset < page.position.offset
        if behind and subscription.state is RoomState.LIVE:
            self._catch_up(subscription)  # there was more than is read together
