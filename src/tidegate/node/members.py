"""Who is a member of a room: on a node that is alone, and where the limits of rooms hold over all.

In a fleet a connection joins on its node first, and the fleet is asked then. Until the answer it is
*asked for*: it has its place in the node's own limit, but nothing that is published comes to it and
nobody is told of it, and what it publishes waits. When it leaves or ends before the answer, the
fleet is given back what it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from tidegate.core.codes import NOT_JOINED, OVERLOADED

if TYPE_CHECKING:
    from tidegate.backplane.base import Done
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.engine.connection import Connection
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.presence import RoomPresence

__all__ = ["FleetMembers", "Members"]

_MOST_WAITING: Final = 100  # joins and publications of one connection for one room
_MOST_BYTES: Final = 16 << 20  # of all publications that wait


class _Asked:
    """A connection of which the fleet has not said whether it is a member."""

    __slots__ = ("answers", "size")

    def __init__(self) -> None:
        self.answers: list[Done] = []
        """Who waits for it."""
        self.size = 0
        """Bytes that wait with them."""


class Members:
    """The members of a node that is alone.

    Args:
        presence: is told of those that come and go.
    """

    def __init__(self, presence: RoomPresence) -> None:
        self._presence = presence
        self.asked: dict[str, dict[Connection, _Asked]] = {}
        """Those of which the fleet has not said whether they are members, by room."""

    def comes(self, connection: Connection, room: str) -> Fault | None:
        """A connection has joined on this node; why it cannot stay, where that is known."""
        self._presence.joined(connection, room)
        return None

    def goes(self, connection: Connection, room: str, *, dropped: bool) -> list[Done]:
        """A connection is in the room no more; return what waits for the fleet's answer."""
        self._presence.left(connection, room, dropped=dropped)
        return []

    def then(self, connection: Connection, room: str, done: Done, size: int = 0) -> None:  # noqa: ARG002 - see below
        """Tell `done` when a connection is a member, or why it is none.

        Args:
            size: bytes that are kept until then.
        """
        done(None)


class FleetMembers(Members):
    """The members of a node in a fleet.

    Args:
        presence: is told of those that come and go.
        rooms: the rooms of this node, and their limits.
        leases: counts the members of all nodes.
        refused: takes a connection out of a room and tells why those that wait for it.
    """

    def __init__(
        self,
        presence: RoomPresence,
        rooms: Rooms[Connection],
        leases: FleetLeases,
        refused: Callable[[Connection, str, list[Done], Fault], None],
    ) -> None:
        super().__init__(presence)
        self._rooms = rooms
        self._leases = leases
        self._refused = refused
        self._bytes = 0

    def comes(self, connection: Connection, room: str) -> Fault | None:
        """Ask the fleet about a connection that has joined on this node."""
        asked = _Asked()
        at_once: list[Fault | None] = []
        self.asked.setdefault(room, {})[connection] = asked

        def answered(fault: Fault | None) -> None:
            self._forget(connection, room)
            if fault is not None:
                self._rooms.refused[fault.name] += 1
                if asking:
                    at_once.append(fault)
                else:
                    self._presence.not_joined(connection, room)
                    self._refused(connection, room, asked.answers, fault)
                return
            self._presence.joined(connection, room)
            for done in asked.answers:
                # What one is told may end another, or make it leave.
                if room in connection.rooms:
                    done(None)
                elif connection.open:
                    done(NOT_JOINED)

        asking = True
        wanted = partial(self._is_asked, connection, room, asked)
        self._leases.join(room, self._rooms.most(room), wanted, answered)
        asking = False
        return at_once[0] if at_once else None

    def goes(self, connection: Connection, room: str, *, dropped: bool) -> list[Done]:
        """Give back what the fleet has counted, or will have."""
        asked = self._forget(connection, room)
        if asked is not None:
            self._presence.not_joined(connection, room)
            return asked.answers
        self._leases.leave(room)
        return super().goes(connection, room, dropped=dropped)

    def then(self, connection: Connection, room: str, done: Done, size: int = 0) -> None:
        """Tell `done` when the fleet has answered; at once when too much waits for that already."""
        asked = self.asked.get(room, {}).get(connection)
        if asked is None:
            done(None)
        elif len(asked.answers) < _MOST_WAITING and self._bytes + size <= _MOST_BYTES:
            asked.answers.append(done)
            asked.size += size
            self._bytes += size
        else:
            done(OVERLOADED)

    def _is_asked(self, connection: Connection, room: str, asked: _Asked) -> bool:
        return self.asked.get(room, {}).get(connection) is asked

    def _forget(self, connection: Connection, room: str) -> _Asked | None:
        in_room = self.asked.get(room)
        if in_room is None:
            return None
        asked = in_room.pop(connection, None)
        if not in_room:
            del self.asked[room]
        if asked is not None:
            self._bytes -= asked.size
        return asked
