"""Waiting in front of a full server: on an open connection, or with a ticket.

A client that can be told things in-band gets its upgrade, but no lease: it is told its position
until it is admitted. Any other client is sent away with a signed ticket and the time to come back
at. Capacity that becomes free while the client at the head is away is kept for it until then.

    held:    decide -> hold -> seated -> told its position ... -> admitted with a lease
    ticket:  decide -> 503 and a ticket -> away -> its turn: a lease is kept -> back: 101

Every position that is entered ends once, and is counted then: `promoted` when its client has the
lease, `left` when the client is gone, `expired` when it waited too long or did not come back,
`refused` for a limit of its own, `drained` when the server drains. Until then it is one of those
that wait, or a lease is kept for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from tidegate.addresses import network
from tidegate.core.admission.attempt import Attempt, Lease, Reject
from tidegate.core.admission.positions import Status
from tidegate.core.admission.tickets import NONCE_BYTES, Spent, Ticket, check, issue
from tidegate.core.codes import DRAINING, QUEUE_FULL, WAIT_TIMEOUT, WAITING
from tidegate.core.timing.deadlines import Deadlines
from tidegate.gate.decision import Away, Held

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats

__all__ = ["Host", "WaitingClients"]

C = TypeVar("C")
T = TypeVar("T")
_C = TypeVar("_C", contravariant=True)

_BATCH: Final = 64
# Each client is told at most once a second, and not much later than it may be.
_BETWEEN_LOOKS: Final = 0.25
_LEAST_WAIT: Final = 0.005  # as long as a timer is worth
_TICK: Final = 0.1
_SOON: Final = 1
_LATE: Final = 5
_REMEMBERED: Final = 1 << 14

_QUEUE_FULL: Final = Reject(QUEUE_FULL, QUEUE_FULL.retry_after)
_WAIT_TIMEOUT: Final = Reject(WAIT_TIMEOUT, WAIT_TIMEOUT.retry_after)
_DRAINING: Final = Reject(DRAINING, DRAINING.retry_after)


class Host(Protocol[_C]):
    """Who has the connections on which clients wait. No method may raise."""

    def tell(self, client: _C, status: Status[Any], /) -> None:
        """Tell a client its position."""

    def admit(self, client: _C, lease: Lease, held: Held, /) -> bool:
        """Give a client its lease; False if it is gone, and the lease goes to the next one."""

    def turn_away(self, client: _C, reject: Reject, /) -> None:
        """End a connection whose client waits no longer. Nothing more is done for it here."""

    def schedule(self, seconds: float, work: Callable[[], None], /) -> None:
        """Call `work` in so many seconds; 0.0 is soon, but not at once."""


class WaitingClients(Generic[C]):
    """The clients that wait in front of one node. All times are monotonic seconds but `wall`.

    Args:
        host: has the connections, and is told what happens to the clients.
        clock: the monotonic time, for what the host was asked to call.
    """

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        tracker: ConnectionTracker,
        stats: Stats,
        host: Host[C],
        clock: Callable[[], float],
    ) -> None:
        self._admission = admission
        self._tracker = tracker
        self._stats = stats
        self._host = host
        self._clock = clock
        self._room = admission.waiting_room
        self._max_wait = settings.waiting_room.max_wait
        self._grace = settings.waiting_room.ticket_grace
        self._prefix = settings.limits.ipv6_prefix
        secret = settings.waiting_room.secret
        self._secret = secret.encode() if secret else secrets.token_bytes(32)
        self._spent = Spent(_REMEMBERED)
        # Clients whose connection is about to open: since when they wait, or how that ended.
        self._opening: dict[Held, float | Reject] = {}
        self._seated: dict[C, Held] = {}
        # When the holder of a ticket has to be back, by its nonce.
        self._until: dict[Hashable, float] = {}
        # Leases that are kept for those who are away, until then.
        self._kept: dict[Hashable, Lease] = {}
        self._kept_until: Deadlines[Hashable] = Deadlines()
        self._scheduled = False
        self._next_look = 0.0

    def __len__(self) -> int:
        """How many clients wait."""
        return 0 if self._room is None else len(self._room)

    @property
    def kept(self) -> int:
        """Leases that are kept for holders of tickets who are not back yet."""
        return len(self._kept)

    def apply(self, settings: Settings) -> None:
        """Take over `waiting_room.size` and `waiting_room.max_wait` from changed settings."""
        self._max_wait = settings.waiting_room.max_wait
        if self._room is not None:
            self._room.apply(settings)

    # Clients that wait on their connection.

    def hold(self, attempt: Attempt, unidentified: bool, now: float) -> Held | Reject:
        """Take a position for a client whose connection is about to open."""
        assert self._room is not None
        held = Held(attempt, unidentified)
        position = self._room.enter(held, attempt, now)
        if position is None:
            return self._full(now)
        held.position = position
        self._opening[held] = now
        self._stats.waited["entered"] += 1
        self._wake()
        return held

    def seated(self, client: C, held: Held) -> None:
        """The connection of a held client is open."""
        held.client = client
        outcome = self._opening.pop(held)
        if isinstance(outcome, Reject):
            reject = outcome
            self._host.schedule(0.0, lambda: self._host.turn_away(client, reject))
        else:
            self._seated[client] = held

    def greet(self, client: C, now: float) -> None:
        """Tell a client that has just been seated its position."""
        held = self._seated.get(client)
        if held is not None and self._room is not None:
            eta = self._room.eta(held.position, now)
            self._host.tell(client, Status(held, held.position, len(self._room), 0.0, eta))

    def gone(self, client: C, now: float) -> None:
        """A connection without a lease has ended: its position is free."""
        held = self._seated.pop(client, None)
        if held is not None and self._room is not None and self._room.leave(held, now):
            self._stats.waited["left"] += 1
            self._wake()

    # Clients with tickets.

    def read(self, text: str, attempt: Attempt, wall: float) -> Ticket | None:
        """Return what a ticket says, if it is good for this attempt; `wall` is in Unix seconds."""
        if self._room is None:
            return None
        ticket = check(self._secret, text, self._bound(attempt), wall)
        return None if ticket is None or ticket.nonce in self._spent else ticket

    def back(self, ticket: Ticket, attempt: Attempt, now: float, wall: float) -> Lease | Reject:
        """Decide about the holder of a ticket that is back: WAITING when it has to wait on."""
        nonce = ticket.nonce
        kept = self._kept.pop(nonce, None)
        if kept is not None:
            # Given back and taken again, because the address may be another one now.
            self._kept_until.discard(nonce)
            self._tracker.release(kept)
            self._spent.spend(nonce)
            outcome = self._tracker.acquire(attempt.address, attempt.identity)
            if isinstance(outcome, Reject):
                self._wake()
            self._stats.waited["refused" if isinstance(outcome, Reject) else "promoted"] += 1
            return outcome
        assert self._room is not None
        if nonce in self._room:
            return Reject(WAITING, WAITING.retry_after)
        if wall >= ticket.arrived + self._max_wait:
            self._spent.spend(nonce)
            return _WAIT_TIMEOUT
        outcome = self._admission.admit(attempt, now)
        if isinstance(outcome, Lease):
            self._spent.spend(nonce)
        return outcome

    def send_away(
        self, attempt: Attempt, ticket: Ticket | None, now: float, wall: float
    ) -> Away | Reject:
        """Give a client its ticket, or the holder of one a new time to come back at."""
        assert self._room is not None
        nonce = secrets.token_bytes(NONCE_BYTES) if ticket is None else ticket.nonce
        arrived = wall if ticket is None else min(ticket.arrived, wall)
        new = nonce not in self._room
        position = self._room.enter(nonce, attempt, now, now - (wall - arrived))
        if position is None:
            return self._full(now)
        if new:
            self._stats.waited["entered"] += 1
            self._wake()
        eta = self._room.eta(position, now)
        delay = _LATE if eta is None else max(_SOON, min(_LATE, ceil(eta)))
        left = delay + self._grace
        self._room.enter(nonce, attempt, now, until=now + left)
        self._until[nonce] = now + left
        text = issue(
            self._secret,
            bound=self._bound(attempt),
            priority=attempt.identity.priority,
            arrived=arrived,
            expires=wall + left,
            nonce=nonce,
        )
        return Away(text, position, delay)

    # What happens by itself.

    def give_back(self, lease: Lease) -> None:
        """Release a lease that no connection has taken up."""
        if self._tracker.release(lease):
            self.freed()

    def freed(self) -> None:
        """Capacity became free."""
        if self._room:
            self._wake()

    def tick(self, now: float) -> None:
        """End what is over, admit whom there is capacity for, and tell the others their position.

        Call it about ten times a second.
        """
        self._each(self._kept_until.take(now), partial(self._lapse, "expired"))
        if self._admission.draining:
            self._end_all(now)
            return
        room = self._room
        if not room:
            return
        self._each(room.expired(now), self._expire)
        self._promote()
        if now >= self._next_look:
            self._next_look = now + _BETWEEN_LOOKS
            self._each(room.status(now), self._tell)

    def _each(self, items: Iterator[T], do: Callable[[T], None]) -> None:
        """Do something with each of many, in batches, so that nobody else waits for all of them."""
        done = 0
        for item in islice(items, _BATCH):
            do(item)
            done += 1
        if done == _BATCH:
            self._host.schedule(0.0, lambda: self._each(items, do))

    def _lapse(self, how: str, nonce: Hashable) -> None:
        self._tracker.release(self._kept.pop(nonce))
        self._stats.waited[how] += 1

    def _expire(self, key: Hashable) -> None:
        if isinstance(key, Held):
            self._end(key, _WAIT_TIMEOUT, "expired")
        else:
            self._stats.waited["expired"] += 1
            del self._until[key]

    def _tell(self, status: Status[Any]) -> None:
        if isinstance(status.key, Held) and status.key not in self._opening:
            self._host.tell(status.key.client, status)

    def _wake(self, seconds: float = 0.0) -> None:
        # Not at once: this may be inside the end of another connection.
        if not self._scheduled:
            self._scheduled = True
            self._host.schedule(seconds, self._promote)

    def _promote(self) -> None:
        self._scheduled = False
        room = self._room
        if room is None or self._admission.draining:
            return
        now = self._clock()
        for _ in range(_BATCH):
            promotion = room.promote(now)
            if promotion is None:
                wait = room.wait_for_room(now) if room else 0.0
                if 0.0 < wait < _TICK:  # else the tick comes before
                    self._wake(max(wait, _LEAST_WAIT))
                return
            key, _, outcome = promotion
            if not isinstance(key, Held):
                self._keep(key, outcome)
            elif isinstance(outcome, Reject):
                self._end(key, outcome, "refused")
            elif key in self._opening:
                self._too_early(key, outcome, now)
                return
            else:
                self._admit(key, outcome, now)
        self._wake()

    def _too_early(self, held: Held, lease: Lease, now: float) -> None:
        """Put a client whose connection is about to open back where it was."""
        self._tracker.release(lease)
        arrived = self._opening[held]
        assert self._room is not None
        assert not isinstance(arrived, Reject)
        if self._room.enter(held, held.attempt, now, arrived) is None:
            self._end(held, self._full(now), "refused")  # the waiting room was made smaller
        self._wake(_LEAST_WAIT)

    def _admit(self, held: Held, lease: Lease, now: float) -> None:
        client = held.client
        del self._seated[client]
        if not self._host.admit(client, lease, held):
            self._tracker.release(lease)
            self._stats.waited["left"] += 1
            self._wake()
            return
        self._stats.waited["promoted"] += 1
        self._stats.accepted += 1
        self._admission.breaker.admitted(now)

    def _keep(self, nonce: Hashable, outcome: Lease | Reject) -> None:
        until = self._until.pop(nonce)
        if isinstance(outcome, Reject):
            self._stats.waited["refused"] += 1  # it is told when it is back
            return
        self._kept[nonce] = outcome
        self._kept_until.set(nonce, until)

    def _end_all(self, now: float) -> None:
        self._each(self._kept_until.take(inf), partial(self._lapse, "drained"))
        room = self._room
        if not room:
            return

        def end(key: Hashable) -> None:
            if not room.leave(key, now):
                return  # the tick before has begun with the same ones
            if isinstance(key, Held):
                self._end(key, _DRAINING, "drained")
            else:
                del self._until[key]
                self._stats.waited["drained"] += 1

        self._each(iter((*self._opening, *self._seated.values(), *self._until)), end)

    def _end(self, held: Held, reject: Reject, how: str) -> None:
        self._stats.waited[how] += 1
        self._stats.rejected[reject.reason.name] += 1
        if held in self._opening:
            self._opening[held] = reject
        elif self._seated.pop(held.client, None) is not None:
            self._host.turn_away(held.client, reject)

    def _full(self, now: float) -> Reject:
        self._admission.breaker.rejected(now)
        return _QUEUE_FULL

    def _bound(self, attempt: Attempt) -> str:
        """Whose a ticket is. IPv6 clients change their address by themselves."""
        user = attempt.identity.user
        return f"ip:{network(attempt.address, self._prefix)}" if user is None else f"user:{user}"
