"""A fair, bounded waiting room in front of a full server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Final, NamedTuple

from tidegate.addresses import counted
from tidegate.core.admission import attempt as core
from tidegate.core.admission.waiting_room import WaitingRoom as Queue
from tidegate.core.codes import QUEUE_FULL, SERVER_LIMIT, WAIT_TIMEOUT
from tidegate.core.settings import Settings, WaitingRoomSettings
from tidegate.errors import Refused
from tidegate.gate.refused import refused, rejected
from tidegate.policies.pacer import Pacer
from tidegate.policies.shedder import LoadShedder, shedding_off
from tidegate.policies.ticking import Ticking
from tidegate.policies.tracker import ConnectionTracker, Lease

__all__ = ["Position", "WaitingRoom"]

_DEFAULTS: Final = WaitingRoomSettings()
_EVERY: Final = 0.1  # seconds between two looks while somebody waits


class Position(NamedTuple):
    """Where a client waits: `position` from 1, of `total`.

    `waited` is in seconds; so is `eta`, the estimate of what is left, None while unknown.
    """

    position: int
    total: int
    waited: float
    eta: float | None


class _Waiter:
    """One client that waits, and what it is told."""

    __slots__ = ("future", "on_position")

    def __init__(
        self, future: asyncio.Future[Lease], on_position: Callable[[Position], None] | None
    ) -> None:
        self.future = future
        self.on_position = on_position


class WaitingRoom:
    """Lets clients wait in order while the server is full. For one event loop.

    Higher priorities come first; among equals, the first to come is the first to be admitted. While
    somebody waits, no later attempt overtakes. A lease may be released from any thread.

        room = WaitingRoom(tracker)
        async with await room.acquire(address, on_position=print) as lease:
            ...

    Args:
        tracker: the counts in front of which clients wait.
        size: the most clients that wait, from 1.
        max_wait: seconds.
        pacer: those that waited are admitted at its rate too, if there is one.
        shedder: in an emergency only clients with priority leave the room, if there is one.
        clock: monotonic seconds.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        tracker: ConnectionTracker,
        *,
        size: int = _DEFAULTS.size,
        max_wait: float = _DEFAULTS.max_wait,
        pacer: Pacer | None = None,
        shedder: LoadShedder | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        settings = Settings.from_mapping({"waiting_room": {"size": size, "max_wait": max_wait}})
        self._tracker = tracker
        self._clock = clock
        self._queue = Queue(
            settings,
            tracker.counts,
            shedding_off() if shedder is None else shedder.zones,
            random,
            None if pacer is None else pacer.slots,
        )
        self._ticking = Ticking(lambda _late: self.tick(), lambda: _EVERY)
        self._loop: asyncio.AbstractEventLoop | None = None
        tracker.on_release(self._released)

    async def acquire(
        self,
        address: str,
        user: str | None = None,
        *,
        tier: str | None = None,
        priority: int = 0,
        on_position: Callable[[Position], None] | None = None,
    ) -> Lease:
        """Return a lease, at once or after waiting for it. Cancelling gives the position up.

        Args:
            address: as in `ConnectionTracker.acquire`; so are `user` and `tier`.
            priority: the higher, the earlier.
            on_position: called with each `Position` of this client, at most once a second.

        Raises:
            Refused: `queue_full`, `wait_timeout`, or a limit of the client's own.
        """
        identity = core.Identity(user, tier, priority)
        attempt = core.Attempt(counted(address), "", identity)
        if not self._queue.comes_before(attempt):
            lease = self._tracker.counts.acquire(attempt.address, identity)
            if not isinstance(lease, core.Reject):
                return self._tracker.held(lease)
            if lease.reason is not SERVER_LIMIT:
                raise rejected(lease)
        if (own := self._queue.rejection(attempt)) is not None:
            raise rejected(own)
        self._loop = asyncio.get_running_loop()
        waiter = _Waiter(self._loop.create_future(), on_position)
        now = self._clock()
        position = self._queue.enter(waiter, attempt, now)
        if position is None:
            raise refused(QUEUE_FULL)
        if on_position is not None:
            on_position(Position(position, len(self), 0.0, self._queue.eta(position, now)))
        self._ticking.start()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._queue.leave(waiter, self._clock())
            # It may have been admitted in the same turn.
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release()
            raise

    def tick(self) -> None:
        """Admit those for whom there is capacity, and end those that have waited too long.

        It is called several times a second while somebody waits.
        """
        now = self._clock()
        for key in self._queue.expired(now):
            self._end(key, refused(WAIT_TIMEOUT))
        while (promotion := self._queue.promote(now)) is not None:
            outcome = promotion.outcome
            if isinstance(outcome, core.Reject):
                self._end(promotion.key, rejected(outcome))
            else:
                self._admit(promotion.key, self._tracker.held(outcome))
        for status in self._queue.status(now):
            waiter = status.key
            assert isinstance(waiter, _Waiter)
            if waiter.on_position is not None:
                waiter.on_position(Position(*status[1:]))

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    async def stop(self) -> None:
        """Refuse those that wait, and admit nobody from here any more."""
        await self._ticking.stop()

    def _admit(self, key: object, lease: Lease) -> None:
        assert isinstance(key, _Waiter)
        if key.future.done():
            lease.release()
        else:
            key.future.set_result(lease)

    def _end(self, key: object, why: Refused) -> None:
        assert isinstance(key, _Waiter)
        if not key.future.done():
            key.future.set_exception(why)

    def _released(self) -> None:
        if len(self._queue) and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.tick)
