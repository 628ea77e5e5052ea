"""A gate among its neighbours on a virtual clock, and an identifier that may answer late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject
from tidegate.core.admission.positions import Status
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import UNAUTHORIZED, WAITING, Refusal
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.gate.decision import Admit, Away, Decision, Held, OpeningRequest, Pending, Wait
from tidegate.gate.gate import Gate
from tidegate.gate.identity import Identifier, Later
from tidegate.gate.refusals import Refusals
from tidegate.gate.waiting import WaitingClients

SECRET = "a secret of thirty-two bytes, or more"
WALL = 1_800_000_000.0
START = 1000.0
HOST = "chat.example"


class Client:
    """A connection on which a client waits."""

    def __init__(self) -> None:
        self.closed = False
        self.told: list[Status[Any]] = []
        self.lease: Lease | None = None
        self.held: Held | None = None
        self.ended: Reject | None = None

    @property
    def positions(self) -> list[tuple[int, int]]:
        return [(status.position, status.total) for status in self.told]

    @property
    def reason(self) -> str | None:
        return None if self.ended is None else self.ended.reason.name


class Promise:
    """A `Later`, as an application that asks a database would return it."""

    def __init__(self) -> None:
        self.outcome: Identity | Refusal | Exception | None = None
        self.ready: list[Callable[[], None]] = []
        self.taken = 0
        self.cancelled = 0

    def then(self, ready: Callable[[], None], /) -> None:
        self.ready.append(ready)

    def result(self) -> Identity | Refusal:
        self.taken += 1
        assert self.outcome is not None, "asked before it was ready"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self) -> None:
        self.cancelled += 1

    def keep(self, outcome: Identity | Refusal | Exception) -> None:
        self.outcome = outcome
        for ready in self.ready:
            ready()


class Names:
    """An identifier whose tokens are names, `user` or `user/tier`; that of "later" comes late."""

    def __init__(self) -> None:
        self.asked: list[OpeningRequest] = []
        self.promises: list[Promise] = []

    def identify(self, request: OpeningRequest, /) -> Identity | Refusal | Later:
        self.asked.append(request)
        if request.token is None:
            return ANONYMOUS
        if request.token == "later":
            self.promises.append(Promise())
            return self.promises[-1]
        return UNAUTHORIZED if request.token == "bad" else name(request.token)


class World:
    """Everything around one gate, with settings as in a file."""

    def __init__(
        self,
        *,
        identifier: Identifier | None = None,
        holds_waiting: bool = True,
        fleet: Any = None,
        **sections: Mapping[str, object],
    ) -> None:
        auth = {"secret": SECRET, **sections.pop("auth", {})}
        self.settings = Settings.from_mapping(
            {"pacing": {"enabled": False}, **sections, "auth": auth}
        )
        self.now = START
        self.stats = Stats()
        self.tracker = ConnectionTracker(self.settings.limits, self.settings.tiers, fleet)
        self.tried: list[str] = []
        self.shedder = LoadShedder(self.settings, START)
        self.admission = Admission(
            self.settings, self.tracker, self.shedder, lambda: 0.0, self.tried.append
        )
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.admitted: list[Client] = []
        self.waiting: WaitingClients[Client] = WaitingClients(
            self.settings, self.admission, self.tracker, self.stats, self, lambda: self.now, fleet
        )
        self.names = Names()
        self.refusals = Refusals(self.stats)
        self.gate = Gate(
            self.settings,
            self.stats,
            self.admission,
            self.waiting,
            identifier or self.names,
            self.refusals,
            holds_waiting=holds_waiting,
            fleet=fleet,
        )

    # What the waiting clients' host does.

    def tell(self, client: Client, status: Status[Any], /) -> None:
        client.told.append(status)

    def admit(self, client: Client, lease: Lease, held: Held, /) -> bool:
        if client.closed:
            return False
        client.lease, client.held = lease, held
        self.admitted.append(client)
        return True

    def turn_away(self, client: Client, reject: Reject, /) -> None:
        client.ended = reject

    def schedule(self, seconds: float, work: Callable[[], None], /) -> None:
        if seconds:
            self.later.append((self.now + seconds, work))
        else:
            self.soon.append(work)

    # Time.

    @property
    def wall(self) -> float:
        return WALL + self.now - START

    def turn(self) -> None:
        while self.soon:
            self.soon.pop()()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [work for when, work in self.later if when <= self.now]
        self.later = [(when, work) for when, work in self.later if when > self.now]
        for work in due:
            work()
        self.waiting.tick(self.now)
        self.turn()

    # What clients do.

    def decide(self, request: OpeningRequest) -> Decision | Pending:
        """Ask the gate, and check that a lease is taken exactly when an attempt is admitted."""
        return self.check(lambda: self.gate.decide(request, self.now, self.wall))

    def go_on(self, pending: Pending) -> Decision | Pending:
        """Ask for a decision that was pending."""
        return self.check(lambda: pending.decide(self.now, self.wall))

    def check(self, ask: Callable[[], Decision | Pending]) -> Decision | Pending:
        kept = self.waiting.kept
        before = (self.tracker.open, self.stats.accepted, sum(self.stats.rejected.values()))
        decision = ask()
        gave = kept - self.waiting.kept  # to the holder of a ticket that was kept a lease
        taken = self.tracker.open - before[0] + gave
        accepted = self.stats.accepted - before[1]
        refused = sum(self.stats.rejected.values()) - before[2]
        if isinstance(decision, Admit):
            assert (taken, accepted, refused) == (1, 1, 0)
            assert decision.lease.held
        elif isinstance(decision, Reject) or (
            isinstance(decision, Wait) and isinstance(decision.position, Away)
        ):
            assert (taken, accepted, refused) == (0, 0, 1)
        else:
            assert (taken, accepted, refused) == (0, 0, 0)
        return decision

    def pending(self, request: OpeningRequest) -> tuple[Pending, Promise]:
        """Ask with an attempt whose identity comes late."""
        request.token = "later"
        pending = self.decide(request)
        assert not isinstance(pending, Admit | Reject | Wait)
        return pending, self.names.promises[-1]

    def enter(self, number: int = 9, identity: Identity = ANONYMOUS) -> Lease:
        outcome = self.admission.admit(attempt(number, identity), self.now)
        assert isinstance(outcome, Lease)
        return outcome

    def fill(self, count: int, address: str, identity: Identity = ANONYMOUS) -> list[Lease]:
        """Take leases for connections that are there already."""
        leases = []
        for _ in range(count):
            lease = self.tracker.acquire(address, identity)
            assert isinstance(lease, Lease)
            leases.append(lease)
        return leases

    def leave(self, lease: Lease | None) -> None:
        assert lease is not None
        assert self.tracker.release(lease)
        self.waiting.freed()
        self.turn()

    def seat(self, held: Held) -> Client:
        """Open the connection of a client that waits on it."""
        client = Client()
        self.waiting.seated(client, held)
        self.waiting.greet(client, self.now)
        self.turn()
        return client

    def hold(self, number: int) -> Client:
        held = self.waiting.hold(attempt(number), False, self.now)
        assert isinstance(held, Held)
        return self.seat(held)

    def ask(
        self, number: int, ticket: str | None = None, identity: Identity = ANONYMOUS
    ) -> Away | Lease | Reject:
        """What a client gets that cannot be held, as the gate would decide."""
        asked = attempt(number, identity)
        found = None if ticket is None else self.waiting.read(ticket, asked, self.wall)
        if found is None:
            outcome = self.admission.admit(asked, self.now)
        else:
            outcome = self.waiting.back(found, asked, self.now, self.wall)
        if isinstance(outcome, Reject) and outcome.reason is WAITING:
            away = self.waiting.send_away(asked, found, self.now, self.wall)
            self.turn()
            return away
        return outcome

    def away(self, number: int, ticket: str | None = None) -> Away:
        answer = self.ask(number, ticket)
        assert isinstance(answer, Away), answer
        return answer

    def counted(self) -> dict[str, int]:
        """What was refused, by reason."""
        return {reason: count for reason, count in self.stats.rejected.items() if count}


def name(token: str) -> Identity:
    user, _, tier = token.partition("/")
    return Identity(user, tier or None)


def attempt(number: int, identity: Identity = ANONYMOUS) -> Attempt:
    return Attempt(f"192.0.2.{number}", "/ws", identity)


def opening(number: int = 1, **fields: Any) -> OpeningRequest:
    """A request from 192.0.2.`number`."""
    return OpeningRequest(f"192.0.2.{number}", "/ws", HOST, **fields)


def refused(outcome: object) -> str:
    assert isinstance(outcome, Reject), outcome
    return outcome.reason.name
