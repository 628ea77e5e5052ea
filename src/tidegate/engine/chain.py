"""Publications as deltas of the one before, for those members of a room that ask for it.

The publications of a *chain* are numbered. A member gets the delta of one if the last one that it
got is the one before; all others get the whole of it. That is decided member by member when a batch
is sent, so whatever keeps a publication from a member (it joined later, it is the publisher that
wants no echo, it was too slow), the next one that it gets is whole. Each frame is still encoded
once, for a subprotocol and for being whole or not, and all members get the same object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tidegate.engine.outbox import RoomFrames

if TYPE_CHECKING:
    from tidegate.core.stats import Stats
    from tidegate.engine.member import Encode, Member

__all__ = ["Chain", "ChainFrames", "DeltaFrame", "Link"]

_NOTHING: Final = 0  # publications are numbered from 1


class DeltaFrame(NamedTuple):
    """How one publication is sent to members of a chain."""

    frame: bytes
    saved: int
    """By how many bytes its data is smaller than the whole; 0 for the whole."""


class Chain:
    """The members of one room that are sent deltas."""

    __slots__ = ("members", "number")

    def __init__(self) -> None:
        self.members: dict[Hashable, int] = {}
        """They, and the number of the last publication that each was sent; 0 for none."""
        self.number = _NOTHING
        """The number of the last publication."""

    def restart(self, member: Hashable) -> None:
        """Send a member the next publication as a whole, if it is in the chain."""
        if member in self.members:
            self.members[member] = _NOTHING


@dataclass(slots=True, eq=False)
class Link:
    """One publication of a chain."""

    chain: Chain
    number: int
    encode: Encode
    """Gives its frame for members that are not in the chain."""
    delta: Callable[[str | None, bool], DeltaFrame]
    """Gives its frame for members that are, by their subprotocol and whether it is to be whole."""


@dataclass(slots=True, eq=False)
class _Joined:
    """Frames that members are sent together."""

    data: RoomFrames
    sizes: Sequence[int]
    last: int
    """The number of the last publication among them."""
    saved: Sequence[int]
    """By how many bytes each delta is smaller than the whole."""


class ChainFrames:
    """What the members of a chain are sent of one batch.

    Args:
        room: the name of the room.
        chain: its chain.
        crashed: told what an encoder raised.
    """

    __slots__ = ("_crashed", "_frames", "_joined", "_room", "chain", "links")

    def __init__(
        self,
        room: str,
        chain: Chain,
        crashed: Callable[[Exception, None], None],
    ) -> None:
        self.chain = chain
        self.links: list[Link] = []
        """The publications of the batch; none comes after the first `serve`."""
        self._room = room
        self._crashed = crashed
        self._frames: dict[tuple[int, str | None, bool], DeltaFrame] = {}
        self._joined: dict[tuple[str | None, bool], _Joined] = {}

    def serve(
        self,
        members: Sequence[Member],
        exceptions: Mapping[Member, Collection[int] | None],
        stats: Stats,
    ) -> list[Member]:
        """Send the batch to those members that are in the chain; return the others. HOT.

        Args:
            members: some members of the batch.
            exceptions: which of them do not get everything, and what they do not get; None is all.
            stats: counts what is sent.
        """
        last = self.chain.members
        before = self.links[0].number - 1
        others = []
        served: list[_Joined] = []
        for member in members:
            has = last.get(member)
            if has is None:
                others.append(member)
                continue
            if member in exceptions:
                excluded = exceptions[member]
                if excluded is None:
                    continue
                joined = self._join(member.subprotocol, has, excluded)
            else:
                key = (member.subprotocol, has != before)
                joined = self._joined.get(key) or self._join_all(key)
            if joined.data:
                # First: a sink that drops it says so, and the connection may end.
                last[member] = joined.last
                member.transmit(joined.data)
                served.append(joined)
        _count(served, stats)
        return others

    def _join_all(self, key: tuple[str | None, bool]) -> _Joined:
        subprotocol, whole = key
        has = _NOTHING if whole else self.links[0].number - 1
        joined = self._joined[key] = self._join(subprotocol, has, ())
        return joined

    def _join(self, subprotocol: str | None, has: int, excluded: Collection[int]) -> _Joined:
        """Join the frames for a member that has a publication."""
        frames = []
        for index, link in enumerate(self.links):
            if index in excluded:
                continue
            # The very first one has none before it.
            whole = link.number != has + 1 or has == _NOTHING
            one = self._frame(index, subprotocol, whole)
            if one.frame:  # without it, the next one is whole
                frames.append(one)
                has = link.number
        data = RoomFrames.of([one.frame for one in frames], self._room)
        data.chain = self.chain
        sizes = [len(one.frame) for one in frames]
        return _Joined(data, sizes, has, [one.saved for one in frames if one.saved])

    def _frame(self, index: int, subprotocol: str | None, whole: bool) -> DeltaFrame:
        key = (index, subprotocol, whole)
        frame = self._frames.get(key)
        if frame is None:
            try:
                frame = self.links[index].delta(subprotocol, whole)
            except Exception as error:  # an encoder is the application's
                frame = DeltaFrame(b"", 0)
                self._crashed(error, None)
            self._frames[key] = frame
        return frame


def _count(served: Sequence[_Joined], stats: Stats) -> None:
    observe = stats.outgoing.others.observe_many
    for joined, members in Counter(served).items():
        for size in joined.sizes:
            observe(size, members)
        stats.deltas_sent += members * len(joined.saved)
        stats.delta_bytes_saved += members * sum(joined.saved)
