"""Waiting in front of a full server: native clients on their connection, others with a ticket.

A native client that has to wait gets its upgrade, but no lease and no `connected`: it is told
its position until it is let in. Any other client is sent away with a signed ticket and the time
to come back at. A slot that comes free while its holder is away is kept for it until then.

    held:    decide -> hold -> seated -> (queue_status ...) -> let in: lease, `connected`
    ticket:  decide -> 503 + ticket -> away -> its turn: lease kept -> back: 101
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

from tidegate.core.admission.attempt import Attempt, Lease, Reject, Verdict
from tidegate.core.admission.tickets import NONCE_BYTES, Spent, Ticket, check, issue
from tidegate.core.codes import DRAINING, QUEUE_FULL, WAIT_TIMEOUT, WAITING, close_reason
from tidegate.core.timing.deadlines import Deadlines
from tidegate.wire.codecs import encode_server
from tidegate.wire.messages import QueueStatus

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection

__all__ = ["Away", "Place", "WaitingLine"]

_BATCH: Final = 64
# Each is told at most once a second, and not much later than it may be.
_BETWEEN_LOOKS: Final = 0.25
_LEAST_WAIT: Final = 0.005  # as long as a timer is worth
_TICK: Final = 0.1
_SOON: Final = 1
_LATE: Final = 5
_REMEMBERED: Final = 1 << 14

_QUEUE_FULL: Final = Reject(QUEUE_FULL, QUEUE_FULL.retry_after)
_WAIT_TIMEOUT: Final = Reject(WAIT_TIMEOUT, WAIT_TIMEOUT.retry_after)


class Place:
    """A native client's place in the line; the key of it."""

    __slots__ = ("attempt", "connection", "pending_auth", "position")

    def __init__(self, attempt: Attempt, pending_auth: bool, position: int) -> None:
        self.attempt = attempt
        self.pending_auth = pending_auth
        self.position = position
        self.connection: Connection | None = None


class Away(NamedTuple):
    """What a client that has to come back is told: the ticket, its position, and the delay."""

    ticket: str
    position: int
    retry_after: int


class WaitingLine:
    """Those who wait in front of one node. All times are monotonic seconds but ``wall``.

    ``schedule`` is called with a number of seconds, 0.0 for soon but not at once, and a function
    that is to be called then. ``let_in`` is told of a held connection that has its lease now; while
    it is None nobody is held.
    """

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        tracker: ConnectionTracker,
        stats: Stats,
        schedule: Callable[[float, Callable[[], None]], None],
        clock: Callable[[], float],
    ) -> None:
        self.let_in: Callable[[Connection, Place], None] | None = None
        self._admission = admission
        self._tracker = tracker
        self._stats = stats
        self._schedule = schedule
        self._clock = clock
        self._line = admission.waiting_room
        self._max_wait = settings.waiting_room.max_wait
        self._grace = settings.waiting_room.ticket_grace
        secret = settings.waiting_room.secret
        self._secret = secret.encode() if secret else secrets.token_bytes(32)
        self._spent = Spent(_REMEMBERED)
        self._seated: dict[Connection, Place] = {}
        # When the holder of a ticket has to be back, by its nonce.
        self._until: dict[bytes, float] = {}
        # Slots that are kept for those who are away, until then.
        self._kept: dict[bytes, Lease] = {}
        self._kept_until: Deadlines[bytes] = Deadlines()
        self._scheduled = False
        self._next_look = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return 0 if self._line is None else len(self._line)

    @property
    def kept(self) -> int:
        """Slots that are kept for holders of tickets who are not back yet."""
        return len(self._kept)

    # Native clients.

    def hold(self, attempt: Attempt, pending_auth: bool, now: float) -> Place | Reject:
        """Take a place for a client that is about to be connected."""
        assert self._line is not None
        place = Place(attempt, pending_auth, 0)
        position = self._line.enter(place, attempt, now)
        if position is None:
            return self._full(now)
        place.position = position
        self._stats.waited["entered"] += 1
        self._wake()
        return place

    def seated(self, connection: Connection, place: Place) -> None:
        """The client of a place is connected."""
        place.connection = connection
        self._seated[connection] = place

    def greet(self, connection: Connection, now: float) -> None:
        """Tell a client that has just been seated where it stands."""
        place = self._seated[connection]
        assert self._line is not None
        eta = self._line.eta(place.position, now)
        _tell(connection, place.position, len(self._line), 0.0, eta)

    def gone(self, connection: Connection, now: float) -> None:
        """A connection without a lease has ended: its place is free."""
        place = self._seated.pop(connection, None)
        if place is not None and self._line is not None and self._line.leave(place, now):
            self._stats.waited["left"] += 1
            self._wake()

    # Clients with tickets.

    def read(self, text: str, attempt: Attempt, wall: float) -> Ticket | None:
        """What a ticket says that is good for this attempt. ``wall`` is in Unix seconds."""
        if self._line is None:
            return None
        ticket = check(self._secret, text, _bound(attempt), wall)
        return None if ticket is None or ticket.nonce in self._spent else ticket

    def back(self, ticket: Ticket, attempt: Attempt, now: float, wall: float) -> Verdict:
        """The holder of a ticket is back: a lease, or WAITING when it has to wait on."""
        nonce = ticket.nonce
        lease = self._kept.pop(nonce, None)
        if lease is not None:
            # Given back and taken again, because the address may be another one now.
            self._kept_until.discard(nonce)
            self._tracker.release(lease)
            self._spent.spend(nonce)
            verdict = self._tracker.acquire(attempt.address, attempt.identity)
            if type(verdict) is Reject:
                self._wake()
            return verdict
        assert self._line is not None
        if nonce in self._line:
            return Reject(WAITING, WAITING.retry_after)
        if wall >= ticket.arrived + self._max_wait:
            self._spent.spend(nonce)
            return _WAIT_TIMEOUT
        verdict = self._admission.admit(attempt, now)
        if type(verdict) is Lease:
            self._spent.spend(nonce)
        return verdict

    def send_away(
        self, attempt: Attempt, ticket: Ticket | None, now: float, wall: float
    ) -> Away | Reject:
        """Give a client its ticket, or the present one of its tickets a new time."""
        assert self._line is not None
        nonce = secrets.token_bytes(NONCE_BYTES) if ticket is None else ticket.nonce
        arrived = wall if ticket is None else min(ticket.arrived, wall)
        new = nonce not in self._line
        position = self._line.enter(nonce, attempt, now, now - (wall - arrived))
        if position is None:
            return self._full(now)
        if new:
            self._stats.waited["entered"] += 1
            self._wake()
        eta = self._line.eta(position, now)
        delay = _LATE if eta is None else max(_SOON, min(_LATE, ceil(eta)))
        left = delay + self._grace
        self._line.enter(nonce, attempt, now, until=now + left)
        self._until[nonce] = now + left
        priority = attempt.identity.priority
        text = issue(
            self._secret,
            bound=_bound(attempt),
            priority=priority,
            arrived=arrived,
            expires=wall + left,
            nonce=nonce,
        )
        return Away(text, position, delay)

    # What happens by itself.

    def freed(self) -> None:
        """A slot came free."""
        if self._line:
            self._wake()

    def tick(self, now: float) -> None:
        """End what is over, let in who can be, and tell the others where they stand."""
        for nonce in self._kept_until.due(now):
            self._tracker.release(self._kept.pop(nonce))
            self._stats.waited["expired"] += 1
        line = self._line
        if not line:
            return
        if self._admission.draining:
            self._end_all(now)
            return
        for key in line.expired(now):
            self._stats.waited["expired"] += 1
            if isinstance(key, Place):
                self._end(key, _WAIT_TIMEOUT)
            else:
                del self._until[key]  # type: ignore[arg-type]
        self._promote()
        if now >= self._next_look:
            self._next_look = now + _BETWEEN_LOOKS
            for key, position, total, waited, eta in line.status(now):
                if isinstance(key, Place) and key.connection is not None:
                    _tell(key.connection, position, total, waited, eta)

    def _wake(self, seconds: float = 0.0) -> None:
        # Not at once: this may be inside the end of another connection.
        if not self._scheduled:
            self._scheduled = True
            self._schedule(seconds, self._promote)

    def _promote(self) -> None:
        self._scheduled = False
        line = self._line
        if line is None or self._admission.draining:
            return
        now = self._clock()
        for _ in range(_BATCH):
            turn = line.promote(now)
            if turn is None:
                wait = line.wait_for_room(now) if line else 0.0
                if 0.0 < wait < _TICK:  # else the tick comes before
                    self._wake(max(wait, _LEAST_WAIT))
                return
            if isinstance(turn.key, Place):
                self._promoted(turn.key, turn.verdict, now)
            else:
                self._keep(turn.key, turn.verdict)  # type: ignore[arg-type]
        self._wake()

    def _promoted(self, place: Place, verdict: Verdict, now: float) -> None:
        if type(verdict) is Reject:
            self._end(place, verdict)
            return
        connection = place.connection
        if connection is None or connection.closed or self.let_in is None:
            self._tracker.release(verdict)  # type: ignore[arg-type]
            self._wake()
            return
        self._seated.pop(connection, None)
        self._stats.waited["promoted"] += 1
        self._stats.accepted += 1
        self._admission.breaker.admitted(now)
        connection.lease = verdict  # type: ignore[assignment]
        connection.pending_auth = place.pending_auth
        connection.opened_at = now
        self.let_in(connection, place)

    def _keep(self, nonce: bytes, verdict: Verdict) -> None:
        until = self._until.pop(nonce)
        if type(verdict) is Reject:
            return  # it is told when it is back
        self._stats.waited["promoted"] += 1
        self._kept[nonce] = verdict  # type: ignore[assignment]
        self._kept_until.set(nonce, until)

    def _end_all(self, now: float) -> None:
        line = self._line
        assert line is not None
        gone = Reject(DRAINING, DRAINING.retry_after)
        for place in list(self._seated.values()):
            line.leave(place, now)
            self._end(place, gone)
        for nonce in list(self._until):
            line.leave(nonce, now)
        self._until.clear()

    def _end(self, place: Place, rejection: Reject) -> None:
        reason, connection = rejection.reason, place.connection
        self._stats.rejected[reason.name] += 1
        if connection is not None:
            self._seated.pop(connection, None)
            assert reason.close is not None
            text = close_reason(reason, rejection.retry_after)
            connection.close(reason.close, text, reason.name)

    def _full(self, now: float) -> Reject:
        self._admission.breaker.rejected(now)
        return _QUEUE_FULL


def _tell(
    connection: Connection, position: int, total: int, waited: float, eta: float | None
) -> None:
    left = None if eta is None else round(eta, 1)
    message = QueueStatus(position, total, round(waited, 1), left)
    connection.send(encode_server(message).decode())


def _bound(attempt: Attempt) -> str:
    user = attempt.identity.user
    return f"ip:{attempt.address}" if user is None else f"user:{user}"
