"""What other nodes need of the sessions of a node that has died, kept by JetStream.

    session.<node>.<id>   what is known of a session
    alive.<node>          there as long as the node lives, and as its clients may come back
    key                   with which all nodes sign sessions

A node that lives is asked itself. Of several that take a session of one that does not, one gets it:
who removes what the others have read too.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from tidegate.backplane.nats.state import Failed

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.state import State, Value

__all__ = ["NatsSessions"]

_log = logging.getLogger("tidegate")

_RENEW_SECONDS: Final = 5.0
_KEPT_SECONDS: Final = 7200.0  # twice as long as a session may wait
_TOGETHER: Final = 100
_PAUSE_SECONDS: Final = 0.02
_KEY: Final = ("key",)


class NatsSessions:
    """Keeps what is known of sessions.

    Args:
        bus: the connection to the server.
        state: where it is kept.
    """

    _key_known: Callable[[bytes], None]
    _own: Callable[[], Iterable[tuple[str, bytes]]]
    _ttl: Callable[[], float]

    def __init__(self, bus: Bus, state: State) -> None:
        self._bus = bus
        self._state = state
        self._key = secrets.token_bytes(32)
        self._renewing: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._used = False
        state.made_again(self._heard)
        bus.watch(heard=self._heard, stopped=self._stop)

    def start(
        self,
        key_known: Callable[[bytes], None],
        own: Callable[[], Iterable[tuple[str, bytes]]],
        ttl: Callable[[], float],
        /,
    ) -> None:
        """Take what is told the key of the fleet, and what returns the sessions of this node."""
        self._key_known, self._own, self._ttl = key_known, own, ttl
        self._used = self._state.needed = True

    def keep(self, sessions: Sequence[tuple[str, bytes]], /) -> None:
        """Write sessions, in place of what was known of them."""
        for id_, data in sessions:
            self._state.put(self._of(self._bus.node, id_), data, _KEPT_SECONDS, _done)

    def drop(self, ids: Sequence[str], /) -> None:
        """Forget sessions."""
        for id_ in ids:
            self._state.put(self._of(self._bus.node, id_), b"", 1, _done)

    def take(self, node: str, id: str, done: Callable[[bytes | None], None], /) -> None:  # noqa: A002
        """Take a session of another node away; `done` is told what was written of it, if it is
        there."""
        key = self._of(node, id)

        def alive(value: Value | Failed) -> None:
            if isinstance(value, Failed) or not value.data:
                done(None)
            else:
                self._state.get(key, found)

        def found(value: Value | Failed) -> None:
            if isinstance(value, Failed) or not value.data:
                done(None)
                return
            data = value.data
            self._state.put(
                key,
                b"",
                1,
                lambda taken: done(None if isinstance(taken, Failed) else data),
                after=value.sequence,
            )

        self._state.get(("alive", node), alive)

    def _of(self, node: str, id_: str) -> tuple[str, ...]:
        return "session", node, id_

    def _heard(self) -> None:
        """The server may have lost everything: agree on a key again, and write all sessions."""
        if not self._used:
            return
        self._agree()
        self._write_soon()
        if self._renewing is None:
            self._renew()

    def _agree(self) -> None:
        """Write a key where there is none; else take the one that is there."""

        def written(value: Value | Failed) -> None:
            if isinstance(value, Failed):
                self._state.get(_KEY, found)
            else:
                found(value)

        def found(value: Value | Failed) -> None:
            if not isinstance(value, Failed) and value.data:
                self._key = value.data
                self._key_known(value.data)
            elif self._bus.up:
                self._later(self._agree)

        self._state.put(_KEY, self._key, None, written, after=0)

    def _later(self, again: Callable[[], None]) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(1.0, again)

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write all sessions, again and again before they are gone."""
        while True:
            own = list(self._own())
            for start in range(0, len(own), _TOGETHER):
                self.keep(own[start : start + _TOGETHER])
                await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(_KEPT_SECONDS / 3)

    def _renew(self) -> None:
        """Say that this node lives."""
        loop = asyncio.get_running_loop()
        self._renewing = loop.call_later(_RENEW_SECONDS, self._renew)
        ttl = self._ttl() + 2 * _RENEW_SECONDS
        self._state.put(("alive", self._bus.node), b"1", ttl, _done)

    def _stop(self) -> None:
        for timer in (self._renewing, self._again):
            if timer is not None:
                timer.cancel()
        self._renewing = self._again = None
        if self._writing is not None:
            self._writing.cancel()


def _done(value: Value | Failed) -> None:
    if isinstance(value, Failed):
        _log.debug("the backplane has not kept a session")
