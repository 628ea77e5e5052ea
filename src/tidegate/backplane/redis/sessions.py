"""What other nodes need of the sessions of a node that has died, over Valkey or Redis.

    one hash for a node: by the id of a session, what is known of it

A node that lives is asked itself. Its hash is kept alive by it, and outlives it for as long as its
clients may come back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.redis.link import LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS

if TYPE_CHECKING:
    from tidegate.backplane.redis.links import Links

__all__ = ["RedisSessions"]

_log = logging.getLogger("tidegate")

_TAKE: Final = SCRIPTS["take"]
_RENEW_SECONDS: Final = 5.0
_TOGETHER: Final = 500
_PAUSE_SECONDS: Final = 0.01


class RedisSessions:
    """Keeps what is known of sessions.

    Args:
        links: the connections to the server.
    """

    _key_known: Callable[[bytes], None]
    _own: Callable[[], Iterable[tuple[str, bytes]]]
    _ttl: Callable[[], float]

    def __init__(self, links: Links) -> None:
        self._links = links
        self._key_name = links.name("{sessions}", "key")
        self._key = secrets.token_bytes(32)
        self._renewing: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._used = False
        links.watch(heard=self._heard, stopped=self._stop)

    def start(
        self,
        key_known: Callable[[bytes], None],
        own: Callable[[], Iterable[tuple[str, bytes]]],
        ttl: Callable[[], float],
        /,
    ) -> None:
        """Take what is told the key of the fleet, and what returns the sessions of this node."""
        self._key_known, self._own, self._ttl = key_known, own, ttl
        self._used = True

    def keep(self, sessions: Sequence[tuple[str, bytes]], /) -> None:
        """Write sessions, in place of what was known of them."""
        pairs = [part for one in sessions for part in one]
        name = self._name(self._links.node)
        self._links.commands.ask("HSET", name, *pairs, answer=_done)
        self._renew()

    def drop(self, ids: Sequence[str], /) -> None:
        """Forget sessions."""
        name = self._name(self._links.node)
        self._links.commands.ask("HDEL", name, *ids, answer=_done)

    def take(self, node: str, id: str, done: Callable[[bytes | None], None], /) -> None:  # noqa: A002
        """Take a session of another node away; `done` is told what was written of it, if it is
        there."""

        def answered(answer: Any) -> None:
            _done(answer)
            done(answer if isinstance(answer, bytes) else None)

        self._links.run(_TAKE, (self._name(node),), id, answer=answered)

    def _name(self, node: str) -> bytes:
        return self._links.name("sessions", node)

    def _heard(self) -> None:
        """The server may have lost everything: agree on a key again, and write all sessions."""
        if not self._used:
            return

        def answered(answer: Any) -> None:
            if isinstance(answer, bytes):
                self._key = answer
                self._key_known(answer)

        self._links.commands.ask("SET", self._key_name, self._key, "NX", answer=_done)
        self._links.commands.ask("GET", self._key_name, answer=answered)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())
        if self._renewing is None:
            self._renew_later()

    async def _write(self) -> None:
        own = list(self._own())
        for start in range(0, len(own), _TOGETHER):
            self.keep(own[start : start + _TOGETHER])
            await asyncio.sleep(_PAUSE_SECONDS)

    def _renew_later(self) -> None:
        self._renew()
        loop = asyncio.get_running_loop()
        self._renewing = loop.call_later(_RENEW_SECONDS, self._renew_later)

    def _renew(self) -> None:
        ms = round((self._ttl() + 2 * _RENEW_SECONDS) * 1000)
        self._links.commands.ask("PEXPIRE", self._name(self._links.node), ms, answer=_done)

    def _stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        if self._writing is not None:
            self._writing.cancel()


def _done(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.error("the backplane does not keep sessions: %s", answer)
