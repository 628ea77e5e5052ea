"""The gate: from a request to open a WebSocket to the decision about it.

The steps are in the order of their cost: where the request comes from, whether anybody is admitted
at all, who it belongs to, and only then the limits. A lease is taken last, when nothing else can
go wrong. Who it belongs to may take a while to find out, and so may what the fleet says of the
lease; the decision is pending until then.

    decide -> origin -> draining, breaker, address, pace -> identity -> limits -> fleet -> Decision
                                                              |    ^              |  ^
                                                              v    | decide       v  | decide
                                                              Pending            Pending
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject
from tidegate.core.codes import ORIGIN, WAITING, Refusal
from tidegate.errors import UsageError
from tidegate.gate.decision import Admit, Decision, OpeningRequest, Pending, Wait
from tidegate.gate.pages import Pages

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.tickets import Ticket
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.gate.fleet import Fleet
    from tidegate.gate.identity import Found, Identifier, Later
    from tidegate.gate.refusals import Refusals
    from tidegate.gate.resumption import Fetching, Resumption
    from tidegate.gate.waiting import WaitingClients

__all__ = ["Gate"]

_ORIGIN = Reject(ORIGIN, ORIGIN.retry_after)


class Gate:
    """Decides about every attempt of one node, and counts those that it admits and refuses.

    Args:
        holds_waiting: whether clients that can be told things in-band wait on their connection.
            All others are sent away with a ticket.
        sessions: keeps the sessions that attempts can resume; None where there are none.
        fleet: counts the connections of all nodes; None where this node is alone.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        admission: Admission,
        waiting: WaitingClients[Any],
        identifier: Identifier,
        refusals: Refusals,
        *,
        holds_waiting: bool,
        sessions: Resumption | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self._sessions = sessions
        self._fleet = fleet
        self._stats = stats
        self._admission = admission
        self._waiting = waiting
        self._identifier = identifier
        self._refusals = refusals
        self._holds_waiting = holds_waiting
        self._pages = Pages(settings.server)
        self._anonymous = settings.auth.anonymous

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self._pages = Pages(settings.server)

    def decide(self, request: OpeningRequest, now: float, wall: float) -> Decision | Pending:
        """Decide about an attempt; `now` is in monotonic, `wall` in Unix seconds. HOT.

        Raises what the identifier raised; nothing is taken then.
        """
        if request.origin is not None and not self._pages.allow(
            request.origin, request.host, request.address, secure=request.secure
        ):
            return self._refuse_page(request, request.origin, wall)
        by_ticket = request.ticket is not None
        resumes = request.session is not None and self._knows(request.session)
        reject = self._admission.precheck(request.address, now, ticket=by_ticket, counted=resumes)
        if reject is not None:
            return self._reject(request, ANONYMOUS, reject, wall)
        took_slot = not by_ticket and self._admission.took_slot
        if request.session is not None and self._sessions is not None:
            fetching = self._sessions.fetch(request.session)
            if fetching is not None:
                return _Fetched(self, request, fetching, took_slot)
        return self._identify(request, took_slot, now, wall)

    def _identify(
        self, request: OpeningRequest, took_slot: bool, now: float, wall: float
    ) -> Decision | Pending:
        found = self._identifier.identify(request)
        if isinstance(found, Identity):
            return self._identified(request, found, now, wall)
        if isinstance(found, Refusal | Reject):
            return self._unknown(request, found, wall)
        return _Identifying(self, request, found, took_slot)

    def _fetched(
        self, request: OpeningRequest, took_slot: bool, now: float, wall: float
    ) -> Decision | Pending:
        """Go on with an attempt that was pending until its session came from another node."""
        if self._admission.draining:
            reject = self._admission.precheck(request.address, now)
            assert reject is not None
            return self._reject(request, ANONYMOUS, reject, wall)
        return self._identify(request, took_slot, now, wall)

    def page_problem(self, origin: str, host: str, address: str, *, secure: bool) -> str | None:
        """Return why a page may not connect, as `Pages.problem` does; None if it may."""
        return self._pages.problem(origin, host, address, secure=secure)

    def give_back(self, lease: Lease) -> None:
        """Release the lease of an attempt that was admitted, and becomes no connection."""
        self._waiting.give_back(lease)

    def give_slot_back(self) -> None:
        """An attempt that came at its slot of the pace was given up while it was pending."""
        self._admission.give_slot_back()

    def wait_to_decide(self, now: float) -> float:
        """Return the seconds for which no attempt is to be decided about; 0.0 for none. HOT."""
        return self._admission.wait_to_decide(now)

    def _knows(self, session: str) -> bool:
        return self._sessions is not None and self._sessions.known(session)

    def _resume(
        self, request: OpeningRequest, found: Found, now: float, wall: float
    ) -> Decision | Pending:
        """Go on with an attempt that was pending until it was known who it belongs to."""
        if isinstance(found, Refusal | Reject):
            return self._unknown(request, found, wall)
        if self._admission.draining:  # since the first half, whose first step this is
            reject = self._admission.precheck(request.address, now)
            assert reject is not None
            return self._reject(request, found, reject, wall)
        return self._identified(request, found, now, wall)

    def _identified(
        self, request: OpeningRequest, identity: Identity, now: float, wall: float
    ) -> Decision | Pending:
        attempt = Attempt(request.address, request.path, identity, request.in_band)
        if request.session is not None and self._sessions is not None:
            resumed = self._sessions.resume(request.session, identity, request.address)
            if isinstance(resumed, Reject):
                self._refusals.add(attempt, resumed, wall, request.headers)
                return resumed
            if resumed is not None:
                self._stats.accepted += 1
                return Admit(attempt, resumed.lease, unidentified=False, resumed=resumed)
        ticket: Ticket | None = None
        if request.ticket is None:
            outcome = self._admission.admit(attempt, now)
        else:
            ticket = self._waiting.read(request.ticket, attempt, wall)
            if ticket is not None:
                outcome = self._waiting.back(ticket, attempt, now, wall)
            else:
                # It is worth nothing, and has spared the attempt two steps so far.
                reject = self._admission.arrive(attempt.address, now)
                outcome = self._admission.admit(attempt, now) if reject is None else reject
        unidentified = identity.user is None and not self._anonymous
        if isinstance(outcome, Lease):
            moved = None
            if request.session is not None and self._sessions is not None:
                moved = self._sessions.moved(request.session, outcome)
            admit = Admit(attempt, outcome, unidentified and moved is None, moved)
            if self._fleet is None or outcome.fleet:
                self._stats.accepted += 1
                return admit
            confirming = _Confirming(self, request, admit, ticket)
            self._fleet.confirm(outcome, confirming.answered)
            return confirming.decide(now, wall) if confirming.known else confirming
        return self._refused(request, attempt, outcome, ticket, unidentified, now, wall)

    def _confirmed(
        self,
        request: OpeningRequest,
        admit: Admit,
        ticket: Ticket | None,
        reject: Reject | None,
        now: float,
        wall: float,
    ) -> Decision:
        """Go on with an attempt that was pending until the fleet has counted its lease."""
        attempt = admit.attempt
        if self._admission.draining:
            reject = self._admission.precheck(request.address, now)
            assert reject is not None
        if reject is None:
            self._stats.accepted += 1
            return admit
        self._waiting.give_back(admit.lease)
        outcome = self._admission.fleet_refused(attempt, reject, now)
        return self._refused(request, attempt, outcome, ticket, admit.unidentified, now, wall)

    def _refused(
        self,
        request: OpeningRequest,
        attempt: Attempt,
        reject: Reject,
        ticket: Ticket | None,
        unidentified: bool,
        now: float,
        wall: float,
    ) -> Decision:
        """Let an attempt wait that is to wait, and refuse any other."""
        if reject.reason is WAITING:
            return self._wait(request, attempt, ticket, unidentified, now, wall)
        self._refusals.add(attempt, reject, wall, request.headers)
        return reject

    def _wait(
        self,
        request: OpeningRequest,
        attempt: Attempt,
        ticket: Ticket | None,
        unidentified: bool,
        now: float,
        wall: float,
    ) -> Decision:
        if self._holds_waiting and attempt.in_band:
            held = self._waiting.hold(attempt, unidentified, now)
            if not isinstance(held, Reject):
                return Wait(attempt, held)
            reject = held
        else:
            away = self._waiting.send_away(attempt, ticket, now, wall)
            if not isinstance(away, Reject):
                self._refusals.count(WAITING)
                return Wait(attempt, away)
            reject = away
        self._refusals.add(attempt, reject, wall, request.headers)
        return reject

    def _unknown(self, request: OpeningRequest, why: Refusal | Reject, wall: float) -> Reject:
        reject = why if isinstance(why, Reject) else Reject(why, why.retry_after)
        return self._reject(request, ANONYMOUS, reject, wall)

    def _reject(
        self,
        request: OpeningRequest,
        identity: Identity,
        reject: Reject,
        wall: float,
        detail: str = "",
    ) -> Reject:
        attempt = Attempt(request.address, request.path, identity, request.in_band)
        self._refusals.add(attempt, reject, wall, request.headers, detail)
        return reject

    def _refuse_page(self, request: OpeningRequest, origin: str, wall: float) -> Reject:
        problem = self._pages.problem(origin, request.host, request.address, secure=request.secure)
        return self._reject(request, ANONYMOUS, _ORIGIN, wall, problem or "")


class _Identifying:
    """A decision that is pending until it is known who the attempt belongs to."""

    __slots__ = ("_gate", "_later", "_ready", "_request", "_took_slot")

    def __init__(self, gate: Gate, request: OpeningRequest, later: Later, took_slot: bool) -> None:
        self._gate = gate
        self._took_slot = took_slot
        self._request = request
        self._later: Later | None = later
        self._ready: Callable[[], None] | None = None

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it is known."""
        if self._later is None:
            raise UsageError("this decision has ended")
        self._ready = ready
        self._later.then(self._known)

    def decide(self, now: float, wall: float, /) -> Decision | Pending:
        """Go on with the attempt."""
        later, self._later, self._ready = self._later, None, None
        if later is None:
            raise UsageError("this decision has ended")
        return self._gate._resume(self._request, later.result(), now, wall)

    def cancel(self) -> None:
        """Nobody waits any longer."""
        later, self._later, self._ready = self._later, None, None
        if later is not None:
            if self._took_slot:
                self._gate.give_slot_back()
            later.cancel()

    def _known(self) -> None:
        # A promise that is kept twice, or after the end, must not decide twice.
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()


class _Confirming:
    """A decision that is pending until the fleet has counted the lease."""

    __slots__ = ("_admit", "_gate", "_over", "_ready", "_reject", "_request", "_ticket", "known")

    def __init__(
        self, gate: Gate, request: OpeningRequest, admit: Admit, ticket: Ticket | None
    ) -> None:
        self._gate = gate
        self._request = request
        self._admit = admit
        self._ticket = ticket
        self._ready: Callable[[], None] | None = None
        self._reject: Reject | None = None
        self._over = False
        self.known = False
        """Whether the fleet has answered."""

    def answered(self, reject: Reject | None) -> None:
        """The fleet has counted the lease, or says why not."""
        self.known = True
        self._reject = reject
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when the fleet has answered."""
        if self.known:
            ready()
        else:
            self._ready = ready

    def decide(self, now: float, wall: float, /) -> Decision:
        """Go on with the attempt."""
        if self._over:
            raise UsageError("this decision has ended")
        self._over = True
        return self._gate._confirmed(
            self._request, self._admit, self._ticket, self._reject, now, wall
        )

    def cancel(self) -> None:
        """Nobody waits any longer: the lease goes back."""
        self._ready = None
        if not self._over:
            self._over = True
            self._gate.give_back(self._admit.lease)


class _Fetched:
    """A decision that is pending until a session has come from another node."""

    __slots__ = ("_fetching", "_gate", "_request", "_took_slot")

    def __init__(
        self, gate: Gate, request: OpeningRequest, fetching: Fetching, took_slot: bool
    ) -> None:
        self._gate = gate
        self._request = request
        self._fetching: Fetching | None = fetching
        self._took_slot = took_slot

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it has come, or is known not to come."""
        if self._fetching is None:
            raise UsageError("this decision has ended")
        self._fetching.then(ready)

    def decide(self, now: float, wall: float, /) -> Decision | Pending:
        """Go on with the attempt."""
        fetching, self._fetching = self._fetching, None
        if fetching is None:
            raise UsageError("this decision has ended")
        return self._gate._fetched(self._request, self._took_slot, now, wall)

    def cancel(self) -> None:
        """Nobody waits any longer."""
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            if self._took_slot:
                self._gate.give_slot_back()
            fetching.cancel()
