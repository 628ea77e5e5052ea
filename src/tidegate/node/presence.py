"""Who is in a room, told to the members that asked for it.

Changes go out ten times a second, those of a room together, by the fan-out that also carries its
messages. A room with more users than its rule shows by name is told its count alone, once a second
at most. What a slow member did not get is made good by the whole state, when it reads again, and so
is what the fan-out did not take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from tidegate.core.codes import NO_PRESENCE
from tidegate.core.messaging.fleet_presence import FleetPresence
from tidegate.core.messaging.presence import Change, Presence, Present

if TYPE_CHECKING:
    from tidegate.backplane.base import Presences
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.rules import Rules
    from tidegate.engine.connection import Connection
    from tidegate.engine.fanout import Fanout

__all__ = ["RoomPresence", "State"]

_COUNT_SECONDS: Final = 1.0
_USER_BYTES: Final = 128  # of a change, for the fan-out's backlog

# The fan-out keeps the order of what goes to one room. What goes to its watchers is a room of its
# own, whose name no client can give: names have no control characters.
_PREFIX: Final = "\0presence:"


class State(NamedTuple):
    """Who is in a room; `users` is None where they are more than the rule shows by name."""

    total: int
    users: list[Present] | None


@dataclass(slots=True, eq=False)
class _Watched:
    """A room that somebody watches."""

    members: dict[Connection, None] = field(default_factory=dict)
    by_name: bool = True
    """Whether the watchers know the users by name."""
    missed: bool = False
    """Whether they were not told of a change."""
    next_count: float = 0.0
    """When they may be told the count again."""


class RoomPresence:
    """Keeps who is in rooms whose rule shows it, and tells those who watch.

    All methods belong to the loop's thread.

    Args:
        rules: which rooms show who is there.
        fanout: carries changes to those who watch.
        clock: the time in monotonic seconds.
        others: has what other nodes have; None for a node that is alone.
    """

    _encode: Callable[[str, Change | State, str | None], bytes]

    def __init__(
        self,
        rules: Rules,
        fanout: Fanout,
        clock: Callable[[], float],
        others: Presences | None = None,
    ) -> None:
        self._rules = rules
        self._fanout = fanout
        self._clock = clock
        self._moved: Callable[[Connection, str, bool], None] | None = None
        self._watches: Callable[[Connection], None] | None = None
        self._others = others
        self._fleet = None if others is None else FleetPresence()
        self._presence = Presence() if self._fleet is None else self._fleet
        if others is not None and self._fleet is not None:
            others.start(self._fleet)
        self._watched: dict[str, _Watched] = {}
        self._missed: dict[str, None] = {}  # the rooms whose watchers were not told of a change
        self._counted: set[tuple[Connection, str]] = set()

    def start(
        self,
        encode: Callable[[str, Change | State, str | None], bytes],
        moved: Callable[[Connection, str, bool], None] | None = None,
        watches: Callable[[Connection], None] | None = None,
    ) -> None:
        """Take what gives the frames of a change of a room, for connections of a subprotocol.

        Args:
            moved: told of every connection that joins a room (True) or leaves it (False).
            watches: told of one that is told who is in a room from now on.
        """
        self._encode = encode
        self._moved = moved
        self._watches = watches

    # Connections.

    def joined(self, connection: Connection, room: str) -> None:
        """A connection is a member of a room."""
        if self._moved is not None:
            self._moved(connection, room, True)
        self._count(connection, room)

    def returned(self, connection: Connection, room: str) -> None:
        """A client is back in a room of its session, of which it was a member all the time."""
        self._count(connection, room)

    def _count(self, connection: Connection, room: str) -> None:
        user = connection.user
        if user is None or not self._shows(room):
            return
        if (connection, room) not in self._counted:
            self._counted.add((connection, room))
            claims = connection.lease.claims
            self._presence.join(room, user, None if claims is None else claims.info)

    def identified(self, connection: Connection) -> None:
        """A connection has a user now; it may have joined rooms before."""
        for room in connection.rooms:
            self._count(connection, room)

    def left(self, connection: Connection, room: str, *, dropped: bool) -> bool:
        """A connection is no member of a room any more: it was `dropped`, or has left itself.

        Returns:
            Whether it watched the room.
        """
        # One that waits for its client stays a member.
        if self._moved is not None and room not in connection.rooms:
            self._moved(connection, room, False)
        return self.not_joined(connection, room, dropped=dropped)

    def not_joined(self, connection: Connection, room: str, *, dropped: bool = False) -> bool:
        """A connection was not told of as a member, and is none."""
        watched = self.unwatch(connection, room)
        user = connection.user
        if user is not None and (connection, room) in self._counted:
            self._counted.remove((connection, room))
            grace = self._rules.of(room).presence_grace if dropped else 0.0
            self._presence.leave(room, user, self._clock(), grace)
        return watched

    # Those who watch.

    def watch(self, connection: Connection, room: str) -> State | None:
        """Tell a member what changes in its room from now on, and return how it is now.

        It gets nothing of what is on its way to it already: the state has that. None when the
        room's rule shows nobody.
        """
        if not self._shows(room):
            return None
        watched = self._watched.get(room)
        if watched is None:
            self._presence.take(room)  # nobody was told, and the state has it
            watched = self._watched[room] = _Watched()
            watched.by_name = self._by_name(room)
        else:
            # Without names a count may come twice, and is not told for each who comes to watch.
            if watched.by_name or self._by_name(room):
                self._flush(room, watched)
            self._fanout.before_join(_PREFIX + room)
            if connection in watched.members:
                self._fanout.on_leave(_PREFIX + room, connection)
        watched.members[connection] = None
        if self._watches is not None:
            self._watches(connection)
        return self.state(room)

    def unwatch(self, connection: Connection, room: str) -> bool:
        """Tell a connection nothing of a room any more; False when it was told nothing."""
        watched = self._watched.get(room)
        if watched is None or connection not in watched.members:
            return False
        del watched.members[connection]
        self._fanout.on_leave(_PREFIX + room, connection)
        if not watched.members:
            del self._watched[room]
            self._missed.pop(room, None)
        return True

    def watches(self, connection: Connection, room: str) -> bool:
        """Whether a connection is told who is in a room."""
        watched = self._watched.get(room)
        return watched is not None and connection in watched.members

    def look(self, connection: Connection, room: str) -> State | None:
        """Return who is in a member's room. For one that watches, changes go on from there."""
        watched = self._watched.get(room)
        if watched is None or connection not in watched.members:
            return self.state(room)
        return self.watch(connection, room)

    def state(self, room: str) -> State | None:
        """Return who is in a room; None when its rule shows nobody."""
        if not self._shows(room):
            return None
        count = self._presence.count(room)
        users = list(self._presence.users(room)) if self._by_name(room) else None
        return State(count, users)

    def read(self, room: str, done: Callable[[State | Fault], None]) -> None:
        """Tell who is in a room on all nodes, also in one that has no members here."""
        state = self.state(room)
        others = self._others
        if state is None:
            done(NO_PRESENCE)
        elif others is None or others.follows(room):
            done(state)
        else:

            def told(found: dict[str, list[Present]] | Fault) -> None:
                if not isinstance(found, dict):
                    done(found)
                    return
                all_ = FleetPresence()
                for node, users in found.items():
                    all_.others(room, node, users, (), True)
                count = all_.count(room)
                by_name = count <= self._rules.of(room).presence_users
                done(State(count, list(all_.users(room)) if by_name else None))

            others.read(room, told)

    def missed(self, key: str) -> str | None:
        """Return the room whose changes a slow connection did not get, by its name in fan-out."""
        return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else None

    def tick(self, now: float) -> None:
        """Let those leave whose grace time is over, and tell what has changed."""
        presence = self._presence
        presence.tick(now)
        if self._fleet is not None and self._others is not None:
            for room in tuple(self._fleet.own_changed):
                self._others.tell(room, *self._fleet.take_own(room))
        for room in (*presence.changed, *self._missed):
            watched = self._watched.get(room)
            if watched is None:
                presence.take(room)
            elif watched.by_name or self._by_name(room) or now >= watched.next_count:
                watched.next_count = now + _COUNT_SECONDS
                self._flush(room, watched)

    def _flush(self, room: str, watched: _Watched) -> None:
        """Tell those who watch a room what has changed in it."""
        change = self._presence.take(room)
        if change is None and not watched.missed:
            return
        # With a count alone, or a hole in what they know, they need the whole state.
        knew = watched.by_name and not watched.missed
        watched.by_name = self._by_name(room)
        told: Change | State
        if change is not None and knew and watched.by_name:
            told, named = change, len(change.joined) + len(change.left)
        else:
            users = list(self._presence.users(room)) if watched.by_name else None
            told, named = State(self._presence.count(room), users), len(users or ())
        taken = self._fanout.publish(
            _PREFIX + room,
            watched.members,
            partial(self._encode, room, told),
            _USER_BYTES * (1 + named),
        )
        watched.missed = not taken
        if taken:
            self._missed.pop(room, None)
        else:
            self._missed[room] = None

    def _shows(self, room: str) -> bool:
        return self._rules.some and self._rules.of(room).presence != "off"

    def _by_name(self, room: str) -> bool:
        return self._presence.count(room) <= self._rules.of(room).presence_users
