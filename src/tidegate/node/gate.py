"""The gate: from a request to the answer that the engine writes.

The steps are in the order of their cost: what is wrong with the request, where it comes from,
whether anybody is let in at all, who it is, and only then the limits. A lease is taken last, for
a request that nothing else can go wrong with.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from sys import intern
from time import time
from typing import Any, NamedTuple

from tidegate.core import codes
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject
from tidegate.core.admission.tickets import Ticket
from tidegate.core.codes import Reason, close_reason, http_body
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.engine.door import Grant
from tidegate.node.auth import Authenticator, Unauthorized, token_of
from tidegate.node.line import Away, WaitingLine
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.deflate import Deflate, negotiate
from tidegate.wire.forwarded import TrustedProxies
from tidegate.wire.frames import encode_close
from tidegate.wire.handshake import (
    HandshakeError,
    Request,
    Upgrade,
    accept_response,
    check_upgrade,
    http_response,
    is_upgrade,
    origin_allowed,
)

__all__ = ["Gate", "Refusal"]

_log = logging.getLogger("tidegate")

_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="tidegate"'),)  # RFC 9110, section 11.6.1

_REFUSALS = 200
_ORIGIN = Reject(codes.ORIGIN, None)
_UNAUTHORIZED = Reject(codes.UNAUTHORIZED, None)


class Refusal(NamedTuple):
    """One of the last refusals: who was told what. ``at`` is in Unix seconds."""

    at: float
    address: str
    user: str | None
    tier: str | None
    reason: Reason
    retry_after: float | None
    limit: int | None


class Gate:
    """Decides about every attempt of one node, and counts what it refuses.

    Args:
        subprotocols: what the application speaks, in its order of preference.
        http: answers requests that are no WebSocket handshake; None for "nothing here".
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        admission: Admission,
        line: WaitingLine,
        authenticator: Authenticator,
        subprotocols: Sequence[str],
        http: Callable[[Request], bytes | None] | None,
    ) -> None:
        self._stats = stats
        self.refusals: deque[Refusal] = deque(maxlen=_REFUSALS)
        self._admission = admission
        self._line = line
        self._authenticator = authenticator
        self._subprotocols = tuple(subprotocols)
        self._http = http
        self._path = settings.server.path
        self._origins = frozenset(settings.server.origins)
        self._secure = settings.tls.certificate is not None
        self._proxies = TrustedProxies(settings.proxies.trusted)
        self._proxy_header: Any = settings.proxies.header
        self._deflate = settings.deflate
        self._auth = settings.auth
        self._no_descriptor = _refusal(codes.SERVER_LIMIT, codes.SERVER_LIMIT.retry_after, None)

    # What the engine asks (engine.door.Door).

    def decide(self, request: Request, peer: str, now: float) -> Grant | bytes:
        """Return a grant, or the response that refuses. HOT."""
        try:
            if self._path and request.path != self._path:
                return self._elsewhere(request)
            if self._http is not None and not is_upgrade(request):
                answer = self._http(request)
                if answer is not None:
                    return answer
            upgrade = check_upgrade(request)
        except HandshakeError as error:
            return self.malformed(error)
        subprotocol = None
        for name in self._subprotocols if upgrade.subprotocols else ():
            if name in upgrade.subprotocols:
                subprotocol = name
                break
        native = subprotocol == JSON_V1
        header = request.headers.get(self._proxy_header)
        address = self._proxies.client(peer, header, self._proxy_header)
        attempt = Attempt(address, request.path, ANONYMOUS, native)
        if not origin_allowed(upgrade.origin, request.headers["host"], self._origins, self._secure):
            return self._reject(_ORIGIN, upgrade, attempt)
        ticket = request.headers.get("x-queue-ticket")
        rejection = self._admission.precheck(address, now, ticket=ticket is not None)
        if rejection is not None:
            return self._reject(rejection, upgrade, attempt)
        token = None
        if upgrade.subprotocols or self._auth.query_token or "authorization" in request.headers:
            token = token_of(
                request.headers,
                upgrade.subprotocols,
                request.query,
                query_allowed=self._auth.query_token,
            )
        identity: Identity = ANONYMOUS
        if token is not None:
            try:
                identity = self._authenticator.identify(token)
            except Unauthorized:
                return self._reject(_UNAUTHORIZED, upgrade, attempt)
        elif not self._auth.anonymous and not (native and self._auth.first_message):
            return self._reject(_UNAUTHORIZED, upgrade, attempt)
        # Addresses and paths repeat; one string of each is enough.
        attempt = Attempt(intern(address), intern(request.path), identity, native)
        if ticket is None:
            return self._admit(upgrade, attempt, subprotocol, now)
        return self._back(upgrade, attempt, subprotocol, ticket, now)

    def malformed(self, error: HandshakeError) -> bytes:
        """Return the refusal of a request that is not a valid handshake."""
        reason = codes.REASONS[error.code]
        self._count(reason)
        body = http_body(reason, None)
        return http_response(error.status, body, _headers(reason, None, None) + error.headers)

    def timed_out(self) -> bytes:
        """Return the refusal of a request that did not come in time."""
        self._count(codes.HANDSHAKE_TIMEOUT)
        return _refusal(codes.HANDSHAKE_TIMEOUT, None, None)

    def no_descriptor(self) -> bytes:
        """Return the refusal of a connection for which there is no file descriptor."""
        self._count(codes.SERVER_LIMIT)
        return self._no_descriptor

    def failed(self, error: Exception) -> bytes:
        """Log an error of ours, or of the application's ``http``; the peer is told nothing."""
        _log.error("an attempt could not be decided", exc_info=error)
        self._count(codes.INTERNAL_ERROR)
        return _refusal(codes.INTERNAL_ERROR, codes.INTERNAL_ERROR.retry_after, None)

    def wait_to_decide(self, now: float) -> float:
        """Return the seconds for which no attempt is to be decided about; 0.0 for none. HOT."""
        return self._admission.wait_to_decide(now)

    def trusts(self, peer: str) -> bool:
        """Return whether ``peer`` is a trusted proxy."""
        return peer in self._proxies

    # Steps.

    def _elsewhere(self, request: Request) -> bytes:
        answer = self._http(request) if self._http is not None else None
        if answer is not None:
            return answer
        if is_upgrade(request):  # else it was no attempt: a browser asking for its icon, say
            self._count(codes.NOT_FOUND)
        return _refusal(codes.NOT_FOUND, None, None)

    def _back(
        self,
        upgrade: Upgrade,
        attempt: Attempt,
        subprotocol: str | None,
        text: str,
        now: float,
    ) -> Grant | bytes:
        """Decide about one that shows a ticket."""
        ticket = self._line.read(text, attempt, time())
        if ticket is None:
            rejection = self._admission.arrive(attempt.address, now)
            if rejection is not None:
                return self._reject(rejection, upgrade, attempt)
        return self._admit(upgrade, attempt, subprotocol, now, ticket)

    def _admit(
        self,
        upgrade: Upgrade,
        attempt: Attempt,
        subprotocol: str | None,
        now: float,
        ticket: Ticket | None = None,
    ) -> Grant | bytes:
        extensions: str | None = None
        deflate: Deflate | None = None
        if self._deflate.enabled and upgrade.extensions:
            agreed = negotiate(
                upgrade.extensions,
                context_takeover=self._deflate.context_takeover,
                window_bits=self._deflate.window_bits,
            )
            if agreed is not None:
                extensions, deflate = agreed
        response = accept_response(upgrade.key, subprotocol, extensions)
        identity = attempt.identity
        pending = identity is ANONYMOUS and not self._auth.anonymous
        if ticket is None:
            verdict = self._admission.admit(attempt, now)
        else:
            verdict = self._line.back(ticket, attempt, now, time())
        if type(verdict) is Reject:
            if verdict.reason is not codes.WAITING:
                return self._reject(verdict, upgrade, attempt)
            if not attempt.native or self._line.let_in is None:
                return self._send_away(upgrade, attempt, ticket, now)
            place = self._line.hold(attempt, pending, now)
            if type(place) is Reject:
                return self._reject(place, upgrade, attempt)
            stand_in = Lease(attempt.address, identity.user, identity.tier, identity.priority)
            stand_in.held = False
            # It may say nothing until it is let in, as one that has to authenticate first.
            return Grant(response, stand_in, attempt.path, subprotocol, deflate, True, None, place)
        self._stats.accepted += 1
        expires_in = None if identity.expires_at is None else identity.expires_at - time()
        return Grant(response, verdict, attempt.path, subprotocol, deflate, pending, expires_in)  # type: ignore[arg-type]

    def _send_away(
        self, upgrade: Upgrade, attempt: Attempt, ticket: Ticket | None, now: float
    ) -> bytes:
        away = self._line.send_away(attempt, ticket, now, time())
        if type(away) is Reject:
            return self._reject(away, upgrade, attempt)
        assert isinstance(away, Away)
        self._count(codes.WAITING)
        headers = (
            *_headers(codes.WAITING, away.retry_after, None),
            ("X-Queue-Ticket", away.ticket),
            ("X-Queue-Position", str(away.position)),
        )
        body = http_body(codes.WAITING, away.retry_after)
        assert codes.WAITING.http is not None
        return http_response(codes.WAITING.http, body, headers)

    # Refusals.

    def _reject(self, rejection: Reject, upgrade: Upgrade, attempt: Attempt) -> bytes:
        reason, retry_after, limit, _ = rejection
        self._count(reason)
        who = attempt.identity
        self.refusals.append(
            Refusal(time(), attempt.address, who.user, who.tier, reason, retry_after, limit)
        )
        if attempt.native and reason.close is not None:
            # A browser cannot see the status of a failed upgrade, but it sees a close frame.
            response = accept_response(upgrade.key, JSON_V1)
            return response + _close_frame(reason, retry_after)
        # Retry-After is in whole seconds (RFC 9110, section 10.2.3).
        return _refusal(reason, None if retry_after is None else ceil(retry_after), limit)

    def _count(self, reason: Reason) -> None:
        self._stats.rejected[reason.name] = self._stats.rejected.get(reason.name, 0) + 1


def _headers(
    reason: Reason, retry_after: int | None, limit: int | None
) -> tuple[tuple[str, str], ...]:
    headers = [("X-Rejection-Reason", reason.name), ("Cache-Control", "no-store")]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    if limit is not None:
        headers.append(("X-RateLimit-Limit", str(limit)))
        headers.append(("X-RateLimit-Remaining", "0"))
    return tuple(headers)


# A storm of refusals says the same few things over and over.
@lru_cache(maxsize=512)
def _refusal(reason: Reason, retry_after: int | None, limit: int | None) -> bytes:
    headers = _headers(reason, retry_after, limit)
    if reason is codes.UNAUTHORIZED:
        headers += _CHALLENGE
    assert reason.http is not None
    return http_response(reason.http, http_body(reason, retry_after), headers)


@lru_cache(maxsize=512)
def _close_frame(reason: Reason, retry_after: float | None) -> bytes:
    assert reason.close is not None
    return encode_close(reason.close, close_reason(reason, retry_after))
