"""Decisions as the engine wants them: a `Grant`, or the bytes of a response that refuses.

Nothing here can fail: what goes into a response was checked before the gate was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Final, TypeAlias

from tidegate.core.admission.attempt import Lease, Reject
from tidegate.core.codes import UNAUTHORIZED, WAITING, Refusal, close_text, http_body
from tidegate.engine.door import Grant
from tidegate.engine.states import Admission
from tidegate.gate.decision import Admit, Away, Held, Wait
from tidegate.wire.events import events_head, opened_event
from tidegate.wire.frames import encode_close
from tidegate.wire.handshake import accept_response, http_response

if TYPE_CHECKING:
    from tidegate.gate.decision import OpeningRequest
    from tidegate.wire.deflate import Deflate
    from tidegate.wire.handshake import Request

__all__ = [
    "Parts",
    "StreamTerms",
    "Terms",
    "grant",
    "http_refusal",
    "in_band_refusal",
    "refusal",
    "refusal_headers",
    "refusal_parts",
    "waiting",
    "waiting_parts",
    "with_fields",
]

Parts: TypeAlias = tuple[int, bytes, tuple[tuple[str, str], ...]]
"""Status, body and headers of an HTTP response."""

_ADMITTED: Final = Admission.ADMITTED
_UNIDENTIFIED: Final = Admission.UNIDENTIFIED
_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="tidegate"'),)  # RFC 9110, section 11.6.1


@dataclass(slots=True)
class Terms:
    """What an attempt gets if it is admitted, and what is needed to refuse it."""

    attempt: OpeningRequest
    key: str
    subprotocol: str | None
    extension: str | None
    deflate: Deflate | None
    in_band: bool
    """Whether a refusal is told by a close frame."""
    request: Request
    since: float
    """When the gate was asked, in Unix seconds."""

    def accept(self) -> bytes:
        """The response that opens the WebSocket. Nothing in it can be wrong by now."""
        return accept_response(self.key, self.subprotocol, self.extension)

    @property
    def stream_key(self) -> str | None:
        """The key of a stream of events; None for a WebSocket."""
        return None

    def refused(self, response: bytes) -> bytes:
        """Return the HTTP response that refuses it."""
        return response


@dataclass(slots=True)
class StreamTerms(Terms):
    """The terms of an attempt to open a stream of events; `key` is that of the stream."""

    fields: bytes
    """Header fields of each response: who may read it."""
    retry: int
    """Milliseconds after which a browser comes back when the stream just ends."""

    def accept(self) -> bytes:
        """The beginning of the response that is the stream, with its first event."""
        return events_head(self.fields) + opened_event(self.key, self.retry)

    @property
    def stream_key(self) -> str | None:
        """The key of the stream."""
        return self.key

    def refused(self, response: bytes) -> bytes:
        """Return the HTTP response that refuses it."""
        return with_fields(response, self.fields)


def grant(admit: Admit, terms: Terms, wall: float) -> Grant:
    """Return what an attempt gets that was admitted."""
    attempt, lease, unidentified, resumed = admit
    expires_at = attempt.identity.expires_at
    return Grant(
        terms.accept(),
        lease,
        attempt.path,
        terms.subprotocol,
        terms.deflate,
        _UNIDENTIFIED if unidentified else _ADMITTED,
        None if expires_at is None else expires_at - wall,
        resumed=resumed,
        stream_key=terms.stream_key,
    )


def refusal(reject: Reject, terms: Terms) -> bytes:
    """Return the response that refuses an attempt: in-band where the client is told so."""
    reason, retry_after, limit = reject
    if terms.in_band:
        return in_band_refusal(reason, retry_after, terms.key, terms.subprotocol)
    # Retry-After is in whole seconds (RFC 9110, section 10.2.3).
    seconds = None if retry_after is None else ceil(retry_after)
    return terms.refused(http_refusal(reason, seconds, limit))


def in_band_refusal(
    reason: Refusal, retry_after: float | None, key: str, subprotocol: str | None
) -> bytes:
    """Return the response that opens a WebSocket, and the close frame that refuses it.

    A browser shows its page nothing of the response to a failed upgrade, but it shows a close.
    """
    return accept_response(key, subprotocol) + _close_frame(reason, retry_after)


def waiting(wait: Wait, terms: Terms) -> Grant | bytes:
    """Return what an attempt gets that waits: a connection, or a response with its ticket."""
    attempt, position = wait
    if isinstance(position, Held):
        who = attempt.identity
        return Grant(
            terms.accept(),
            Lease.unheld(attempt.address, who.user, who.tier, who.priority, who.claims),
            attempt.path,
            terms.subprotocol,
            terms.deflate,
            Admission.WAITING,
            held=position,
            stream_key=terms.stream_key,
        )
    # Who can send the ticket gets it. A page cannot set headers, and reads only a close frame.
    if terms.in_band and terms.attempt.origin is not None:
        return in_band_refusal(WAITING, position.retry_after, terms.key, terms.subprotocol)
    return terms.refused(http_response(*waiting_parts(position)))


def waiting_parts(away: Away) -> Parts:
    """Return status, body and headers of the response that gives a client its ticket."""
    headers = (
        *refusal_headers(WAITING, away.retry_after, None),
        ("X-Queue-Ticket", away.ticket),
        ("X-Queue-Position", str(away.position)),
    )
    return WAITING.status, http_body(WAITING, away.retry_after), headers


def with_fields(response: bytes, fields: bytes) -> bytes:
    """Return a response with more header fields, each of which ends its line."""
    end = response.index(b"\r\n\r\n") + 2
    return response[:end] + fields + response[end:]


def refusal_headers(
    reason: Refusal, retry_after: int | None, limit: int | None
) -> tuple[tuple[str, str], ...]:
    """Return the header fields of a response that refuses."""
    headers = [("X-Rejection-Reason", reason.name), ("Cache-Control", "no-store")]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    if limit is not None:
        headers.append(("X-RateLimit-Limit", str(limit)))
        headers.append(("X-RateLimit-Remaining", "0"))
    return tuple(headers)


# A storm of refusals says the same few things over and over.
@lru_cache(maxsize=512)
def http_refusal(reason: Refusal, retry_after: int | None, limit: int | None) -> bytes:
    """Return the HTTP response that refuses an attempt."""
    return http_response(*refusal_parts(reason, retry_after, limit))


def refusal_parts(reason: Refusal, retry_after: int | None, limit: int | None) -> Parts:
    """Return status, body and headers of the response that refuses an attempt."""
    headers = refusal_headers(reason, retry_after, limit)
    if reason is UNAUTHORIZED:
        headers += _CHALLENGE
    return reason.status, http_body(reason, retry_after), headers


@lru_cache(maxsize=512)
def _close_frame(reason: Refusal, retry_after: float | None) -> bytes:
    return encode_close(reason.code, close_text(reason, retry_after))
