"""Who is in which room of a node, and to which rooms it is subscribed.

A node subscribes to a room with its first member and unsubscribes with its last. A broker may
answer late, so a room without an answer is *subscribing*:

- Members that join before the answer wait for it too, and are told when it is there.
- When the last member leaves before the answer, that waits for it too: if there is still no member
  then, the node unsubscribes.

So a broker sees `subscribe` and `unsubscribe` of a room by turns, and never two of them at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tidegate.core.codes import NOT_JOINED
from tidegate.node.deltas import Deltas
from tidegate.node.members import FleetMembers, Members

if TYPE_CHECKING:
    from tidegate.backplane.base import Broker, Done
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.engine.connection import Connection
    from tidegate.engine.fanout import Fanout
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.presence import RoomPresence
    from tidegate.node.recovery import Recovery
    from tidegate.node.users import Users

__all__ = ["Joining"]


class Joining:
    """Puts connections into rooms and takes them out. Everything belongs to the loop's thread.

    Args:
        rooms: the rooms of this node.
        users: the connections of each user.
        fanout: carries publications to members.
        broker: is subscribed to the rooms that have members.
        presence: tells who is there.
        leases: counts the members of all nodes; None where this node counts for itself.
        recovery: the members that get their history first.
    """

    def __init__(
        self,
        rooms: Rooms[Connection],
        users: Users[Connection],
        fanout: Fanout,
        broker: Broker,
        presence: RoomPresence,
        leases: FleetLeases | None,
        recovery: Recovery,
    ) -> None:
        self._rooms = rooms
        self._users = users
        self._fanout = fanout
        self._broker = broker
        self._presence = presence
        self._recovery = recovery
        self._members = (
            Members(presence)
            if leases is None
            else FleetMembers(presence, rooms, leases, self._refused)
        )
        # Rooms whose subscription is under way: their members, and what each is told by.
        self._subscribing: dict[str, dict[Connection, list[Done]]] = {}
        # Connections that published without an echo, by id.
        self._origins: dict[str | None, Connection] = {}
        self.deltas = Deltas()
        """Who is sent publications as deltas."""

    def join(self, connection: Connection, room: str, done: Done) -> None:
        """Put a connection into a room.

        Args:
            done: told when the broker has confirmed the room, or why the connection is not in. A
                connection that leaves before that is told so; one that is gone is told nothing.
        """
        if not connection.open:
            return  # `gone` was called, or will be, and nobody would take it out again
        waiting = self._subscribing.get(room)
        if room not in connection.rooms:
            self._fanout.before_join(room)
            user = connection.user
            devices = () if user is None else self._users.of_user(user)
            fault = self._rooms.join(connection, room, devices)
            if fault is None and (fault := self._members.comes(connection, room)) is not None:
                self._rooms.leave(connection, room)
            if fault is not None:
                done(fault)
                return
            if waiting is None and self._rooms.count(room) == 1:
                self._subscribing[room] = {connection: [done]}
                self._broker.subscribe(room, partial(self._subscribed, room))
                return
        if waiting is None:
            self._members.then(connection, room, done)
        else:
            waiting.setdefault(connection, []).append(done)

    def leave(self, connection: Connection, room: str) -> Fault | None:
        """Take a connection out of a room; the reason when it is not in."""
        if not self._rooms.leave(connection, room):
            return NOT_JOINED
        self._recovery.left(connection, room)
        self._refused(
            connection, room, self._members.goes(connection, room, dropped=False), NOT_JOINED
        )
        return None

    def gone(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        if connection.rooms:
            for room in self._rooms.leave_all(connection):
                self._recovery.gone(connection, room)
                self._members.goes(connection, room, dropped=True)
                self._left(connection, room)
        self._users.remove(connection)
        if self._origins:
            self._origins.pop(connection.id, None)

    def park(self, connection: Connection) -> list[str]:
        """Keep a connection that has ended in its rooms, for the one that takes over.

        Returns:
            The rooms of which it was told who is there.
        """
        watched = []
        for room in connection.rooms:
            self._recovery.gone(connection, room)
            if connection in self._members.asked.get(room, ()):
                self._rooms.leave(connection, room)  # its client was not told that it is in
                self._members.goes(connection, room, dropped=True)
                self._left(connection, room)
                continue
            self.deltas.restart(connection, room)
            if self._presence.left(connection, room, dropped=True):
                watched.append(room)
            waiting = self._subscribing.get(room)
            if waiting is not None:
                waiting[connection] = []
        if self._origins:
            self._origins.pop(connection.id, None)
        return watched

    def watched(self, connection: Connection) -> list[str]:
        """Return the rooms of which a connection is told who is there."""
        return [room for room in connection.rooms if self._presence.watches(connection, room)]

    def replace(self, connection: Connection, other: Connection) -> None:
        """Give the rooms and the user of a connection that was parked to another one."""
        for room in connection.rooms:
            waiting = self._subscribing.get(room)
            if waiting is not None:
                del waiting[connection]
                waiting[other] = []
            self.deltas.replace(connection, other, room)
        self._users.remove(connection)
        self._users.add(other)
        self._rooms.replace(connection, other)
        for room in other.rooms:
            self._presence.returned(other, room)

    # Subscriptions.

    def _left(self, connection: Connection, room: str) -> list[Done]:
        """A connection was taken out of a room; whom it had waiting for the broker's answer."""
        self._fanout.on_leave(room, connection)
        self.deltas.drop(connection, room)
        waiting = self._subscribing.get(room)
        if waiting is not None:
            return waiting.pop(connection, [])
        if not self._rooms.count(room):
            self._broker.unsubscribe(room)
        return []

    def _refused(
        self, connection: Connection, room: str, waiting: list[Done], fault: Fault
    ) -> None:
        """A connection is in a room no more; tell those why who wait for it to be there."""
        self._rooms.leave(connection, room)
        for done in (*waiting, *self._left(connection, room)):
            done(fault)

    def _subscribed(self, room: str, fault: Fault | None) -> None:
        """The broker has answered: tell those who wait."""
        waiting = self._subscribing.pop(room)
        if fault is not None:
            for connection in waiting:
                self._rooms.leave(connection, room)
                self._members.goes(connection, room, dropped=False)
                self._fanout.on_leave(room, connection)
                self.deltas.drop(connection, room)
        elif not waiting:
            self._broker.unsubscribe(room)
        for connection, answers in waiting.items():
            for done in answers:
                # What one is told may end another, or make it leave.
                if fault is not None:
                    done(fault)
                elif room in connection.rooms:
                    self._members.then(connection, room, done)
                elif connection.open:
                    done(NOT_JOINED)
