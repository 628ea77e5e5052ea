"""Revocations: of a user now, and those that a node learns from the others."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType

from tidegate.core.codes import TOKEN_REVOKED
from tidegate.errors import UsageError
from tidegate.node.control import connections as listing
from tidegate.node.control.connections import Selector

if TYPE_CHECKING:
    from tidegate.backplane.base import Revocation
    from tidegate.node.control.parts import Parts

__all__ = ["Revoked", "learn", "revoke"]


class Revoked(Struct, frozen=True, rename="camel"):
    """What a revocation has done."""

    user: str
    before: float
    """Tokens that were issued before this time, in Unix seconds, are not accepted."""
    closed: int
    """How many connections it has ended."""
    complete: bool | UnsetType = UNSET
    """Whether all nodes have said that they did it; left out where there is one node."""


async def revoke(node: Parts, user: str, before: float) -> Revoked:
    """Accept no token of a user from before a time, on this node; end its connections."""
    node.revocations.revoke(user, before, time())
    ended = await listing.disconnect(node, Selector(user=user), reason=TOKEN_REVOKED)
    return Revoked(user, before, ended.count)


def learn(node: Parts, revocations: Sequence[Revocation]) -> set[str]:
    """Take over revocations; return the users of those that were not known."""
    now = time()
    users: set[str] = set()
    for user, before, until in revocations:
        try:
            if until > now and node.revocations.revoke(user, before, now, until):
                users.add(user)
        except UsageError as error:
            node.warn(f"a revocation of another node was not taken over: {error}")
            break
    return users
