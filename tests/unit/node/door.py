"""A gate and those who knock at it."""

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
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.engine.door import Grant
from tidegate.node.auth import Authenticator, create_token
from tidegate.node.gate import Gate
from tidegate.node.line import WaitingLine
from tidegate.wire.codecs import JSON_V1, TOKEN_PREFIX
from tidegate.wire.frames import CLOSE, Reader
from tidegate.wire.handshake import Request, accept_response, parse_request

SECRET = "a secret of thirty-two bytes, or more"
PEER = "192.0.2.1"
NOW = 1000.0


@dataclass
class Refusal:
    """A response that lets nobody in; ``close`` is the code and the reason of an in-band one."""

    status: int
    headers: dict[str, str]
    body: Any
    close: tuple[int, dict[str, Any]] | None = None


class Door:
    """A gate among what it needs, with settings as in a file."""

    def __init__(
        self,
        *,
        subprotocols: tuple[str, ...] = (),
        http: Callable[[Request], bytes | None] | None = None,
        **sections: Mapping[str, object],
    ) -> None:
        auth = {"secret": SECRET, **sections.pop("auth", {})}
        self.settings = Settings.from_mapping(
            {"pacing": {"enabled": False}, **sections, "auth": auth}
        )
        self.stats = Stats()
        self.soon: list[Callable[[], None]] = []
        self.tracker = ConnectionTracker(self.settings.limits, self.settings.tiers)
        shedder = LoadShedder(self.settings, NOW)
        self.admission = Admission(self.settings, self.tracker, self.stats, shedder, lambda: 0.0)
        self.line = WaitingLine(
            self.settings, self.admission, self.tracker, self.stats, self.soon.append, lambda: NOW
        )
        self.gate = Gate(
            self.settings,
            self.stats,
            self.admission,
            self.line,
            Authenticator(self.settings.auth),
            subprotocols,
            http,
        )

    def knock(
        self,
        *headers: tuple[str, str],
        protocols: str | None = None,
        peer: str = PEER,
        **request: Any,
    ) -> Grant | Refusal:
        """Ask with a request of `upgrade`, and take the answer apart."""
        if protocols is not None:
            headers = (*headers, ("Sec-WebSocket-Protocol", protocols))
        parsed = parse_request(upgrade(headers=headers, **request))
        assert parsed is not None
        before = (self.tracker.open, self.stats.accepted)
        answer = self.gate.decide(parsed, peer, NOW)
        taken = (self.tracker.open - before[0], self.stats.accepted - before[1])
        if isinstance(answer, Grant):
            assert taken == (1, 1)
            return answer
        assert taken == (0, 0), "a refused request holds a lease"
        return read(answer)

    def let_in(self, *args: Any, **options: Any) -> Grant:
        grant = self.knock(*args, **options)
        assert isinstance(grant, Grant), grant
        return grant

    def refused(self, *args: Any, **options: Any) -> Refusal:
        refusal = self.knock(*args, **options)
        assert isinstance(refusal, Refusal), refusal
        return refusal

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


def read(response: bytes) -> Refusal:
    """Parse a response, which must be whole and nothing more."""
    in_band = accept_response(KEY, JSON_V1)
    if response.startswith(in_band):
        frame = response[len(in_band) :]
        assert len(frame) <= 2 + 125
        reader = Reader(125, 1, masked=False)
        reader.feed(frame)
        item = reader.next()
        assert item is not None
        assert item[0] == CLOSE
        code, reason = item[1]
        assert len(reason.encode()) <= 123
        return Refusal(101, {}, None, (code, json.loads(reason)))
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert int(headers["Content-Length"]) == len(body)
    return Refusal(int(first.split()[1]), headers, json.loads(body))


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def as_protocol(token: str) -> str:
    """A token as a browser sends it."""
    return TOKEN_PREFIX + token
