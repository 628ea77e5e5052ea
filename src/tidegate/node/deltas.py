"""The rooms of one node whose members are sent deltas, and what these are made from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from msgspec import Raw

from tidegate.engine.chain import Chain, DeltaFrame, Link

if TYPE_CHECKING:
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules
    from tidegate.engine.connection import Connection

__all__ = ["Deltas", "EncodeDelta", "Step"]

_LARGEST: Final = 32_768
"""Data of more bytes goes as a whole: the time that a delta takes grows with it."""


class Step(NamedTuple):
    """One publication of a chain, and the one before it."""

    publication: Publication
    number: int
    base: Publication | None
    """The one before; None where this one is to go as a whole."""


EncodeDelta: TypeAlias = "Callable[[Step, str | None], DeltaFrame]"
"""Encodes a step for members of a chain, by their subprotocol."""


class _RoomChain(Chain):
    """The chain of one room, and its last publication where that can be built on."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.last: Publication | None = None


class Deltas:
    """The chains of a node's rooms. A room without a member that asked for deltas has none."""

    __slots__ = ("rooms",)

    def __init__(self) -> None:
        self.rooms: dict[str, _RoomChain] = {}

    def apply(self, rules: Rules) -> None:
        """Take over other rules: rooms that allow no deltas any more send none from now on."""
        for room in [room for room in self.rooms if not rules.of(room).delta]:
            del self.rooms[room]

    def take(self, connection: Connection, room: str) -> None:
        """Send a member of a room deltas from now on; the first publication is whole."""
        chain = self.rooms.get(room)
        if chain is None:
            chain = self.rooms[room] = _RoomChain()
        chain.members[connection] = 0

    def drop(self, connection: Connection, room: str) -> None:
        """Send a connection no deltas of a room any more. It need not have been sent any."""
        chain = self.rooms.get(room)
        if chain is not None:
            chain.members.pop(connection, None)
            if not chain.members:
                del self.rooms[room]

    def restart(self, connection: Connection, room: str) -> None:
        """Send a member the next publication as a whole: it may not have got the last ones."""
        chain = self.rooms.get(room)
        if chain is not None:
            chain.restart(connection)

    def replace(self, connection: Connection, other: Connection, room: str) -> None:
        """Give what a connection has asked for to the one that takes over."""
        chain = self.rooms.get(room)
        if chain is not None and chain.members.pop(connection, None) is not None:
            chain.members[other] = 0

    def link(
        self,
        chain: _RoomChain,
        publication: Publication,
        encode: Callable[[Publication, str | None], bytes],
        delta: EncodeDelta,
    ) -> Link:
        """Return what the fan-out sends of the next publication to a room with a chain."""
        number = chain.number + 1
        base = chain.last
        return Link(
            chain,
            number,
            partial(encode, publication),
            partial(_encode, delta, chain, publication, number, base),
        )

    def sent(self, chain: _RoomChain, publication: Publication) -> None:
        """The link of this publication was taken: the next one builds on it."""
        chain.number += 1
        if len(publication.data) > _LARGEST:
            chain.last = None
            return
        publication.data = _own(publication.data)
        if publication.packed is not None:
            publication.packed = _own(publication.packed)
        chain.last = publication


def _encode(
    delta: EncodeDelta,
    chain: Chain,
    publication: Publication,
    number: int,
    base: Publication | None,
    subprotocol: str | None,
    whole: bool,
) -> DeltaFrame:
    # A single member is not worth the time: what it saves is what others would save as well.
    if whole or len(chain.members) < 2 or len(publication.data) > _LARGEST:
        base = None
    return delta(Step(publication, number, base), subprotocol)


def _own(data: Any) -> Any:
    """Application data without the whole message that it may be a part of."""
    return data.copy() if isinstance(data, Raw) else data
