"""Revocations, kept by the server for as long as a token may be valid that they are against.

A node reads them when it comes, and whenever it may have missed an order. It also writes those that
it knows itself: one that was given while the server was away, or that the server has lost, is there
again, and then the other nodes are told to read too.
"""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.base import Revocation
from tidegate.backplane.redis.link import LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tidegate.backplane.redis.links import Links

__all__ = ["RedisRevocations"]

_log = logging.getLogger("tidegate")

_REVOKE: Final = SCRIPTS["revoke"]
_TOGETHER: Final = 500


class RedisRevocations:
    """Keeps revocations for all nodes.

    Args:
        links: the connections to the server.
    """

    _known: Callable[[], Iterable[Revocation]]
    _learn: Callable[[Sequence[Revocation]], None]

    def __init__(self, links: Links) -> None:
        self._links = links
        self._keys = (links.name("{revoked}", "before"), links.name("{revoked}", "until"))
        self._channel = links.name("revoked")
        links.watch(heard=self._meet)
        links.hear(self._channel, self._told)

    def start(
        self,
        known: Callable[[], Iterable[Revocation]],
        learn: Callable[[Sequence[Revocation]], None],
        /,
    ) -> None:
        """Take what returns the revocations of this node, and what is told those of the others."""
        self._known, self._learn = known, learn

    def keep(self, revocation: Revocation, /) -> None:
        """Keep one; when the server cannot be reached, it is kept when it can be again."""
        self._write([revocation], lambda _: None)

    def _meet(self) -> None:
        """Write what this node knows, then read what all know."""
        known = list(self._known())
        for start in range(0, len(known), _TOGETHER):
            self._write(known[start : start + _TOGETHER], self._tell)
        self._read()

    def _tell(self, changed: Any) -> None:
        if isinstance(changed, int) and changed:
            self._links.publish(self._channel, b"", _done)

    def _told(self, _: bytes) -> None:
        self._read()

    def _write(self, some: Sequence[Revocation], answer: Callable[[Any], None]) -> None:
        arguments = [part for one in some for part in (one.user, repr(one.before), repr(one.until))]

        def written(found: Any) -> None:
            _done(found)
            answer(found)

        self._links.run(_REVOKE, self._keys, repr(time()), *arguments, answer=written)

    def _read(self) -> None:
        befores: list[Any] = []

        def read(answer: Any) -> None:
            _done(answer)
            if isinstance(answer, Exception):
                return
            befores.append(answer)
            if len(befores) == len(self._keys):
                self._learn(_joined(*befores))

        for key in self._keys:
            self._links.commands.ask("ZRANGE", key, 0, -1, "WITHSCORES", answer=read)


def _joined(befores: list[bytes], untils: list[bytes]) -> list[Revocation]:
    until = dict(zip(untils[::2], untils[1::2], strict=True))
    return [
        Revocation(user.decode(), float(before), float(until[user]))
        for user, before in zip(befores[::2], befores[1::2], strict=True)
        if user in until
    ]


def _done(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.error("the backplane does not keep revocations: %s", answer)
