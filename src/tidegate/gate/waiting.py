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
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tidegate.addresses import network
from tidegate.core.admission.attempt import Attempt, Lease, Reject
from tidegate.core.admission.positions import Status
from tidegate.core.admission.tickets import NONCE_BYTES, Spent, Ticket, check, issue
from tidegate.core.codes import (
    DRAINING,
    FLEET_DOWN,
    FLEET_LIMIT,
    QUEUE_FULL,
    WAIT_TIMEOUT,
    WAITING,
)
from tidegate.core.timing.deadlines import Deadlines
from tidegate.gate.decision import Away, Held

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.gate.fleet import Fleet
    from tidegate.gate.waiting_host import Host

__all__ = ["WaitingClients"]

C = TypeVar("C")
T = TypeVar("T")

_BATCH: Final = 64
# Each client is told at most once a second, and not much later than it may be.
_BETWEEN_LOOKS: Final = 0.25
_LEAST_WAIT: Final = 0.005  # as long as a timer is worth
_TICK: Final = 0.1
_BETWEEN_OFFERS: Final = 0.25  # when the fleet is full
_SOON: Final = 1
_LATE: Final = 5
_REMEMBERED: Final = 1 << 14

_QUEUE_FULL: Final = Reject(QUEUE_FULL, QUEUE_FULL.retry_after)
_WAIT_TIMEOUT: Final = Reject(WAIT_TIMEOUT, WAIT_TIMEOUT.retry_after)
_DRAINING: Final = Reject(DRAINING, DRAINING.retry_after)


class WaitingClients(Generic[C]):
    """The clients that wait in front of one node. All times are monotonic seconds but `wall`.

    Args:
        host: has the connections, and is told what happens to the clients.
        clock: the monotonic time, for what the host was asked to call.
        fleet: counts the connections of all nodes; None where this node is alone.
    """

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        tracker: ConnectionTracker,
        stats: Stats,
        host: Host[C],
        clock: Callable[[], float],
        fleet: Fleet | None = None,
    ) -> None:
        self._fleet = fleet
        # Leases that the fleet is asked about: together, and one at a time while it is full. So
        # nobody is offered one that somebody before was refused a moment ago.
        self._offers = 0
        self._most_offers = _BATCH
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
            # It is another one, because the address may be another one now.
            self._kept_until.discard(nonce)
            self._spent.spend(nonce)
            outcome = self._tracker.replace(kept, attempt.address, attempt.identity)
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
        self._each(room.expired(now), lambda key: self._over(key, _WAIT_TIMEOUT, "expired"))
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
        if self._offers:
            return  # the answers of the fleet go on with it
        now = self._clock()
        for _ in range(_BATCH):
            if self._offers >= self._most_offers:
                return
            offer = room.offer(now)
            if offer is None:
                wait = room.wait_for_room(now) if room else 0.0
                if 0.0 < wait < _TICK:  # else the tick comes before
                    self._wake(max(wait, _LEAST_WAIT))
                return
            key, _, outcome = offer
            if isinstance(outcome, Reject):
                self._over(key, outcome, "refused")
            elif key in self._opening:  # its connection is about to open
                self._withdraw(key, outcome)
                self._wake(_LEAST_WAIT)
                return
            elif self._fleet is None:
                self._promoted(key, outcome, now)
            else:
                self._offers += 1
                self._fleet.confirm(outcome, partial(self._confirmed, key, outcome))
        self._wake()

    def _confirmed(self, key: Hashable, lease: Lease, reject: Reject | None) -> None:
        """The fleet has counted the lease that was offered to the head, or says why not."""
        room, now = self._room, self._clock()
        assert room is not None
        self._offers -= 1
        if reject is None:
            self._most_offers = _BATCH
            self._promoted(key, lease, now)
            self._wake()
        elif reject.reason in (FLEET_LIMIT, FLEET_DOWN):
            self._most_offers = 1
            self._withdraw(key, lease)
            self._wake(_BETWEEN_OFFERS)
        else:
            self._tracker.release(lease)
            if room.leave(key, now):
                self._over(key, reject, "refused")
            self._wake()

    def _promoted(self, key: Hashable, lease: Lease, now: float) -> None:
        """The head has its lease."""
        assert self._room is not None
        if not self._room.accept(key, now):
            self._tracker.release(lease)  # it has left
        elif isinstance(key, Held):
            self._admit(key, lease, now)
        else:
            self._kept[key] = lease
            self._kept_until.set(key, self._until.pop(key))

    def _withdraw(self, key: Hashable, lease: Lease) -> None:
        """Let one wait on that cannot have the lease which it was offered."""
        assert self._room is not None
        self._tracker.release(lease)
        self._room.withdraw(key)

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

    def _over(self, key: Hashable, reject: Reject, how: str) -> None:
        """A position has ended without a lease. The holder of a ticket is told when it is back."""
        if isinstance(key, Held):
            self._end(key, reject, how)
        else:
            del self._until[key]
            self._stats.waited[how] += 1

    def _end_all(self, now: float) -> None:
        self._each(self._kept_until.take(inf), partial(self._lapse, "drained"))
        room = self._room
        if not room:
            return

        def end(key: Hashable) -> None:
            if room.leave(key, now):  # the tick before has begun with the same ones
                self._over(key, _DRAINING, "drained")

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
