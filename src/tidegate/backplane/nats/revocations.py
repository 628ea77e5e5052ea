"""Revocations, kept by JetStream for as long as a token may be valid that they are against.

A node reads them when it comes, and whenever it may have missed an order. It also writes those that
it knows and the server does not: one that was given while the server was away, or that it has lost.
What one node writes, all hear.
"""

from __future__ import annotations

import asyncio
import logging
from time import time
from typing import TYPE_CHECKING, Final

import msgspec

from tidegate.backplane.base import Revocation
from tidegate.backplane.nats.state import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.state import State, Value
    from tidegate.backplane.nats.wire import Message

__all__ = ["NatsRevocations"]

_log = logging.getLogger("tidegate")

_KIND: Final = "revoked"
_MOST_TRIES: Final = 100
_TOGETHER: Final = 200
_PAUSE_SECONDS: Final = 0.01
_AGAIN_SECONDS: Final = 1.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Revocation).decode


class NatsRevocations:
    """Keeps revocations for all nodes.

    Args:
        bus: the connection to the server.
        state: where they are kept.
    """

    _known: Callable[[], Iterable[Revocation]]
    _learn: Callable[[Sequence[Revocation]], None]

    def __init__(self, bus: Bus, state: State) -> None:
        self._bus = bus
        self._state = state
        self._used = False
        self._writing: asyncio.Task[None] | None = None
        self._first: asyncio.Event = asyncio.Event()
        bus.hear(state.subject(_KIND) + ".*", self._told)
        self._again: asyncio.TimerHandle | None = None
        state.made_again(self._meet)
        bus.watch(heard=self._meet, ready=self._ready, stopped=self._stop)

    def start(
        self,
        known: Callable[[], Iterable[Revocation]],
        learn: Callable[[Sequence[Revocation]], None],
        /,
    ) -> None:
        """Take what returns the revocations of this node, and what is told those of the others."""
        self._known, self._learn = known, learn
        self._used = True

    def keep(self, revocation: Revocation, /) -> None:
        """Keep one; when the server cannot be reached, it is kept when it can be again."""
        self._write(revocation, 0)

    async def _ready(self) -> None:
        """Wait for what is kept, for as long as the server may take to answer."""
        if self._used:
            try:
                await asyncio.wait_for(self._first.wait(), self._bus.timeout)
            except TimeoutError:
                _log.warning("the backplane does not say which tokens are revoked")

    def _meet(self) -> None:
        """Read what all know, then write what only this node knows."""
        if not self._used:
            return

        def read(found: list[bytes] | None) -> None:
            self._first.set()
            if found is None:
                if self._state.there and self._bus.up:
                    self._later()
                return
            kept = {one.user: one for one in map(_decode, found)}
            new = [one for one in self._known() if _more(one, kept.get(one.user))]
            self._learn(list(kept.values()))
            if new:
                if self._writing is not None:
                    self._writing.cancel()
                self._writing = asyncio.get_running_loop().create_task(self._write_all(new))

        self._state.all(_KIND, read)

    def _later(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._meet)

    async def _write_all(self, some: Sequence[Revocation]) -> None:
        for number, one in enumerate(some, 1):
            self.keep(one)
            if number % _TOGETHER == 0:
                await asyncio.sleep(_PAUSE_SECONDS)

    def _write(self, revocation: Revocation, tries: int) -> None:
        """Write one, if it says more than what is there."""
        key = (_KIND, revocation.user)

        def found(value: Value | Failed) -> None:
            if isinstance(value, Failed):
                return  # it is written when there is a connection again
            kept = _decode(value.data) if value.data else None
            ttl = revocation.until - time()
            if ttl > 0 and _more(revocation, kept):
                data = _encode(_both(revocation, kept))
                self._state.put(key, data, ttl, written, after=value.sequence)

        def written(value: Value | Failed) -> None:
            if not isinstance(value, Failed):
                return
            if value.known and tries < _MOST_TRIES:  # another node was faster
                self._write(revocation, tries + 1)
            else:
                _log.warning("the backplane does not keep a revocation")

        self._state.get(key, found)

    def _told(self, message: Message) -> None:
        if self._used and message.data:
            self._learn([_decode(message.data)])

    def _stop(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._writing is not None:
            self._writing.cancel()


def _more(one: Revocation, kept: Revocation | None) -> bool:
    """Whether a revocation says more than what is kept."""
    return kept is None or one.before > kept.before or one.until > kept.until


def _both(one: Revocation, kept: Revocation | None) -> Revocation:
    if kept is None:
        return one
    return Revocation(one.user, max(one.before, kept.before), max(one.until, kept.until))
