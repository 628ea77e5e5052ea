"""Sessions of one node: clients that were lost and may come back within `sessions.ttl`.

While a session waits for its client, the dead connection stays what it was for everybody else: it
is in its rooms, it has its user, it holds its lease. What is sent to it is kept. When the client is
back, a new connection with the same id takes all of that over, in one turn. Only presence is told
apart: a user whose client stays away for longer than the room's grace time has left.

    connection lost -> park -> resume (a new connection) -> taken over -> welcome
                         |
                         +-> the time is over, or there are too many -> ended, as without a session
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Raw

from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import (
    ABORTED,
    BUFFERS_FULL,
    EOF,
    HEARTBEAT_TIMEOUT,
    RESET,
    SLOW_CONSUMER,
)
from tidegate.core.messaging.sessions import DirectLog, Shown, read_session, session_secret
from tidegate.engine.outbox import DISCARD, RoomFrames
from tidegate.engine.states import Admission
from tidegate.gate.resumption import Resumed

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Identity, Lease
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.codes import Close, Refusal
    from tidegate.core.messaging.publication import Direct
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection
    from tidegate.gate.resumption import Fetching
    from tidegate.node.delivery import Delivery

__all__ = ["LOST", "Back", "Sessions"]

LOST: Final = frozenset((RESET, EOF, HEARTBEAT_TIMEOUT, ABORTED, SLOW_CONSUMER, BUFFERS_FULL))
"""The ends after which a client may want to resume: all others were meant."""
_NOTICED_LATE: Final = frozenset((HEARTBEAT_TIMEOUT, ABORTED, SLOW_CONSUMER, BUFFERS_FULL))
"""Of these, the ones before which messages may have gone nowhere for a while."""

_SWEEP_SECONDS: Final = 5.0


class Back(NamedTuple):
    """What a connection that has resumed is to be told."""

    rooms: tuple[str, ...]
    directs: list[tuple[int, Direct]]
    """The direct messages that it has not seen, with their numbers."""
    complete: bool
    """Whether these are all of them."""
    frames: list[RoomFrames]
    """What rooms without history were sent while it was away."""
    gaps: set[str]
    """The rooms of which something was not kept."""
    watched: list[str]
    """The rooms of which it was told who is there."""


class _Parked:
    """A session that waits for its client; the sink of its dead connection."""

    __slots__ = (
        "_sessions",
        "connection",
        "ends",
        "frames",
        "gaps",
        "late",
        "size",
        "to",
        "watched",
    )

    def __init__(
        self, sessions: Sessions, connection: Connection, ends: float, watched: list[str]
    ) -> None:
        self._sessions = sessions
        self.connection = connection
        self.ends = ends
        self.watched = watched
        self.frames: list[RoomFrames] = []
        self.gaps: set[str] = set()
        self.late = False
        """Whether messages of any room may have been lost before it began to wait."""
        self.size = 0
        self.to: Connection | None = None
        """The connection that has taken over."""

    def send(self, data: bytes, /) -> int:
        """Keep what the fan-out sends, where the client cannot ask for it by its offset."""
        if type(data) is RoomFrames:
            if self.to is not None:  # it was on its way when the client came back
                self.to.transmit(data)
            else:
                self._sessions.keep(self, data)
        return len(data)


class Sessions:
    """The sessions of one node. All methods belong to the loop's thread.

    Args:
        settings: how long, and how much.
        clock: the time in monotonic seconds.
        release: gives the capacity of a connection back that has ended for good.
    """

    _lost = LOST
    """The ends after which a client may want to resume."""

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        tracker: ConnectionTracker,
        rules: Rules,
        delivery: Delivery,
        clock: Callable[[], float],
        release: Callable[[Connection], None],
    ) -> None:
        self._settings = settings.sessions
        self._stats = stats
        self._tracker = tracker
        self._rules = rules
        self._delivery = delivery
        self._clock = clock
        self._release = release
        self._key = secrets.token_bytes(32)
        self._node = ""
        self._live: dict[str, Connection] = {}
        self._generations: dict[str, int] = {}  # of those that were resumed
        self._parked: OrderedDict[str, _Parked] = OrderedDict()  # the first ends first
        self._logs: dict[str, DirectLog[Direct]] = {}
        self._back: dict[Connection, Back] = {}
        self._next_sweep = 0.0
        self.size = 0
        """Bytes of messages that are kept."""

    def __len__(self) -> int:
        """How many sessions wait for their client."""
        return len(self._parked)

    def apply(self, settings: Settings) -> None:
        """Take over other settings, for the sessions that begin to wait from now on."""
        self._settings = settings.sessions

    @property
    def ttl(self) -> float:
        """For how many seconds a session waits."""
        return self._settings.ttl

    # Connections.

    def begin(self, connection: Connection) -> str:
        """Return the secret with which a connection that is open now can be resumed."""
        self._live[connection.id] = connection
        return self.secret(connection)

    def secret(self, connection: Connection) -> str:
        """Return the secret of a connection that has begun a session."""
        generation = self._generations.get(connection.id, 0)
        return session_secret(self._key, connection.id, generation, self._node)

    def seen(self, connection: Connection, back: Back | None) -> int:
        """Return the number of the last direct message that a client has when it is welcomed."""
        if back is not None and back.directs:
            return back.directs[0][0] - 1
        log = self._logs.get(connection.id)
        return 0 if log is None else log.seq

    def back(self, connection: Connection) -> Back | None:
        """Return what a connection is to be told that has resumed, once; None for a new one."""
        return self._back.pop(connection, None)

    def direct(self, connection: Connection, message: Direct) -> int:
        """Keep a direct message of a session, whose client is there or not; return its number."""
        log = self._logs.get(connection.id)
        if log is None:
            log = self._logs[connection.id] = DirectLog()
        data = message.data
        if isinstance(data, Raw):  # it holds on to the whole message that it is a part of
            message.data = data.copy()
        if message.packed is not None:
            message.packed = message.packed.copy()
        before = log.size
        settings = self._settings
        seq = log.add(message, len(data), settings.max_bytes, self._clock(), settings.ttl)
        self.size += log.size - before
        if self.size > settings.all_bytes:
            self.size -= log.clear()
        return seq

    def missed(self) -> None:
        """Direct messages may not have come to this node: numbers skip one, so that is seen."""
        for id_ in (*self._live, *self._parked):
            log = self._logs.setdefault(id_, DirectLog())
            self.size -= log.skip()

    def absent(self, connection: Connection, message: Direct) -> bool:
        """Keep a direct message for a client that is away; False when it will not come back.

        Its connection may still be closing, as after reading too slowly, and it may have been let
        in again already: a new connection takes over somewhat later than it is decided about.
        """
        sink = connection.sink
        waits = isinstance(sink, _Parked) and sink.to is None
        if not waits and not (
            self._live.get(connection.id) is connection and connection.ending in self._lost
        ):
            return False
        self.direct(connection, message)
        return True

    def park(self, connection: Connection, reason: Refusal | Close) -> bool:
        """Keep what a connection had that has ended; False when it ends for good."""
        live = self._live.pop(connection.id, None)
        if live is None or reason not in self._lost or not connection.lease.held:
            self._forget(connection.id)
            return False
        if len(self._parked) >= self._settings.most:
            self._end(next(iter(self._parked)))
        watched = self._delivery.park(connection)
        ends = self._clock() + self._settings.ttl
        parked = self._parked[connection.id] = _Parked(self, connection, ends, watched)
        parked.late = reason in _NOTICED_LATE
        connection.divert(parked)
        self._stats.sessions["parked"] += 1
        return True

    # The gate (gate.sessions.Resumption).

    def known(self, text: str) -> bool:
        """Whether an attempt shows a session that can be resumed."""
        return self._find(text) is not None

    def resume(self, text: str, identity: Identity, address: str) -> Resumed | Reject | None:
        """Take up a session for an attempt; None when it cannot be, and the attempt is a new one.

        Its capacity goes to the new connection, under the address that this one has. A connection
        that is still thought to be alive is ended: its client knows better.
        """
        shown = self._find(text)
        if shown is None:
            return None
        live = self._live.get(shown.id)
        if live is not None:
            if live.user != identity.user or live.admission is not Admission.ADMITTED:
                return None
            live.abort()
        parked = self._parked.get(shown.id)
        if parked is None or parked.connection.user != identity.user:
            return None
        lease = self._tracker.replace(parked.connection.lease, address, identity)
        if isinstance(lease, Reject):
            self._end(shown.id)
            return lease
        del self._parked[shown.id]
        return Resumed(lease, parked.connection.number, (parked, shown.seq))

    # The node.

    def fetch(self, text: str) -> Fetching | None:  # noqa: ARG002
        """Get a session from another node: there is none."""
        return None

    def moved(self, text: str, lease: Lease) -> Resumed | None:  # noqa: ARG002
        """Take up a session that came from another node: there is none."""
        return None

    def take_over(self, connection: Connection, session: Any) -> None:
        """Give a new connection what the lost one had; its application asks for the rest.

        Args:
            session: that of what `resume` has returned.
        """
        parked, seq = session
        old = parked.connection
        parked.to = connection
        self._generations[connection.id] = self._generations.get(connection.id, 0) + 1
        self._live[connection.id] = connection
        self._delivery.replace(old, connection)
        log = self._logs.get(connection.id)
        directs = [] if log is None else log.since(seq)
        rooms = connection.rooms  # an operator may have taken it out of some
        same = old.subprotocol == connection.subprotocol
        frames = [frame for frame in parked.frames if frame.room in rooms]
        gaps = parked.gaps.intersection(rooms)
        if parked.late:
            gaps.update(room for room in rooms if not self._keeps(room))
        if not same:  # they are encoded for the other one
            gaps |= {frame.room for frame in frames}
            frames = []
        self._drop(parked)
        self._back[connection] = Back(
            rooms,
            directs or [],
            directs is not None,
            frames,
            gaps,
            [room for room in parked.watched if room in rooms],
        )
        self._stats.sessions["resumed"] += 1

    def tick(self, now: float) -> None:
        """End the sessions whose time is over."""
        for id_ in tuple(self._due(now)):
            self._end(id_)
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_SECONDS
            for log in self._logs.values():
                before = log.size
                log.expire(now)
                self.size -= before - log.size

    def end(self, chosen: Callable[[Connection], bool]) -> int:
        """End the waiting sessions of connections that were chosen; return how many."""
        ids = [id_ for id_, parked in self._parked.items() if chosen(parked.connection)]
        for id_ in ids:
            self._end(id_)
        return len(ids)

    def keep(self, parked: _Parked, frames: RoomFrames) -> None:
        """Keep what a room was sent."""
        room = frames.room
        if not room or room.startswith("\0"):
            return
        if self._keeps(room):
            return  # the client asks for what it missed
        size = len(frames)
        settings = self._settings
        if (
            room in parked.gaps
            or parked.size + size > settings.max_bytes
            or self.size + size > settings.all_bytes
        ):
            parked.gaps.add(room)
            return
        parked.frames.append(frames)
        parked.size += size
        self.size += size

    def gap(self, connection: Connection, room: str) -> None:
        """Note that messages of a room did not reach a connection whose client is away."""
        if isinstance(connection.sink, _Parked):
            connection.sink.gaps.add(room)

    def _keeps(self, room: str) -> bool:
        """Whether a room has a history."""
        return self._rules.some and self._rules.of(room).history_size > 0

    def _find(self, text: str) -> Shown | None:
        shown = read_session(self._key, text)
        if shown is None or shown.generation != self._generations.get(shown.id, 0):
            return None
        return shown if shown.id in self._live or shown.id in self._parked else None

    def _due(self, now: float) -> Iterator[str]:
        for id_, parked in self._parked.items():
            if parked.ends > now:
                return
            yield id_

    def _end(self, id_: str) -> None:
        parked = self._parked.pop(id_)
        self._drop(parked)
        parked.connection.divert(DISCARD)
        self._forget(id_)
        self._release(parked.connection)
        self._stats.sessions["expired"] += 1

    def _drop(self, parked: _Parked) -> None:
        self.size -= parked.size
        parked.size = 0
        parked.frames = []

    def _forget(self, id_: str) -> None:
        self._generations.pop(id_, None)
        log = self._logs.pop(id_, None)
        if log is not None:
            self.size -= log.size
