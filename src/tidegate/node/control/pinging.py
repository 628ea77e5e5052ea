"""How long the way to a user and back takes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.wire.messages import MAX_USER

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["Ping", "Pinged", "ping_user"]

_MOST: Final = 16  # connections of one user that are pinged


class Ping(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A user, and how many seconds to wait for the answer."""

    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER)]
    timeout: Annotated[float, Meta(gt=0, le=10)] = 2.0


class Pinged(Struct, frozen=True, rename="camel"):
    """How many connections the user has, and the seconds that the first answer took, or null."""

    user: str
    connections: int
    latency: float | None
    complete: bool | UnsetType = UNSET
    """Whether all nodes have answered; left out where there is one node."""


async def ping_user(node: Parts, query: Ping) -> Pinged:
    """Ping the connections of a user, 16 at most, and wait for the first answer."""
    connections = node.users.of_user(query.user)
    latency = await node.pings.ping(islice(connections, _MOST), query.timeout)
    return Pinged(query.user, len(connections), latency)
