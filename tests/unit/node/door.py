"""A door among what it needs, and requests that come to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.raw import KEY, upgrade
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import Identity, Lease
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import Refusal
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.engine.application import Application
from tidegate.engine.door import Grant, Undecided
from tidegate.gate.decision import Held, OpeningRequest
from tidegate.gate.gate import Gate
from tidegate.gate.identity import Identifier, Later, TokenIdentifier
from tidegate.gate.refusals import Refusals
from tidegate.gate.tokens import Authenticator, create_token
from tidegate.gate.waiting import WaitingClients
from tidegate.node.door import GateDoor
from tidegate.node.event_streams import EventStreams
from tidegate.wire.codecs import JSON_V1, TOKEN_PREFIX
from tidegate.wire.frames import CLOSE
from tidegate.wire.handshake import Request, accept_response, parse_request
from tidegate.wire.reader import Reader

SECRET = "a secret of thirty-two bytes, or more"
PEER = "192.0.2.1"
NOW = 1000.0


@dataclass
class Refused:
    """A response that admits nobody; `close` is the code and the reason of an in-band one."""

    status: int
    headers: dict[str, str]
    body: Any
    close: tuple[int, dict[str, Any]] | None = None
    subprotocol: str | None = None


class Promise:
    """An identifier that says who it is later, and what it returns until then."""

    def __init__(self) -> None:
        self.asked: list[OpeningRequest] = []
        self.outcome: Identity | Refusal | Exception | None = None
        self.ready: Callable[[], None] | None = None
        self.cancelled = 0

    def identify(self, request: OpeningRequest, /) -> Later:
        self.asked.append(request)
        return self

    def then(self, ready: Callable[[], None], /) -> None:
        self.ready = ready

    def result(self) -> Identity | Refusal:
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self) -> None:
        self.cancelled += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome

    def keep(self, outcome: Identity | Refusal | Exception) -> None:
        self.outcome = outcome
        assert self.ready is not None
        self.ready()


class Speaker(Application[Any]):
    """An application that speaks subprotocols, and clients of JSON_V1 are told things in-band."""

    in_band = frozenset((JSON_V1,))

    def __init__(
        self, subprotocols: tuple[str, ...], http: Callable[[Request], bytes | None] | None
    ) -> None:
        self.subprotocols = subprotocols
        self.http = http

    def respond(self, request: Request, address: str, /) -> bytes | None:
        return None if self.http is None else self.http(request)


class Door:
    """The door of a node, with settings as in a file."""

    def __init__(
        self,
        *,
        subprotocols: tuple[str, ...] = (),
        http: Callable[[Request], bytes | None] | None = None,
        identifier: Identifier | None = None,
        holds_waiting: bool = True,
        make: Callable[..., GateDoor] = GateDoor,
        **sections: Mapping[str, object],
    ) -> None:
        auth = {"secret": SECRET, **sections.pop("auth", {})}
        self.settings = Settings.from_mapping(
            {"pacing": {"enabled": False}, **sections, "auth": auth}
        )
        self.stats = Stats()
        self.tracker = ConnectionTracker(self.settings.limits, self.settings.tiers)
        shedder = LoadShedder(self.settings, NOW)
        self.admission = Admission(
            self.settings, self.tracker, shedder, lambda: 0.0, lambda policy: None
        )
        host: Any = self
        self.waiting: WaitingClients[Any] = WaitingClients(
            self.settings, self.admission, self.tracker, self.stats, host, lambda: NOW
        )
        self.refusals = Refusals(self.stats)
        tokens = TokenIdentifier(self.settings.auth, Authenticator(self.settings.auth))
        gate = Gate(
            self.settings,
            self.stats,
            self.admission,
            self.waiting,
            identifier or tokens,
            self.refusals,
            holds_waiting=holds_waiting,
        )
        self.gate = gate
        self.streams = EventStreams("n", self.stats.posts)
        speaker = Speaker(subprotocols, http)
        self.door = make(self.settings, gate, self.refusals, speaker, self.streams)

    def schedule(self, seconds: float, work: Callable[[], None], /) -> None:
        """Nothing happens by itself here."""

    def knock(
        self,
        *headers: tuple[str, str],
        protocols: str | None = None,
        peer: str = PEER,
        **request: Any,
    ) -> Grant | Refused | Undecided:
        """Ask with a request of `upgrade`, and take the answer apart."""
        if protocols is not None:
            headers = (*headers, ("Sec-WebSocket-Protocol", protocols))
        parsed = parse_request(upgrade(headers=headers, **request))
        assert parsed is not None
        return self.check(lambda: self.door.decide(parsed, peer, NOW))

    def go_on(self, undecided: Undecided) -> Grant | Refused | Undecided:
        """Ask for what was undecided."""
        return self.check(lambda: undecided.decide(NOW))

    def check(self, ask: Callable[[], Grant | bytes | Undecided]) -> Grant | Refused | Undecided:
        before = (self.tracker.open, self.stats.accepted)
        answer = ask()
        taken = (self.tracker.open - before[0], self.stats.accepted - before[1])
        if isinstance(answer, Grant) and answer.held is None:
            assert answer.lease.held
            assert taken == (1, 1)
            return answer
        assert taken == (0, 0), "what is not admitted holds a lease"
        if isinstance(answer, Grant):
            assert not answer.lease.held
            return answer
        return read(answer) if isinstance(answer, bytes) else answer

    def let_in(self, *args: Any, **options: Any) -> Grant:
        grant = self.knock(*args, **options)
        assert isinstance(grant, Grant), grant
        assert grant.held is None
        return grant

    def refused(self, *args: Any, **options: Any) -> Refused:
        refused = self.knock(*args, **options)
        assert isinstance(refused, Refused), refused
        return refused

    def held(self, *args: Any, **options: Any) -> Grant:
        grant = self.knock(*args, **options)
        assert isinstance(grant, Grant), grant
        assert isinstance(grant.held, Held)
        return grant

    def undecided(self, *args: Any, **options: Any) -> Undecided:
        undecided = self.knock(*args, **options)
        assert not isinstance(undecided, Grant | Refused), undecided
        return undecided

    def fill(self, count: int, address: str = PEER, identity: Identity | None = None) -> None:
        """Take leases for connections that are there already."""
        for _ in range(count):
            lease = self.tracker.acquire(address, identity or Identity())
            assert isinstance(lease, Lease)

    def token(self, user: str = "ann", tier: str | None = None, lifetime: float = 60) -> str:
        """A valid token; one that has expired with a lifetime below 0."""
        created = time.time() - (100 if lifetime < 0 else 0)
        return create_token(
            self.settings.auth,
            user=user,
            tier=tier,
            priority=0,
            lifetime_seconds=abs(lifetime),
            now=created,
        )

    def counted(self) -> dict[str, int]:
        """What was refused, by reason."""
        return {reason: count for reason, count in self.stats.rejected.items() if count}


def read(response: bytes) -> Refused:
    """Parse a response, which must be whole and nothing more."""
    head, _, frame = response.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101 "):
        _, named, subprotocol = head.decode().partition("Sec-WebSocket-Protocol: ")
        assert named, "a client is told in-band only in a subprotocol that it offered"
        assert head + b"\r\n\r\n" == accept_response(KEY, subprotocol)
        assert len(frame) <= 2 + 125
        reader = Reader(125, 1, masked=False)
        reader.feed(frame)
        item = reader.next()
        assert item is not None
        assert item[0] == CLOSE
        code, reason = item[1]
        assert len(reason.encode()) <= 123
        return Refused(101, {}, None, (code, json.loads(reason)), subprotocol)
    body = frame
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert int(headers["Content-Length"]) == len(body)
    return Refused(int(first.split()[1]), headers, json.loads(body))


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def as_protocol(token: str) -> str:
    """A token as a browser sends it."""
    return TOKEN_PREFIX + token
