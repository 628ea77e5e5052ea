"""Publications to many connections: in order, joined, and without holding the loop.

A publication waits until the end of the turn. All publications of a room that came in the same
turn are a batch. They are encoded once for each subprotocol of the members, when its first member
is served, joined, and sent to each member with one system call. A large room takes several turns;
what is published then waits behind it and is joined too, so the busier a room is, the fewer
system calls a message costs.

A publication goes to those who were members when it was published: a batch is sealed before
somebody joins, and a member that leaves is struck off the batches that wait.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.core.codes import RESET
from tidegate.engine.chain import ChainFrames, Link
from tidegate.engine.outbox import RoomFrames

if TYPE_CHECKING:
    from tidegate.core.stats import Stats
    from tidegate.engine.chain import Chain
    from tidegate.engine.member import Encode, Member
    from tidegate.engine.poller import Poller

__all__ = ["Fanout"]

_BACKLOG_BYTES = 16 * 1024 * 1024
_MEMBERS_PER_LOOK = 64  # members served between two looks at the clock
_PUBLICATIONS_PER_BATCH = 1024  # they are encoded in one go, which must not hold the loop
_UNKNOWN: Final = object()  # no subprotocol

_subprotocol_of: Callable[[Member], str | None] = attrgetter("subprotocol")


class _Batch(dict[str | None, RoomFrames]):
    """Publications to one room that have the same members.

    As a dict, it has their joined frames by subprotocol; what is missing is encoded.
    """

    __slots__ = (
        "_crashed",
        "_frames",
        "chain",
        "encoders",
        "excluded",
        "left",
        "members",
        "rest",
        "room",
        "sealed",
        "size",
        "then",
    )

    def __init__(
        self,
        room: str,
        members: Collection[Member],
        chain: Chain | None,
        crashed: Callable[[Exception, None], None],
    ) -> None:
        self.room = room
        self.members = members
        self.sealed = False
        self.encoders: list[Encode] = []
        self.chain = None if chain is None else ChainFrames(room, chain, crashed)
        self.size = 0
        # The members that must not get some publications, and the indexes of these.
        self.excluded: dict[Member, set[int]] | None = None
        self.left: set[Member] | None = None
        self.rest: Iterator[Member] | None = None  # members that are not served yet
        self.then: list[Callable[[], None]] = []  # called when the batch is out
        self._crashed = crashed
        self._frames: dict[str | None, list[bytes]] = {}

    def is_for(self, members: Collection[Member], chain: Chain | None) -> bool:
        """Whether these are its members, and this is its chain; the members of a room are one
        object as long as it is."""
        if (self.chain and self.chain.chain) is not chain:
            return False
        return self.members is members or self.members == members

    def add_link(self, link: Link) -> None:
        """Add a publication of its chain."""
        assert self.chain is not None
        self.encoders.append(link.encode)
        self.chain.links.append(link)

    def seal(self) -> None:
        """Keep the members as they are now."""
        if not self.sealed:
            self.sealed = True
            self.members = list(self.members)

    def exceptions(self) -> Mapping[Member, Collection[int] | None]:
        """The members that do not get everything, and what they do not get; None is all."""
        return {**(self.excluded or {}), **dict.fromkeys(self.left or ())}

    def frames(self, subprotocol: str | None) -> list[bytes]:
        """The frame of each publication, by its index; empty for one that cannot be encoded."""
        frames = self._frames.get(subprotocol)
        if frames is None:
            frames = self._frames[subprotocol] = []
            for encode in self.encoders:
                try:
                    frames.append(encode(subprotocol))
                except Exception as error:
                    frames.append(b"")
                    self._crashed(error, None)
        return frames

    def __missing__(self, subprotocol: str | None) -> RoomFrames:
        joined = self[subprotocol] = RoomFrames.of(
            filter(None, self.frames(subprotocol)), self.room
        )
        return joined


class Fanout:
    """The publications on their way to members. Everything belongs to the loop's thread."""

    def __init__(self, poller: Poller, stats: Stats) -> None:
        self._poller = poller
        self._crashed = poller.crashed
        self._stats = stats
        self._traffic = stats.outgoing
        self._rooms: dict[str, deque[_Batch]] = {}
        self._queue: deque[str] = deque()  # rooms that have batches, each once, served in turn
        self.backlog = 0
        """Bytes of publications that are not yet with all their members."""

    def publish(
        self,
        room: str,
        members: Collection[Member],
        encode: Encode | Link,
        size: int,
        exclude: Collection[Member] = (),
    ) -> bool:
        """Send a publication to all `members` at the end of this turn. HOT.

        Args:
            room: publications to the same room keep their order.
            members: the room's own collection, not a copy of it: it is looked at when the batch
                goes out, or when `before_join` says that it is about to change. What was
                published for other members before goes out before, and is not joined.
            encode: gives the frame for members of a subprotocol. Called at most once for each. If
                it raises, that is reported, and those members do not get this publication. A link
                has it, and how it is encoded for the members of its chain.
            size: what the publication adds to the backlog, in bytes.
            exclude: members that do not get this publication.

        Returns:
            False when so much waits already that the publication was not taken.
        """
        if self.backlog + size > _BACKLOG_BYTES:
            return False
        batches = self._rooms.get(room)
        if batches is None:
            batches = self._rooms[room] = deque()
            self._queue.append(room)
            if len(self._queue) == 1:
                self._poller.wake()
        batch = batches[-1] if batches else None
        chain = encode.chain if isinstance(encode, Link) else None
        if batch is None or batch.sealed or not batch.is_for(members, chain):
            batch = _Batch(room, members, chain, self._crashed)
            batches.append(batch)
        encoders = batch.encoders
        if exclude:
            if batch.excluded is None:
                batch.excluded = {}
            for member in exclude:
                batch.excluded.setdefault(member, set()).add(len(encoders))
        if isinstance(encode, Link):
            batch.add_link(encode)
        else:
            encoders.append(encode)
        if len(encoders) == _PUBLICATIONS_PER_BATCH:
            batch.seal()
        batch.size += size
        self.backlog += size
        return True

    def before_join(self, room: str) -> None:
        """Call before a member is added: it does not get what was published before."""
        batches = self._rooms.get(room)
        if batches:
            batches[-1].seal()

    def on_leave(self, room: str, connection: Member) -> None:
        """Call after a member was removed: it gets nothing any more."""
        for batch in self._rooms.get(room, ()):
            if batch.left is None:
                batch.left = set()
            batch.left.add(connection)

    def when_sent(self, rooms: Iterable[str], action: Callable[[], None]) -> None:
        """Call `action` when all that was published to `rooms` so far is with its members.

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
        """Send until the time `until`; return whether something is left."""
        queue = self._queue
        while queue:
            room = queue[0]  # it keeps its place while it is served, should an error come out
            batches = self._rooms[room]
            done = None
            if self._send(batches[0], until):
                done = batches.popleft()
                self.backlog -= done.size
            queue.popleft()
            if batches:
                queue.append(room)
            else:
                del self._rooms[room]
            if done is not None:
                for action in done.then:
                    action()
            if monotonic() >= until:
                break
        return bool(queue)

    def _send(self, batch: _Batch, until: float) -> bool:
        """Go on with a batch; return True when all its members were served. HOT."""
        rest = batch.rest
        if rest is None:
            batch.seal()
            rest = batch.rest = iter(batch.members)
        exceptions = batch.exceptions() if batch.excluded or batch.left else None
        served = 0  # members, while all have the same subprotocol
        mixed: Counter[str | None] | None = None  # members by subprotocol, once there are several
        current: object = _UNKNOWN
        data = b""
        size = 0
        while True:
            # Taken out before: the memory of many is fetched at once, not that of one by one.
            some = list(islice(rest, _MEMBERS_PER_LOOK))
            done = len(some) < _MEMBERS_PER_LOOK
            if batch.chain is not None:
                some = batch.chain.serve(some, exceptions or {}, self._stats)
            if exceptions is not None:
                some = [
                    connection
                    for connection in some
                    if connection not in exceptions
                    or self._send_some(batch, connection, exceptions[connection])
                ]
            for connection in some:
                if connection.subprotocol is not current:
                    current = connection.subprotocol
                    data = batch[connection.subprotocol]
                    size = len(data)
                    if not size:  # nothing could be encoded
                        current = _UNKNOWN
                        continue
                try:
                    sent = connection.sink.send(data)
                except BlockingIOError:
                    connection.hold_back(data, 0)
                except OSError:
                    connection.lost(RESET)
                else:
                    if sent != size:
                        connection.hold_back(data, sent)
            if len(batch) < 2:
                served += len(some)
            elif mixed is None:
                mixed = Counter(map(_subprotocol_of, some))
            else:
                mixed.update(map(_subprotocol_of, some))
            if done or monotonic() >= until:
                break
        if served:
            # They were served first, so theirs were encoded first.
            self._count(batch, next(iter(batch)), served)
        if mixed is not None:
            for subprotocol, members in mixed.items():
                self._count(batch, subprotocol, members)
        return done

    def _send_some(
        self, batch: _Batch, connection: Member, excluded: Collection[int] | None
    ) -> bool:
        if excluded is not None:
            frames = [
                frame
                for index, frame in enumerate(batch.frames(connection.subprotocol))
                if frame and index not in excluded
            ]
            if frames:
                connection.transmit(RoomFrames.of(frames, batch.room))
                for frame in frames:
                    self._traffic.others.observe(len(frame))
        return False

    def _count(self, batch: _Batch, subprotocol: str | None, members: int) -> None:
        traffic = self._traffic
        traffic.other_bytes += members * len(batch[subprotocol])
        observe = traffic.others.observe_many
        for frame in batch.frames(subprotocol):
            if frame:
                observe(len(frame), members)
