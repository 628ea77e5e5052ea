"""Limits over all nodes, counted by Valkey or Redis.

A node's counts are one hash, which its heartbeat keeps alive: with the node dead, the hash is gone
after its time to live, and so is all that the node held. A count of the fleet is the sum over the
hashes. One script looks at all limits and counts a connection everywhere or nowhere.

The node knows best what it holds. It writes the whole hash again, it claims, whenever there is a
new connection to the server, and when the server has forgotten it. The commands of one connection
are done in their order, so the hash is right from then on.

After the server was started again, or replaced by a replica, nobody gets capacity until all nodes
have claimed, or a time to live has passed: what is known of the others may be old.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.redis.link import Link, LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS, Script
from tidegate.backplane.redis.servers import unreachable

if TYPE_CHECKING:
    from tidegate.backplane.base import Taken
    from tidegate.backplane.redis.servers import Connector
    from tidegate.core.settings import BackplaneSettings

__all__ = ["RedisLeases"]

_log = logging.getLogger("tidegate")

_TAKE: Final = SCRIPTS["lease_take"]
_CHANGE: Final = SCRIPTS["lease_change"]
_CLAIM: Final = SCRIPTS["lease_claim"]
_RENEW: Final = SCRIPTS["lease_renew"]

_UNKNOWN: Final = -1
_NOT_YET: Final = -2
_AGAIN_SECONDS: Final = 0.1
_FAILING_SECONDS: Final = 1.0
_EARLY_MS: Final = 1500  # a node is connected again within about a second
_RENEWALS: Final = 3  # in a time to live
_LOOK_SECONDS: Final = 0.1


class RedisLeases:
    """The counts of one node, and those of its fleet (`backplane.base.Leases`).

    Args:
        connector: makes connections to the server.
        settings: the prefix of all names, and how long an answer may take.
        ttl: seconds after which the counts of a node are gone that is not heard of.
        node: the name of this node: no other one has it.
    """

    def __init__(
        self, connector: Connector, settings: BackplaneSettings, ttl: float, node: str
    ) -> None:
        # The braces keep all of it on one server of a cluster. A room of this name has keys that
        # begin so too: they end with known, stream, nodes, or at and a node.
        prefix = f"{settings.prefix}:{{fleet}}:"
        self._state, self._nodes = f"{prefix}state", f"{prefix}members"
        self._counts = f"{prefix}counts:"
        self._own = f"{self._counts}{node}"
        self._node = node
        self._ttl = ttl
        self._ttl_ms = round(ttl * 1000)
        self._timeout = settings.timeout
        self._link = Link(
            connector, "lease", settings.timeout, up=self._connected, down=self._disconnected
        )
        self._held: Mapping[str, int] = {}
        self._lost: Callable[[], None] = lambda: None
        self._claims = 0
        self._claiming = False
        self._failing = False
        self._claimed = asyncio.Event()
        self._claimed_run = b""
        self._others: list[bytes] = []
        self._again: list[Callable[[], None]] = []
        self._kept_until = 0.0
        self._is_lost = False
        self._task: asyncio.Task[None] | None = None
        self._total = 0

    async def start(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        """Connect, and claim what this node holds.

        Raises:
            BackplaneError: the server cannot be reached.
        """
        self._held, self._lost = held, lost
        self._loop = asyncio.get_running_loop()
        await self._link.start()
        self._task = self._loop.create_task(self._live())
        if not await self._is_claimed():
            await self.stop()
            raise unreachable(TimeoutError(f"no answer in {self._timeout:g} s"))

    async def begin(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        """Connect as soon as that can be done, and claim; wait for the first answer only."""
        self._held, self._lost = held, lost
        self._loop = asyncio.get_running_loop()
        self._link.begin()
        self._task = self._loop.create_task(self._live())
        if not await self._is_claimed():
            _log.error("the backplane cannot be reached; limits hold in this process only")

    async def _is_claimed(self) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._claimed.wait(), self._timeout)
        return self.up

    async def stop(self) -> None:
        """Give back what this node holds, and end the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._again.clear()
        done = asyncio.Event()
        self._link.ask("SREM", self._nodes, self._node, answer=_ignore)
        self._link.ask("DEL", self._own, answer=lambda _: done.set())
        try:
            await asyncio.wait_for(done.wait(), self._timeout)
        except TimeoutError:
            _log.warning("the capacity of this node is free in %g s", self._ttl)
        await self._link.stop()

    @property
    def up(self) -> bool:
        """Whether the server can be asked, and knows what this node holds."""
        return self._claimed.is_set() and not self._failing

    @property
    def total(self) -> int:
        """Connections of all nodes when the last heartbeat was answered."""
        return self._total

    # What the node asks.

    def take(self, names: Sequence[str], limits: Sequence[int | None], taken: Taken, /) -> None:
        """Count one more under all of these names, or under none. HOT."""
        if not self.up:
            taken(None)
            return
        claims = self._claims
        again = partial(self.take, names, limits, taken)

        def answered(answer: Any) -> None:
            if answer == _UNKNOWN:
                self._forgotten()
                again()
            elif answer == _NOT_YET:
                if not self._again:
                    self._loop.call_later(_AGAIN_SECONDS, self._ask_again)
                self._again.append(again)
            elif isinstance(answer, int):
                if not answer and self._claims != claims:
                    self.change((), names)  # a claim that was sent after it did not have it
                taken(answer)
            else:
                self._refused(answer)
                taken(None)

        pairs: list[Any] = []
        for name, limit in zip(names, limits, strict=True):
            pairs += (name, -1 if limit is None else limit)
        keys = (3, self._state, self._nodes, self._own)
        self._run(_TAKE, *keys, self._link.run, self._counts, *pairs, answer=answered)

    def change(self, out: Sequence[str], into: Sequence[str], /) -> None:
        """Count one less under some names, and one more under others. HOT."""
        claims = self._claims

        def answered(answer: Any) -> None:
            if answer == _UNKNOWN:
                self._forgotten()
            elif answer != 0:
                self._refused(answer)

        if self._link.open:
            self._run(
                _CHANGE,
                *(1, self._own, len(out), *out, *into),
                answer=answered,
                # A claim that was sent after it has all of it.
                still=lambda: self._claims == claims,
            )

    def _ask_again(self) -> None:
        again, self._again = self._again, []
        for ask in again:
            ask()

    # What keeps it right.

    def _connected(self) -> None:
        for which in (_TAKE, _CHANGE, _RENEW):
            self._link.ask("SCRIPT", "LOAD", which.text, answer=_note)
        self._claim()

    def _disconnected(self) -> None:
        self._claimed.clear()
        self._claiming = self._failing = False

    def _refused(self, answer: Any) -> None:
        """The server does not do it, for want of memory say: claim until it does."""
        _note(answer)
        if not isinstance(answer, LinkDownError) and not self._failing:
            self._failing = self._claiming = True
            self._loop.call_later(_FAILING_SECONDS, self._claim_again)

    def _forgotten(self) -> None:
        """The server knows nothing of this node, or something old."""
        if self._claiming or not self._link.open:
            return
        self._look()
        self._claim()

    def _claim(self) -> None:
        self._claiming = True
        self._claims += 1
        sent, run = monotonic(), self._link.run
        counts: list[Any] = []
        for name, count in self._held.items():
            counts += (name, count)

        def answered(answer: Any) -> None:
            if answer != 0:
                self._failing = False
                self._refused(answer)
                return
            self._claiming = self._failing = False
            self._claimed_run = run
            self._kept_until = sent + self._ttl
            self._is_lost = False
            self._claimed.set()

        # With its text, and not by its name: it must not be asked for twice, and come late.
        self._link.ask(
            *("EVAL", _CLAIM.text, 3, self._state, self._nodes, self._own),
            *(run, self._node, self._ttl_ms, self._claimed_run, _EARLY_MS),
            *(len(self._others), *self._others, *counts),
            answer=answered,
        )

    def _claim_again(self) -> None:
        if self._failing and self._link.open:
            self._claim()

    async def _live(self) -> None:
        """Keep the counts of this node alive, and see when they are not."""
        renew_at = 0.0
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._ttl / 10))
            self._look()
            now = monotonic()
            if now >= renew_at and self._claimed.is_set():
                renew_at = now + self._ttl / _RENEWALS
                self._renew(now)

    def _look(self) -> None:
        """See whether the counts may be gone at the server."""
        if self._is_lost or monotonic() < self._kept_until:
            return
        self._is_lost = True
        self._lost()

    def _renew(self, sent: float) -> None:
        def answered(answer: Any) -> None:
            if not isinstance(answer, list):
                self._refused(answer)
            elif not answer:
                self._forgotten()
            else:
                self._total, *self._others = answer
                self._kept_until = sent + self._ttl
                self._is_lost = False

        keys = (2, self._nodes, self._own)
        self._run(_RENEW, *keys, self._counts, self._node, self._ttl_ms, answer=answered)

    def _run(
        self,
        which: Script,
        *arguments: Any,
        answer: Callable[[Any], None],
        still: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run a script; one that the server has forgotten is sent with its text."""

        def answered(found: Any) -> None:
            if not (isinstance(found, Exception) and str(found).startswith("No matching script")):
                answer(found)
            elif still():
                self._link.ask("EVAL", which.text, *arguments, answer=answer)

        self._link.ask("EVALSHA", which.sha, *arguments, answer=answered)


def _note(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.warning("the backplane refused to count: %s", answer)


def _ignore(_: Any) -> None:
    """Nobody wants to know."""
