"""One frame to many connections, in order, joined, and without holding the loop.

A frame published to a room waits until the end of the turn. All frames of the room that came in
the same turn are joined and go to each member with one system call. A large room takes several
turns; what is published meanwhile waits behind it and is joined too, so the busier a room is, the
fewer system calls a message costs.

Who gets a frame is who was a member when it was published: a batch of frames is sealed before
anybody joins, and who leaves is struck off the batches that wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

from tidegate.engine.outbox import RoomFrames

if TYPE_CHECKING:
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection
    from tidegate.engine.poller import Poller

__all__ = ["Fanout"]

_BACKLOG_BYTES = 16 * 1024 * 1024
_MEMBERS_PER_LOOK = 64  # members served between two looks at the clock


class _Batch:
    """Frames of one room for the same members."""

    __slots__ = (
        "data",
        "excluded",
        "frames",
        "iterator",
        "left",
        "members",
        "sealed",
        "served",
        "size",
        "then",
    )

    def __init__(self, members: Collection[Connection]) -> None:
        self.members = members
        self.sealed = False
        self.frames: list[bytes] = []
        self.size = 0
        # For a connection that must not get some of the frames: their places in the list.
        self.excluded: dict[Connection, set[int]] | None = None
        self.left: set[Connection] | None = None
        self.iterator: Iterator[Connection] | None = None
        self.data = b""
        self.served = 0  # members that got everything
        self.then: list[Callable[[], None]] = []  # to be called when it is out

    def seal(self) -> None:
        """Keep the members as they are now."""
        if not self.sealed:
            self.sealed = True
            self.members = list(self.members)

    def exceptions(self) -> dict[Connection, list[bytes]]:
        """Return the frames for those who do not get all of them."""
        special: dict[Connection, list[bytes]] = {}
        for connection, places in (self.excluded or {}).items():
            special[connection] = [
                frame for place, frame in enumerate(self.frames) if place not in places
            ]
        for connection in self.left or ():
            special[connection] = []
        return special


class Fanout:
    """The frames on their way to rooms. Everything belongs to the loop's thread."""

    def __init__(self, poller: Poller, stats: Stats) -> None:
        self._poller = poller
        self._traffic = stats.outgoing
        self._rooms: dict[str, deque[_Batch]] = {}
        self._turns: deque[str] = deque()  # rooms with frames, each once, in order of service
        self.backlog = 0
        """Bytes of frames that are not yet with all their members."""

    def publish(
        self,
        room: str,
        members: Collection[Connection],
        frame: bytes,
        exclude: Connection | None = None,
    ) -> bool:
        """Send ``frame`` to all ``members`` at the end of this turn.

        Args:
            room: frames for the same room keep their order.
            members: the room's own collection, not a copy of it: it is looked at when the frames
                go out, or when :meth:`before_join` says that it is about to change.
            exclude: one member that does not get this frame.

        Returns:
            False when so much waits already that the frame was not taken.
        """
        size = len(frame)
        if self.backlog + size > _BACKLOG_BYTES:
            return False
        batches = self._rooms.get(room)
        if batches is None:
            batches = self._rooms[room] = deque()
            self._turns.append(room)
            if len(self._turns) == 1:
                self._poller.wake()
        if batches and not batches[-1].sealed:
            batch = batches[-1]
        else:
            batch = _Batch(members)
            batches.append(batch)
        if exclude is not None:
            if batch.excluded is None:
                batch.excluded = {}
            batch.excluded.setdefault(exclude, set()).add(len(batch.frames))
        batch.frames.append(frame)
        batch.size += size
        self.backlog += size
        return True

    def before_join(self, room: str) -> None:
        """Call before a member is added: it does not get what was published before."""
        batches = self._rooms.get(room)
        if batches:
            batches[-1].seal()

    def on_leave(self, room: str, connection: Connection) -> None:
        """Call after a member was removed: it gets nothing any more."""
        for batch in self._rooms.get(room, ()):
            if batch.left is None:
                batch.left = set()
            batch.left.add(connection)

    def when_sent(self, rooms: Iterable[str], action: Callable[[], None]) -> None:
        """Call ``action`` when all that was published to ``rooms`` so far is with its members.

        That is now, if nothing is on its way to them.
        """
        last = [batches[-1] for room in rooms if (batches := self._rooms.get(room))]
        if not last:
            action()
            return
        left = len(last)

        def sent() -> None:
            nonlocal left
            left -= 1
            if not left:
                action()

        for batch in last:
            batch.then.append(sent)

    def step(self, until: float) -> bool:
        """Send until the time ``until``; return whether something is left."""
        turns = self._turns
        while turns:
            room = turns.popleft()
            batches = self._rooms[room]
            done = None
            if self._send(batches[0], until):
                done = batches.popleft()
                self.backlog -= done.size
            if batches:
                turns.append(room)
            else:
                del self._rooms[room]
            if done is not None:
                for action in done.then:
                    action()
            if monotonic() >= until:
                break
        return bool(turns)

    def _send(self, batch: _Batch, until: float) -> bool:
        """Go on with a batch; return True when all its members were served."""
        iterator = batch.iterator
        if iterator is None:
            batch.seal()
            batch.data = RoomFrames.of(batch.frames)
            iterator = batch.iterator = iter(batch.members)
        data = batch.data
        size = len(data)
        special = batch.exceptions() if batch.excluded or batch.left else None
        while True:
            # Taken out before: their memory is fetched for many at once, not for one by one.
            some = list(islice(iterator, _MEMBERS_PER_LOOK))
            served = len(some)
            for connection in some:
                if special is not None and connection in special:
                    self._send_some(connection, special[connection])
                    served -= 1
                    continue
                try:
                    sent = connection.sink.send(data)
                except BlockingIOError:
                    connection.hold_back(data, 0)
                except OSError:
                    connection.lost("reset")
                else:
                    if sent != size:
                        connection.hold_back(data, sent)
            self._traffic.other_bytes += served * size
            self._count(batch.frames, served)
            if len(some) < _MEMBERS_PER_LOOK:
                return True
            if monotonic() >= until:
                return False

    def _send_some(self, connection: Connection, frames: list[bytes]) -> None:
        if frames:
            connection.transmit(RoomFrames.of(frames))
            self._count(frames, 1)

    def _count(self, frames: list[bytes], members: int) -> None:
        observe = self._traffic.others.observe_many
        for frame in frames:
            observe(len(frame), members)
