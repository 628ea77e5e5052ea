"""The gate: the ordered steps that every attempt goes through.

    draining     no attempt is admitted any more
    breaker      too many were refused: the node is out of rotation
    per_ip       the address is at its limit
    pacing       new connections come too fast; each gets its own time to come back
    - here the attempt is authenticated -
    waiting_room another attempt waits already: this one waits behind it
    shedding     the pressure is too high for its priority
    connections  the server is full
    per_ip, per_user, tiers

Cheap steps come before authentication (`precheck`), those that need to know who asks after it
(`admit`). Pacing comes after the limit by address, because it gives something: an address that is
at its limit must not take the slots of others. Every connection that is admitted counts for the
pace, also one that has waited. A refusal is a value, never an exception, and holds nothing but
perhaps a slot to come back at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Final

from tidegate.addresses import network
from tidegate.core.admission.attempt import Attempt, Lease, Reject, Step
from tidegate.core.admission.breaker import CircuitBreaker, State
from tidegate.core.admission.pacing import Pacer
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.admission.waiting_room import WaitingRoom
from tidegate.core.codes import (
    BREAKER,
    DRAINING,
    FLEET_LIMIT,
    RATE_LIMITED,
    SERVER_LIMIT,
    SHEDDING,
    UNAUTHORIZED,
    WAITING,
)
from tidegate.core.settings import POLICIES, Settings
from tidegate.core.timing.rates import TokenBucket

__all__ = ["Admission", "outcome"]

_AWAY_SECONDS: Final = DRAINING.retry_after or 0
_UNAUTHORIZED: Final = Reject(UNAUTHORIZED, UNAUTHORIZED.retry_after)
_SHEDDING: Final = Reject(SHEDDING, SHEDDING.retry_after)
_WAITING: Final = Reject(WAITING, WAITING.retry_after)


class Admission:
    """Decides which attempts are admitted. Set `draining` to admit none any more.

    Args:
        settings: the settings, valid as they are.
        tracker: counts the connections.
        shedder: knows the pressure.
        chance: returns a random number in [0, 1).
        on_dry_run: is told the name of a policy each time that it would have refused an attempt,
            but is only tried out (`limits.dry_run`).
    """

    __slots__ = (
        "_anonymous",
        "_away",
        "_away_rate",
        "_away_window",
        "_chance",
        "_dry",
        "_dry_pace",
        "_late",
        "_limits_dry",
        "_pacer",
        "_prefix",
        "_room",
        "_shedder",
        "_tracker",
        "_tried",
        "breaker",
        "draining",
        "waiting_room",
    )

    waiting_room: WaitingRoom | None
    """The attempts that wait; None where none may."""

    def __init__(
        self,
        settings: Settings,
        tracker: ConnectionTracker,
        shedder: LoadShedder,
        chance: Callable[[], float],
        on_dry_run: Callable[[str], None],
    ) -> None:
        self._tracker = tracker
        self._tried = on_dry_run
        self._shedder = shedder
        self._chance = chance
        self._anonymous = settings.auth.anonymous
        self._late = settings.auth.first_message
        self._dry = frozenset(name for name in POLICIES if settings.limits.is_dry(name))
        self._limits_dry = not self._dry.isdisjoint(("connections", "per_ip", "per_user", "tiers"))
        self._prefix = settings.limits.ipv6_prefix
        pacing = settings.pacing
        self._pacer: Pacer | None = None
        self._dry_pace: TokenBucket | None = None
        if pacing.enabled and "pacing" in self._dry:
            # Clients that would be refused are admitted, and do not come back at a slot.
            self._dry_pace = TokenBucket(pacing.rate, pacing.burst)
        elif pacing.enabled:
            self._pacer = Pacer(pacing.rate, pacing.burst, per_key=_slots_per_address(settings))
        self.breaker = CircuitBreaker(settings.breaker)
        self.waiting_room = None
        if settings.waiting_room.enabled:
            self.waiting_room = WaitingRoom(settings, tracker, shedder, chance, self._pacer)
        self.draining = False
        self._away = 0
        self._set(settings)

    def apply(self, settings: Settings, now: float) -> None:
        """Take over other settings of the policies here; `now` is in monotonic seconds.

        Pacing, the waiting room and the breaker are not switched on or off, and no policy begins
        or ends to be only tried out: that needs a restart. The tracker and the shedder are not
        changed here; they have an `apply` of their own.
        """
        pacing = settings.pacing
        if self._dry_pace is not None:
            self._dry_pace.rate = pacing.rate
            self._dry_pace.burst = pacing.burst
        if self._pacer is not None:
            per_key = _slots_per_address(settings)
            self._pacer.apply(pacing.rate, pacing.burst, per_key=per_key, now=now)
        self.breaker.apply(settings.breaker)
        if self.waiting_room is not None:
            self.waiting_room.apply(settings)
        self._set(settings)

    def _set(self, settings: Settings) -> None:
        # Where there is no capacity at all, it is of no use to wait for it.
        self._room = self.waiting_room if settings.limits.connections else None
        self._away_rate = settings.pacing.rate
        self._away_window = max(1.0, settings.drain.window)

    # The steps.

    def precheck(
        self, address: str, now: float, *, ticket: bool = False, counted: bool = False
    ) -> Reject | None:
        """The steps that need no identity; None when the attempt may go on to authentication.

        `now` is in monotonic seconds. An attempt with a `ticket` has been through the last two
        steps already, and a slot may be kept for it that counts for its address; if the ticket
        turns out to be worth nothing, ask `arrive`. One that resumes a session is `counted` for its
        address already.
        """
        if self.draining:
            return self._send_away()
        if self.out_of_rotation(now):
            return Reject(BREAKER, self.breaker.retry_after(now))
        if counted:
            return self._pace(address, now)
        return None if ticket else self.arrive(address, now)

    def _send_away(self) -> Reject:
        """Refuse while draining; when many ask, their delays are spread as the drain's closes."""
        self._away += 1
        later = self._away / self._away_rate % self._away_window
        return Reject(DRAINING, _AWAY_SECONDS + int(later))

    def arrive(self, address: str, now: float) -> Reject | None:
        """The steps of an address: its limit, and the pace, with this attempt's own slot."""
        return self._tracker.ip_rejection(address) or self._pace(address, now)

    def _pace(self, address: str, now: float) -> Reject | None:
        if self._pacer is None:
            if self._dry_pace is not None and self._dry_pace.take(1.0, now):
                self._tried("pacing")
            return None
        delay = self._pacer.ask(network(address, self._prefix), now)
        if not delay:
            return None
        self.breaker.rejected(now)
        return Reject(RATE_LIMITED, _told(delay))

    @property
    def took_slot(self) -> bool:
        """Whether the last attempt that `arrive` let through used up a slot of the pace."""
        return self._pacer is not None and self._pacer.took_slot

    def give_slot_back(self) -> None:
        """An attempt that used up a slot is given up before it was decided about."""
        if self._pacer is not None:
            self._pacer.give_back()

    def wait_to_decide(self, now: float) -> float:
        """Return the seconds for which no attempt is to be decided about, for the pace."""
        return 0.0 if self._pacer is None else self._pacer.wait_to_decide(now)

    def admit(self, attempt: Attempt, now: float) -> Lease | Reject:
        """All further steps, for an attempt that is valid in full and whose identity is known.

        `now` is in monotonic seconds. A lease must be released when the connection ends, a failed
        upgrade included. A rejection for WAITING means that the attempt should wait: it may enter
        `waiting_room`.
        """
        # The drain may have begun while the attempt was being authenticated.
        if self.draining:
            return self._send_away()
        identity = attempt.identity
        # A client that is told things in-band may still say who it is in its first message.
        if identity.user is None and not (self._anonymous or (self._late and attempt.in_band)):
            return _UNAUTHORIZED
        room = self._room
        if room is None or not room.comes_before(attempt):
            decision = self._decide(attempt, now)
            if type(decision) is Lease or room is None:
                return decision
            if decision.reason not in (SERVER_LIMIT, SHEDDING):
                return decision
        return room.rejection(attempt) or _WAITING

    def fleet_refused(self, attempt: Attempt, reject: Reject, now: float) -> Reject:
        """What becomes of an attempt that the fleet refuses, when its lease here is released.

        A fleet that is full is waited for like a server that is.
        """
        if reject.reason is not FLEET_LIMIT:
            return reject
        if self._room is None:
            return self._no_room(reject, now)
        return self._room.rejection(attempt) or _WAITING

    def _decide(self, attempt: Attempt, now: float) -> Lease | Reject:
        """The steps for an attempt that has no others to wait behind."""
        identity = attempt.identity
        if not self._shedder.admits(identity.priority, self._chance()):
            if "shedding" not in self._dry:
                return self._no_room(_SHEDDING, now)
            self._tried("shedding")
        if self._limits_dry:
            for step in self._tracker.explain(attempt.address, identity):
                if not step.passed and step.name in self._dry:
                    self._tried(step.name)
        decision = self._tracker.acquire(attempt.address, identity)
        if type(decision) is Lease:
            if self._pacer is not None:
                self._pacer.admitted(now)
            self.breaker.admitted(now)
        elif decision.reason is SERVER_LIMIT:
            return self._no_room(decision, now)
        return decision

    def _no_room(self, rejection: Reject, now: float) -> Reject:
        if self._room is None:
            self.breaker.rejected(now)
        return rejection

    def out_of_rotation(self, now: float) -> bool:
        """Whether the breaker is open, and not only tried out."""
        if self.breaker.state(now) is not State.OPEN:
            return False
        if "breaker" not in self._dry:
            return True
        self._tried("breaker")
        return False

    # For people.

    def explain(self, attempt: Attempt, now: float) -> list[Step]:
        """What every step would say of this attempt now, in their order. Takes nothing.

        A step of a policy that is only tried out is passed, and says what it would have said.
        """
        identity = attempt.identity
        per_ip, *limits = self._tracker.explain(attempt.address, identity)
        known = identity.user is not None or self._anonymous or (self._late and attempt.in_band)
        going = "is" if self.draining else "is not"
        steps = [
            Step("draining", not self.draining, f"the server {going} going away", {}),
            self.breaker.explain(now),
            per_ip,
            self._explain_pace(attempt.address, now),
            Step("authentication", known, "it may connect" if known else "a token is needed", {}),
            Step("waiting_room", True, "there is no waiting room", {})
            if self._room is None
            else self._room.explain(attempt, now),
            self._shedder.explain(identity.priority),
            *limits,
        ]
        return [
            replace(step, passed=True, detail=f"dry run, would refuse: {step.detail}")
            if not step.passed and step.name in self._dry
            else step
            for step in steps
        ]

    def _explain_pace(self, address: str, now: float) -> Step:
        if self._pacer is not None:
            return self._pacer.explain(network(address, self._prefix), now)
        detail = "dry run" if self._dry_pace is not None else "pacing is off"
        return Step("pacing", True, detail, {})


def _slots_per_address(settings: Settings) -> int:
    return max(1, settings.limits.per_ip)


def _told(delay: float) -> float:
    """A slot's delay as its client is told it, never less: in tenths, and a second at least."""
    return max(10, ceil(delay * 10)) / 10


def outcome(steps: list[Step]) -> str:
    """What the steps of `Admission.explain` come to: `admit`, `wait` or `reject`."""
    failed = {step.name for step in steps if not step.passed}
    room = next(step.numbers for step in steps if step.name == "waiting_room")
    if not failed:
        return "admit"
    if failed <= {"waiting_room", "shedding", "connections", FLEET_LIMIT.name} and room:
        waiting, size = room["waiting"], room["size"]
        assert isinstance(waiting, int)
        assert isinstance(size, int)
        return "wait" if waiting < size else "reject"
    return "reject"
