"""The door: HTTP requests to the gate's attempts, and its decisions to bytes.

    Request -> OpeningRequest -> Gate.decide -> Decision -> Grant, or a response that refuses

What can fail, such as the negotiation of extensions, is done before the gate is asked: a decision
may have taken a lease, and nothing may go wrong between that and the `Grant`. So what goes into the
response is checked before, the application's subprotocols when the door is made.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.admission.attempt import Attempt, Lease, Reject
from tidegate.core.codes import (
    DECISION_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    INTERNAL_ERROR,
    IP_LIMIT,
    NOT_FOUND,
    REASONS,
    SERVER_LIMIT,
    Refusal,
    http_body,
)
from tidegate.engine.door import Grant, Undecided
from tidegate.errors import ConfigError
from tidegate.gate.decision import Admit, OpeningRequest, Wait
from tidegate.gate.tokens import token_of
from tidegate.node.fallback import Fallback
from tidegate.node.rendering import (
    Terms,
    grant,
    http_refusal,
    in_band_refusal,
    refusal,
    refusal_headers,
    waiting,
)
from tidegate.node.undecided import Negotiated, Parked
from tidegate.wire.codecs import NEUTRAL_V1, SESSION_PREFIX
from tidegate.wire.deflate import Deflate, negotiate
from tidegate.wire.forwarded import TrustedProxies
from tidegate.wire.handshake import (
    HandshakeError,
    Request,
    accept_response,
    check_upgrade,
    http_response,
    is_upgrade,
)

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.engine.application import Application
    from tidegate.gate.decision import Decision, Pending
    from tidegate.gate.gate import Gate
    from tidegate.gate.refusals import Refusals
    from tidegate.node.event_streams import EventStreams

__all__ = ["GateDoor"]

_log = logging.getLogger("tidegate")

_PATHS: Final = 1024  # that are kept as one string each


class GateDoor:
    """The engine's `Door`, with the gate behind it.

    Args:
        gate: decides about the attempts.
        refusals: counts what never becomes an attempt, or is given up before it is decided.
        application: says which subprotocols there are, and answers plain HTTP.
        streams: the streams of events, where the fallback is on.

    Raises:
        ConfigError: the application has no fallback, and the settings want it.
        UsageError: a subprotocol of the application is not a token (RFC 9110 5.6.2).
    """

    def __init__(
        self,
        settings: Settings,
        gate: Gate,
        refusals: Refusals,
        application: Application[Any],
        streams: EventStreams,
    ) -> None:
        self._gate = gate
        self._refusals = refusals
        self._application = application
        self._subprotocols = (*application.subprotocols, NEUTRAL_V1)
        for name in self._subprotocols:
            accept_response("", name)  # raises for one that cannot stand in a header
        self._in_band = application.in_band
        self._refuses_in_band = settings.server.refuse == "in-band"
        self._hints = not application.negotiates
        self._negotiates = application.negotiates
        self._path = settings.server.path
        self._serves = application.serves
        self._paths = {self._path: self._path} if self._path else {}
        self._secure = settings.tls.certificate is not None
        self._proxies = TrustedProxies(settings.proxies.trusted)
        self._proxy_header: Any = settings.proxies.header
        self._deflate = settings.deflate
        self._query_token = settings.auth.query_token
        self._fallback: Fallback | None = None
        if settings.server.sse:
            if not application.has_events:
                raise ConfigError("server.sse: only `tidegate serve` has this fallback")
            most = application.max_message or settings.messages.max_size
            self._fallback = Fallback(settings, gate, streams, most, self)
        self._no_descriptor = http_refusal(SERVER_LIMIT, SERVER_LIMIT.retry_after, None)
        self._crowded = http_refusal(IP_LIMIT, IP_LIMIT.retry_after, None)

    # What the engine asks (engine.door.Door).

    def decide(self, request: Request, peer: str, now: float, /) -> Grant | bytes | Undecided:
        """Return a grant, or the response that refuses. HOT."""
        path = request.path
        if not self._serves(path, self._path):
            return self._elsewhere(request, peer, now)
        # Paths repeat, and one string of each is enough. It is kept as long as the connection.
        path = self._paths.get(path) or self._remember(path)
        try:
            key, offered, extensions, origin = check_upgrade(request)
        except HandshakeError as error:
            return self._no_upgrade(request, error, peer, now)
        subprotocol = self._choose(offered) if offered else None
        if offered and subprotocol is None and origin is not None and self._hints:
            self._hint()
        headers = request.headers
        token: str | None = None
        if offered or self._query_token or "authorization" in headers:
            token = token_of(headers, offered, request.query, query_allowed=self._query_token)
        header = self._proxy_header
        attempt = OpeningRequest(
            self._proxies.client(peer, headers.get(header), header),
            path,
            headers["host"],
            self._secure,
            origin,
            token,
            headers.get("x-queue-ticket"),
            subprotocol in self._in_band,
            headers,
            request.query,
            _session_of(offered) if offered else None,
        )
        extension: str | None = None
        deflate: Deflate | None = None
        if extensions and self._deflate.enabled:
            agreed = negotiate(
                extensions,
                context_takeover=self._deflate.context_takeover,
                window_bits=self._deflate.window_bits,
                max_ratio=self._deflate.max_ratio,
            )
            if agreed is not None:
                extension, deflate = agreed
        wall = time()
        in_band = subprotocol is not None and self._refuses_in_band
        terms = Terms(attempt, key, subprotocol, extension, deflate, in_band, request, wall)
        try:
            decision = self._gate.decide(attempt, now, wall)
        except Exception as error:
            return self.undecidable(error, terms)
        return self.render(decision, terms, wall)

    def max_body(self, path: str, /) -> int:
        """Return how many bytes may be posted at a path in one request; 0 for none."""
        fallback = self._fallback
        return fallback.most if fallback is not None and path == fallback.path else 0

    def posted(self, request: Request, body: bytes | None, peer: str, /) -> bytes:
        """Take what was posted, and return the response."""
        assert self._fallback is not None
        try:
            return self._fallback.posted(request, body, peer)
        except Exception as error:
            return self.failed(error)

    def malformed(
        self, error: HandshakeError, peer: str, request: Request | None = None, /
    ) -> bytes:
        """Return the refusal of a request that is not a valid handshake."""
        reason = REASONS[error.reason]
        assert isinstance(reason, Refusal)
        self._note(reason, peer, request, error.message)
        headers = refusal_headers(reason, None, None) + error.headers
        return http_response(reason.status, http_body(reason, None, error.message), headers)

    def timed_out(self, peer: str, /) -> bytes:
        """Return the refusal of a request that did not come in time."""
        self._note(HANDSHAKE_TIMEOUT, peer)
        return http_refusal(HANDSHAKE_TIMEOUT, None, None)

    def overdue(self, request: Request, peer: str, /) -> bytes:
        """Return the refusal of an attempt that the pace has held back for too long."""
        self._note(DECISION_TIMEOUT, peer, request)
        return http_refusal(DECISION_TIMEOUT, DECISION_TIMEOUT.retry_after, None)

    def no_descriptor(self, request: Request | None, peer: str, /) -> bytes:
        """Return the refusal of a connection for which there is no file descriptor.

        Plain HTTP needs one for a moment only, and is answered: health checks among it.
        """
        if request is not None and not is_upgrade(request):
            response = self._respond(request, peer)
            if response is not None:
                return response
        self._note(SERVER_LIMIT, peer, request, "there is no file descriptor for it")
        return self._no_descriptor if request is None else self._turned_away(request, SERVER_LIMIT)

    def crowded(self, peer: str, /) -> bytes:
        """Return the refusal of an address that has too many of what is no WebSocket yet."""
        self._note(IP_LIMIT, peer, detail="too many attempts that are not finished, or HTTP")
        return self._crowded

    def failed(self, error: Exception, /) -> bytes:
        """Log an error of ours or of the application's; the peer is told nothing of it."""
        self._log_failure(error)
        return http_refusal(INTERNAL_ERROR, INTERNAL_ERROR.retry_after, None)

    def wait_to_decide(self, now: float, /) -> float:
        """Return the seconds for which no attempt is to be decided about; 0.0 for none. HOT."""
        return self._gate.wait_to_decide(now)

    def trusts(self, peer: str, /) -> bool:
        """Return whether `peer` is a trusted proxy."""
        return peer in self._proxies

    def _log_failure(self, error: Exception) -> None:
        _log.error("an attempt could not be decided", exc_info=error)
        self._refusals.count(INTERNAL_ERROR)

    def _note(
        self, reason: Refusal, peer: str, request: Request | None = None, detail: str = ""
    ) -> None:
        """Count and keep a refusal that the gate was not asked about."""
        address, path, headers = peer, "", None
        if request is not None:
            path, headers, address = request.path, request.headers, self.client(request, peer)
        self._refusals.note(reason, time(), address, path=path, headers=headers, detail=detail)

    def _choose(self, offered: tuple[str, ...]) -> str | None:
        """Return the subprotocol to agree to: the first of ours that is offered."""
        for name in self._subprotocols:
            if name in offered:
                return name
        return None

    def _hint(self) -> None:
        """Say once what no page can find out: why its browser fails the connection."""
        self._hints = False
        _log.warning(
            "a page offers only subprotocols that are not spoken here (or only its token), and "
            "browsers fail such a connection; let it offer %s as well",
            " or ".join(self._subprotocols),
        )

    def _remember(self, path: str) -> str:
        # Clients may think of any number of paths: what is kept for them is bounded.
        if len(self._paths) < _PATHS:
            self._paths[path] = path
        return path

    # Requests that are no attempts.

    def _respond(self, request: Request, peer: str) -> bytes | None:
        return self._application.respond(request, self.client(request, peer))

    def client(self, request: Request, peer: str) -> str:
        """Return the client's own address, behind trusted proxies."""
        header = self._proxy_header
        return self._proxies.client(peer, request.headers.get(header), header)

    def _elsewhere(self, request: Request, peer: str, now: float) -> Grant | bytes | Undecided:
        fallback = self._fallback
        if fallback is not None and fallback.answers(request):
            return fallback.open(request, peer, now)
        response = self._respond(request, peer)
        if response is not None:
            return response
        if not is_upgrade(request):  # it was no attempt: a browser asking for its icon, say
            return http_refusal(NOT_FOUND, None, None)
        self._note(NOT_FOUND, peer, request)
        return self._turned_away(request, NOT_FOUND)

    def _no_upgrade(
        self, request: Request, error: HandshakeError, peer: str, now: float
    ) -> Grant | bytes | Undecided:
        fallback = self._fallback
        if fallback is not None and fallback.answers(request):
            return fallback.open(request, peer, now)
        if not is_upgrade(request):
            response = self._respond(request, peer)
            if response is not None:
                return response
        return self.malformed(error, peer, request)

    def _turned_away(self, request: Request, reason: Refusal) -> bytes:
        """Return the refusal of an attempt that the gate is not asked about."""
        if self._refuses_in_band:
            with suppress(HandshakeError):
                upgrade = check_upgrade(request)
                subprotocol = self._choose(upgrade.subprotocols)
                if subprotocol is not None:
                    return in_band_refusal(reason, reason.retry_after, upgrade.key, subprotocol)
        return http_refusal(reason, reason.retry_after, None)

    # Rendering.

    def render(
        self, decision: Decision | Pending, terms: Terms, wall: float
    ) -> Grant | bytes | Undecided:
        """Return a decision as the engine wants it."""
        if isinstance(decision, Admit):
            if self._negotiates:
                return self._negotiate(decision, terms, wall)
            return grant(decision, terms, wall)
        if isinstance(decision, Reject):
            return refusal(decision, terms)
        if isinstance(decision, Wait):
            return waiting(decision, terms)
        return Parked(self, decision, terms)

    def undecidable(self, error: Exception, terms: Terms) -> bytes:
        """Log why a decision failed, and return the refusal; the peer is told nothing of it."""
        self._log_failure(error)
        return refusal(Reject(INTERNAL_ERROR, INTERNAL_ERROR.retry_after), terms)

    def _negotiate(self, admit: Admit, terms: Terms, wall: float) -> Undecided | bytes:
        granted = grant(admit, terms, wall)
        try:
            said = self._application.negotiate(terms.request, granted.lease, terms.subprotocol)
        except Exception as error:
            self._gate.give_back(granted.lease)
            return self.undecidable(error, terms)
        return Negotiated(self, said, granted, terms)

    def give_back(self, lease: Lease) -> None:
        """Release the lease of an attempt that was admitted, and becomes no connection."""
        self._gate.give_back(lease)

    def given_up(self, terms: Terms, reason: Refusal) -> bytes:
        """Return the refusal of an attempt that was not decided about in time."""
        reject = Reject(reason, reason.retry_after)
        attempt = Attempt(terms.attempt.address, terms.attempt.path)
        self._refusals.add(attempt, reject, time(), terms.attempt.headers)
        return refusal(reject, terms)


def _session_of(offered: tuple[str, ...]) -> str | None:
    """Return the session that a request shows, among the subprotocols that it offers."""
    for name in offered:
        if name.startswith(SESSION_PREFIX):
            return name.removeprefix(SESSION_PREFIX)
    return None
