"""Messages about rooms: `join`, `leave`, `room_message`."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from tidegate.backplane.base import HistoryQuery
from tidegate.core.codes import BROADCAST_OFF, NO_HISTORY, NOT_ALLOWED, NOT_JOINED, ROOM_RATE
from tidegate.core.messaging.history import Page, Position
from tidegate.core.messaging.publication import Publication
from tidegate.node.native.answers import acknowledge, answer, refuse, refuse_early, send
from tidegate.node.native.deltas import FOSSIL
from tidegate.node.recovery import Wanted, fitting
from tidegate.wire.messages import HistoryPage, KeptMessage, PackedToRoom

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.core.codes import Fault
    from tidegate.engine.connection import Connection
    from tidegate.node.hooks import Hooks
    from tidegate.node.native.asking import Asking
    from tidegate.node.native.presence import PresenceMessages
    from tidegate.node.services import Services
    from tidegate.wire.messages import GetHistory, Join, Leave, SendToRoom

__all__ = ["RoomMessages"]


class RoomMessages:
    """Carries out what clients want of rooms."""

    def __init__(
        self,
        services: Services,
        presence: PresenceMessages,
        hooks: Hooks | None = None,
        asking: Asking | None = None,
    ) -> None:
        self.broadcast = True
        """Whether clients may send to rooms."""
        self._rooms = services.rooms
        self._rates = services.room_rates
        self._access = services.access
        self._rules = services.rules
        self._presence = presence
        self._delivery = services.delivery
        self._asking = asking
        self._asked_join = hooks.join if hooks is not None and hooks.asks_join else None
        self._asked_publish = hooks.publish if hooks is not None and hooks.asks_publish else None
        self._told_published = (
            hooks.published if hooks is not None and hooks.tells_published else None
        )

    def join(self, connection: Connection, message: Join) -> None:
        """Put a connection into a room."""
        room = message.room
        if not self._access.may_join(room, connection.user, connection.lease.claims):
            refuse(connection, NOT_ALLOWED, message.id)
            return
        # One that is in as many rooms as it may be has a better reason coming. A history is many
        # messages for one, so a member that asks for it again is charged as well.
        comes = room not in connection.rooms
        if comes and len(connection.rooms) >= self._rooms.per_connection:
            charged = False
        else:
            charged = comes or message.history > 0 or message.since is not UNSET
        if charged and (delay := connection.join_delay()):
            refuse_early(connection, delay, message.id)
            return
        if self._asked_join is None or room in connection.rooms:
            self._join(connection, message)
            return
        assert self._asking is not None
        there = self._asking.begin(connection)
        self._asked_join(connection, room, partial(self._may_join, connection, message, there))

    def _may_join(
        self, connection: Connection, message: Join, there: Callable[[], bool], fault: Fault | None
    ) -> None:
        """The application has answered whether a connection may join."""
        if not there():
            return
        assert self._asking is not None
        if fault is None:
            self._join(connection, message)
        else:
            refuse(connection, fault, message.id)
        self._asking.go_on(connection)

    def _join(self, connection: Connection, message: Join) -> None:
        room = message.room
        if message.history or message.since is not UNSET or self._keeps(room):
            since = None if message.since is UNSET else Position(*astuple(message.since))
            self._delivery.recover(
                connection,
                room,
                Wanted(since, int(message.history)),
                partial(self._recovered, connection, message),
            )
        else:
            self._delivery.join(connection, room, partial(self._joined, connection, message))

    def leave(self, connection: Connection, message: Leave) -> None:
        """Take a connection out of a room."""
        answer(connection, message.id, self._delivery.leave(connection, message.room))

    def send(self, connection: Connection, message: SendToRoom) -> None:
        """Publish a message to a room. HOT."""
        if message.room not in connection.rooms:
            refuse(connection, NOT_JOINED, message.id)
            return
        user = connection.user
        if not self._access.may_publish(message.room, user, connection.lease.claims):
            refuse(connection, NOT_ALLOWED, message.id)
            return
        if not self.broadcast:
            refuse(connection, BROADCAST_OFF, message.id)
            return
        if delay := self._rates.take(message.room, connection.shared.poller.now):
            refuse(connection, ROOM_RATE, message.id, ceil(delay))
            return
        publication = Publication(message.room, message.data, user, connection.id, message.echo)
        if type(message) is PackedToRoom:
            publication.packed = message.packed
        if self._asked_publish is None:
            self._publish(connection, message, publication)
            return
        assert self._asking is not None
        there = self._asking.begin(connection)
        self._asked_publish(
            connection, publication, partial(self._may_publish, connection, message, there)
        )

    def _may_publish(
        self,
        connection: Connection,
        message: SendToRoom,
        there: Callable[[], bool],
        answer: Publication | Fault,
    ) -> None:
        """The application has answered whether, and what, a connection may publish."""
        if not there():
            return
        assert self._asking is not None
        if not isinstance(answer, Publication):
            refuse(connection, answer, message.id)
        elif message.room not in connection.rooms:  # it was taken out of the room since
            refuse(connection, NOT_JOINED, message.id)
        else:
            self._publish(connection, message, answer)
        self._asking.go_on(connection)

    def _publish(
        self, connection: Connection, message: SendToRoom, publication: Publication
    ) -> None:
        done = partial(_published, connection, message, publication)
        if self._told_published is not None:
            done = partial(self._tell, connection, publication, done)
        self._delivery.publish(publication, done, connection)

    def _tell(
        self,
        connection: Connection,
        publication: Publication,
        done: Callable[[Fault | None], None],
        fault: Fault | None,
    ) -> None:
        if fault is None and self._told_published is not None:
            self._told_published(connection, publication)
        done(fault)

    def history(self, connection: Connection, message: GetHistory) -> None:
        """Send a page of a room's history to a member."""
        if message.room not in connection.rooms:
            refuse(connection, NOT_JOINED, message.id)
            return
        if delay := connection.join_delay():
            refuse_early(connection, delay, message.id)
            return
        since = None if message.since is UNSET else Position(*astuple(message.since))
        query = HistoryQuery(since, int(message.limit))
        self._delivery.history(message.room, query, partial(_page, connection, message))

    def _keeps(self, room: str) -> bool:
        """Whether a room keeps a history, so that those who join are told its position."""
        return self._rules.some and self._rules.of(room).history_size > 0

    def _joined(self, connection: Connection, message: Join, fault: Fault | None) -> None:
        if fault is not None:
            refuse(connection, fault, message.id)
        else:
            members = self._rooms.count(message.room)
            delta = self._deltas(connection, message)
            acknowledge(connection, message.id, members=members, delta=delta)
            self._watch(connection, message)

    def _deltas(self, connection: Connection, message: Join) -> str | UnsetType:
        """Send a member deltas from now on if it asks for them and may; return the format."""
        room = message.room
        deltas = self._delivery.deltas
        if (
            message.delta == FOSSIL
            and self._rules.some
            and self._rules.of(room).delta
            and room in connection.rooms
        ):
            deltas.take(connection, room)
            return FOSSIL
        deltas.drop(connection, room)
        return UNSET

    def _watch(self, connection: Connection, message: Join) -> None:
        if message.presence and message.room in connection.rooms:
            self._presence.watch(connection, message.room)

    def _recovered(self, connection: Connection, message: Join, answer: Page | Fault) -> None:
        if isinstance(answer, Page):
            position, recovered = answer.position, answer.recovered
        elif answer is NO_HISTORY:
            position, recovered = None, False
        else:
            refuse(connection, answer, message.id)
            return
        acknowledge(
            connection,
            message.id,
            members=self._rooms.count(message.room),
            position=position,
            recovered=UNSET if message.since is UNSET else recovered,
            delta=self._deltas(connection, message),
        )
        self._watch(connection, message)


def _published(
    connection: Connection, message: SendToRoom, publication: Publication, fault: Fault | None
) -> None:
    if fault is not None:
        refuse(connection, fault, message.id)
        return
    connection.shared.stats.published["client"] += 1
    if message.id is not UNSET:
        kept = publication.offset
        position = Position(publication.epoch, kept) if kept else None
        acknowledge(connection, message.id, position=position)


def _page(connection: Connection, message: GetHistory, answer: Page | Fault) -> None:
    if not isinstance(answer, Page):
        refuse(connection, answer, message.id)
        return
    epoch, offset = answer.position
    most = connection.shared.outbox.max_bytes // 2
    messages = [
        KeptMessage(
            one.offset,
            one.data,
            one.sender,
            one.connection,
            UNSET if one.timestamp is None else one.timestamp,
        )
        for one in fitting(answer.publications, most, newest=message.since is UNSET)
    ]
    recovered = UNSET if message.since is UNSET else answer.recovered
    send(connection, HistoryPage(message.room, messages, epoch, offset, recovered, message.id))
