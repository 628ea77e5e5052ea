"""The gate: the ordered steps that every attempt goes through.

    draining     nobody new is let in any more
    breaker      too many were refused: the node is out of rotation
    per_ip       the address is at its limit
    pacing       new connections come too fast; each gets its own time to come back
    - here the attempt is authenticated -
    waiting_room somebody waits already: the attempt waits behind
    shedding     the pressure is too high for its priority
    connections  the server is full
    per_ip, per_user, tiers

Cheap steps come before authentication (``precheck``), those that need to know who asks after it
(``admit``). Pacing comes after the limit by address, because it gives something: an address that
has all it may have must not take the slots of the others. Who is let in counts for the pace,
newcomers and those who waited alike. A refused attempt is a verdict, never an exception, and holds
nothing but perhaps a slot to come back at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Final

from tidegate.core.admission.attempt import Attempt, Lease, Reject, Step, Verdict
from tidegate.core.admission.breaker import CircuitBreaker, State
from tidegate.core.admission.pacing import Pacer
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.admission.waiting_room import WaitingRoom
from tidegate.core.codes import (
    BREAKER,
    DRAINING,
    RATE_LIMITED,
    SERVER_LIMIT,
    SHEDDING,
    UNAUTHORIZED,
    WAITING,
)
from tidegate.core.settings import POLICIES, Settings
from tidegate.core.stats import Stats
from tidegate.core.timing.rates import TokenBucket

__all__ = ["Admission", "outcome"]

_AWAY_SECONDS: Final = DRAINING.retry_after or 0
_UNAUTHORIZED: Final = Reject(UNAUTHORIZED, UNAUTHORIZED.retry_after)
_SHEDDING: Final = Reject(SHEDDING, SHEDDING.retry_after)
_WAITING: Final = Reject(WAITING, WAITING.retry_after)


class Admission:
    """Decides who gets in. Set ``draining`` to let nobody in any more.

    ``chance`` gives a random number in [0, 1). ``stats.dry_run`` counts what the policies that
    are only tried out (``limits.dry_run``) would have refused; ``on_dry_run`` may be set to a
    function that is told the name of the policy each time.
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
        "_shedder",
        "_stats",
        "_tracker",
        "breaker",
        "draining",
        "on_dry_run",
        "waiting_room",
    )

    def __init__(
        self,
        settings: Settings,
        tracker: ConnectionTracker,
        stats: Stats,
        shedder: LoadShedder,
        chance: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._stats = stats
        self._shedder = shedder
        self._chance = chance
        self._anonymous = settings.auth.anonymous
        self._late = settings.auth.first_message
        self._dry = frozenset(name for name in POLICIES if settings.limits.is_dry(name))
        self._limits_dry = not self._dry.isdisjoint(("connections", "per_ip", "per_user", "tiers"))
        pacing = settings.pacing
        self._pacer: Pacer | None = None
        self._dry_pace: TokenBucket | None = None
        if pacing.enabled and "pacing" in self._dry:
            # Those who would be refused are in, and do not come back at a slot.
            self._dry_pace = TokenBucket(pacing.rate, pacing.burst)
        elif pacing.enabled:
            per_key = max(1, settings.limits.per_ip)
            self._pacer = Pacer(pacing.rate, pacing.burst, per_key=per_key)
        self.breaker = CircuitBreaker(settings.breaker)
        self.waiting_room: WaitingRoom | None = None
        # Where there are no places at all, waiting for one is in vain.
        if settings.waiting_room.enabled and settings.limits.connections:
            self.waiting_room = WaitingRoom(settings, tracker, shedder, chance, self._pacer)
        self.draining = False
        self._away = 0
        self._away_rate = settings.pacing.rate
        self._away_window = max(1.0, settings.drain.window)
        self.on_dry_run: Callable[[str], None] | None = None

    # The steps.

    def precheck(self, address: str, now: float, *, ticket: bool = False) -> Reject | None:
        """The steps that need no identity; None when the attempt may go on to authentication.

        ``now`` is in monotonic seconds. Whoever says that it has a ``ticket`` has been through
        the last two steps already, and a slot may be kept for it that counts for its address; if
        the ticket turns out to be worth nothing, ask ``arrive``.
        """
        if self.draining:
            return self._send_away()
        if self.out_of_rotation(now):
            return Reject(BREAKER, self.breaker.retry_after(now))
        return None if ticket else self.arrive(address, now)

    def _send_away(self) -> Reject:
        """Refuse while draining; when many ask, their delays are spread as the drain's closes."""
        self._away += 1
        turn = self._away / self._away_rate % self._away_window
        return Reject(DRAINING, _AWAY_SECONDS + int(turn))

    def arrive(self, address: str, now: float) -> Reject | None:
        """The steps of an address: its limit, and the pace, with this attempt's own slot."""
        return self._tracker.ip_rejection(address) or self._pace(address, now)

    def _pace(self, address: str, now: float) -> Reject | None:
        if self._pacer is None:
            if self._dry_pace is not None and self._dry_pace.take(1.0, now):
                self._tried("pacing")
            return None
        delay = self._pacer.ask(address, now)
        if not delay:
            return None
        self.breaker.rejected(now)
        return Reject(RATE_LIMITED, _told(delay))

    def wait_to_decide(self, now: float) -> float:
        """Seconds for which no attempt is to be decided about, for the pace; 0.0 for none."""
        return 0.0 if self._pacer is None else self._pacer.wait_to_decide(now)

    def admit(self, attempt: Attempt, now: float) -> Verdict:
        """All further steps, for an attempt that is valid in full and whose identity is known.

        ``now`` is in monotonic seconds. A lease must be released when the connection ends,
        a failed upgrade included. A rejection for WAITING means that the attempt should wait:
        it may enter ``line``.
        """
        # The drain may have begun while the attempt was being authenticated.
        if self.draining:
            return self._send_away()
        identity = attempt.identity
        # A native client may still say who it is in its first message.
        if identity.user is None and not (self._anonymous or (self._late and attempt.native)):
            return _UNAUTHORIZED
        line = self.waiting_room
        if line is None or not line.comes_before(attempt):
            refusal = self._room(attempt, now)
            if type(refusal) is Lease or line is None:
                return refusal
            if refusal.reason not in (SERVER_LIMIT, SHEDDING):  # type: ignore[union-attr]
                return refusal
        return line.rejection(attempt) or _WAITING

    def _room(self, attempt: Attempt, now: float) -> Verdict:
        """The steps for one before whom nobody waits."""
        identity = attempt.identity
        if not self._shedder.admits(identity.priority, self._chance()):
            if "shedding" not in self._dry:
                return self._no_room(_SHEDDING, now)
            self._tried("shedding")
        if self._limits_dry:
            for step in self._tracker.explain(attempt.address, identity):
                if not step.passed and step.name in self._dry:
                    self._tried(step.name)
        verdict = self._tracker.acquire(attempt.address, identity)
        if type(verdict) is Lease:
            if self._pacer is not None:
                self._pacer.let_in(now)
            self.breaker.admitted(now)
        elif verdict.reason is SERVER_LIMIT:  # type: ignore[union-attr]
            return self._no_room(verdict, now)  # type: ignore[arg-type]
        return verdict

    def _no_room(self, rejection: Reject, now: float) -> Reject:
        if self.waiting_room is None:
            self.breaker.rejected(now)
        return rejection

    def out_of_rotation(self, now: float) -> bool:
        """Whether the breaker is open, and not only on trial."""
        if self.breaker.state(now) is not State.OPEN:
            return False
        if "breaker" not in self._dry:
            return True
        self._tried("breaker")
        return False

    def _tried(self, policy: str) -> None:
        self._stats.dry_run[policy] += 1
        if self.on_dry_run is not None:
            self.on_dry_run(policy)

    # For people.

    def explain(self, attempt: Attempt, now: float) -> list[Step]:
        """What every step would say of this attempt now, in their order. Takes nothing.

        A step of a policy that is only tried out is passed, and says what it would have said.
        """
        identity = attempt.identity
        per_ip, *limits = self._tracker.explain(attempt.address, identity)
        known = identity.user is not None or self._anonymous or (self._late and attempt.native)
        steps = [
            Step("draining", not self.draining, "going away" if self.draining else "no", {}),
            self.breaker.explain(now),
            per_ip,
            self._explain_pace(attempt.address, now),
            Step("authentication", known, "it may come in" if known else "a token is needed", {}),
            Step("waiting_room", True, "there is no line", {})
            if self.waiting_room is None
            else self.waiting_room.explain(attempt, now),
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
            return self._pacer.explain(address, now)
        detail = "dry run" if self._dry_pace is not None else "pacing is off"
        return Step("pacing", True, detail, {})


def _told(delay: float) -> float:
    """A slot's delay as its client is told it, never less: in tenths, and a second at least."""
    return max(10, ceil(delay * 10)) / 10


def outcome(steps: list[Step]) -> str:
    """What the steps of ``Admission.explain`` come to: ``admit``, ``wait`` or ``reject``."""
    failed = {step.name for step in steps if not step.passed}
    room = next(step.numbers for step in steps if step.name == "waiting_room")
    if not failed:
        return "admit"
    if failed <= {"waiting_room", "shedding", "connections"} and room:
        waiting, size = room["waiting"], room["size"]
        return "wait" if waiting < size else "reject"  # type: ignore[operator]
    return "reject"
