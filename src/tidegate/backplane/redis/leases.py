"""Limits over all nodes, counted by Valkey or Redis.

A node's counts are one hash, which its heartbeat keeps alive: with the node dead, the hash is gone
after its time to live, and so is all that the node held. A count of the fleet is the sum over the
hashes. One script looks at all limits, and counts a connection everywhere or nowhere. What happens
to the connections of a node in one turn, or before the last call is answered, goes to the server in
one call: the more there is to do, the less each costs there.

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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tidegate.backplane.redis.link import Link, LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS, Script
from tidegate.backplane.redis.servers import unreachable

if TYPE_CHECKING:
    from tidegate.backplane.base import Taken
    from tidegate.backplane.redis.servers import Connector
    from tidegate.core.settings import BackplaneSettings

__all__ = ["RedisLeases"]

_log = logging.getLogger("tidegate")

_TURN: Final = SCRIPTS["lease_turn"]
_CLAIM: Final = SCRIPTS["lease_claim"]
_RENEW: Final = SCRIPTS["lease_renew"]
_SUMS: Final = SCRIPTS["lease_sums"]

_UNKNOWN: Final = -1
_NOT_YET: Final = -2
_AGAIN_SECONDS: Final = 0.1
_FAILING_SECONDS: Final = 1.0
_EARLY_MS: Final = 1500  # a node is connected again within about a second
_RENEWALS: Final = 3  # in a time to live
_LOOK_SECONDS: Final = 0.1
_MOST_TOGETHER: Final = 200  # connections in one call: others wait for it at the server
_MOST_CHANGES: Final = 1000


class _Take(NamedTuple):
    """A connection that is to be counted."""

    names: Sequence[str]
    limits: Sequence[int | None]
    taken: Taken


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
        self._takes: list[_Take] = []
        self._changes: dict[str, int] = {}
        self._calls = 0  # that are not answered
        self._due = self._stopped = False
        self._kept_until = 0.0
        self._is_lost = False
        self._task: asyncio.Task[None] | None = None
        self._total = 0

    async def start(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        """Connect, and claim what this node holds.

        Raises:
            BackplaneError: the server cannot be reached.
        """
        self._prepare(held, lost)
        await self._link.start()
        self._task = self._loop.create_task(self._live())
        if not await self._is_claimed():
            await self.stop()
            raise unreachable(TimeoutError(f"no answer in {self._timeout:g} s"))

    async def begin(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        """Connect as soon as that can be done, and claim; wait for the first answer only."""
        self._prepare(held, lost)
        self._link.begin()
        self._task = self._loop.create_task(self._live())
        if not await self._is_claimed():
            _log.error("the backplane cannot be reached; limits hold in this process only")

    def _prepare(self, held: Mapping[str, int], lost: Callable[[], None]) -> None:
        self._held, self._lost = held, lost
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    async def _is_claimed(self) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._claimed.wait(), self._timeout)
        return self.up

    async def stop(self) -> None:
        """Give back what this node holds, and end the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._stopped = True
        self._takes.clear()
        self._changes.clear()
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
        self._takes.append(_Take(names, limits, taken))
        self._soon()

    def change(self, out: Sequence[str], into: Sequence[str], /) -> None:
        """Count one less under some names, and one more under others. HOT."""
        if not self._link.open:
            return
        changes = self._changes
        for name in out:
            changes[name] = changes.get(name, 0) - 1
        for name in into:
            changes[name] = changes.get(name, 0) + 1
        self._soon()

    def sums(self, names: Sequence[str], done: Callable[[list[int] | None], None], /) -> None:
        """Tell `done` what all nodes have in some counts; None when that cannot be known now."""

        def answered(answer: Any) -> None:
            done(answer if isinstance(answer, list) else None)

        arguments = (1, self._nodes, self._counts, *names)
        again = partial(self.sums, names, done)
        self._run(_SUMS, *arguments, answer=answered, again=again)

    def _soon(self) -> None:
        if not self._due and not self._calls and not self._stopped:
            self._due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Send what has come together."""
        self._due = False
        changes, self._changes = [one for one in self._changes.items() if one[1]], {}
        takes, self._takes = self._takes, []
        while changes or takes:
            self._send(changes[:_MOST_CHANGES], takes[:_MOST_TOGETHER])
            del changes[:_MOST_CHANGES], takes[:_MOST_TOGETHER]

    def _send(self, changes: list[tuple[str, int]], takes: list[_Take]) -> None:
        self._calls += 1
        claims = self._claims
        arguments: list[Any] = [3, self._state, self._nodes, self._own, self._link.run]
        arguments += (self._counts, len(changes))
        for change in changes:
            arguments += change
        for names, limits, _ in takes:
            arguments.append(len(names))
            for name, limit in zip(names, limits, strict=True):
                arguments += (name, -1 if limit is None else limit)

        def answered(answer: Any) -> None:
            self._calls -= 1
            if self._takes or self._changes:
                self._soon()
            if isinstance(answer, list):
                for (names, _, taken), how in zip(takes, answer, strict=True):
                    if not how and self._claims != claims:
                        self.change((), names)  # a claim that was sent after it did not have it
                    taken(how)
            elif answer == _UNKNOWN:
                self._forgotten()
                self._ask_again(takes)
            elif answer == _NOT_YET:
                self._loop.call_later(_AGAIN_SECONDS, self._ask_again, takes)
            else:
                self._refused(answer)
                for one in takes:
                    one.taken(None)

        def forgotten() -> None:
            # A claim that was sent since has all changes.
            self._calls -= 1
            self._send(changes if self._claims == claims else [], takes)

        self._run(_TURN, *arguments, answer=answered, again=forgotten)

    def _ask_again(self, takes: list[_Take]) -> None:
        for names, limits, taken in takes:
            self.take(names, limits, taken)

    # What keeps it right.

    def _connected(self) -> None:
        for which in (_TURN, _RENEW, _SUMS):
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
        self._changes.clear()  # what is held has them
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
        arguments = (*keys, self._counts, self._node, self._ttl_ms)
        self._run(_RENEW, *arguments, answer=answered, again=lambda: self._renew(sent))

    def _run(
        self,
        which: Script,
        *arguments: Any,
        answer: Callable[[Any], None],
        again: Callable[[], None],
    ) -> None:
        """Run a script; one that the server has forgotten is given to it, and done `again`."""

        def answered(found: Any) -> None:
            if not (isinstance(found, Exception) and str(found).startswith("No matching script")):
                answer(found)
            else:
                self._link.ask("SCRIPT", "LOAD", which.text, answer=_note)
                again()

        self._link.ask("EVALSHA", which.sha, *arguments, answer=answered)


def _note(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.warning("the backplane refused to count: %s", answer)


def _ignore(_: Any) -> None:
    """Nobody wants to know."""
