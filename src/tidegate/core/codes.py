"""The one table of reasons: why an attempt is refused, a connection closed or a message not taken.

Each row says what the peer is told over HTTP, what it is told in a close frame, and whether and
when it may come back by itself. HTTP refusals, close frames, labels of metrics, the reference page
and the behaviour of the clients all come from here.

A browser cannot read the HTTP status of a failed upgrade, which is why a refusal has a close code
as well. Close codes below 3000 are those of RFC 6455 section 7.4.1 and the IANA registry (1012,
"Service Restart"; 1013, "Try Again Later"); 4001 and 4008 are of the range that section 7.4.2
leaves to applications.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

__all__ = [
    "ABORTED",
    "ALREADY_AUTHENTICATED",
    "AUTH_TIMEOUT",
    "BAD_REQUEST",
    "BREAKER",
    "BROADCAST_OFF",
    "DRAINED",
    "DRAINING",
    "EOF",
    "HANDLER_ERROR",
    "HANDSHAKE_TIMEOUT",
    "HEADERS_TOO_LARGE",
    "HEARTBEAT_TIMEOUT",
    "HTTP_VERSION",
    "IDLE_TIMEOUT",
    "INTERNAL_ERROR",
    "INVALID_DATA",
    "INVALID_FIELD",
    "INVALID_JSON",
    "IP_LIMIT",
    "MESSAGE_ABUSE",
    "MESSAGE_RATE",
    "MESSAGE_TOO_BIG",
    "METHOD_NOT_ALLOWED",
    "NORMAL",
    "NOT_ADMITTED",
    "NOT_AUTHENTICATED",
    "NOT_FOUND",
    "NOT_JOINED",
    "ORIGIN",
    "OVERLOADED",
    "POLICY",
    "PROTOCOL_ERROR",
    "QUEUE_FULL",
    "RATE_LIMITED",
    "REASONS",
    "RESET",
    "ROOM_LIMIT",
    "SERVER_LIMIT",
    "SHED",
    "SHEDDING",
    "SHUTDOWN",
    "SLOW_CONSUMER",
    "TIER_LIMIT",
    "TOKEN_EXPIRED",
    "TOO_BIG",
    "TOO_MANY_ROOMS",
    "UNAUTHORIZED",
    "UNKNOWN_TYPE",
    "UPGRADE_FAILED",
    "UPGRADE_REQUIRED",
    "USER_LIMIT",
    "WAITING",
    "WAIT_TIMEOUT",
    "Reason",
    "close_reason",
    "http_body",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table.

    ``http`` is the status that refuses an attempt, ``close`` the code of the close frame; None
    where the reason is never told in that way. A ``close`` of 1006 is never sent (RFC 6455
    7.4.1): it is what the program at the other end sees when the connection just ends.
    ``retry_after`` is the usual delay in seconds before the client comes back by itself; None
    means that it should not. ``message`` is for people and safe to show to the peer.
    """

    name: str
    http: int | None
    close: int | None
    retry_after: int | None
    message: str


_rows: dict[str, Reason] = {}


def _row(
    name: str, http: int | None, close: int | None, retry_after: int | None, message: str
) -> Reason:
    return _rows.setdefault(name, Reason(name, http, close, retry_after, message))


# Refusals: an attempt does not become a connection.
SERVER_LIMIT: Final = _row("server_limit", 503, 1013, 5, "The server is full")
IP_LIMIT: Final = _row("ip_limit", 429, 1013, 10, "Too many connections from this address")
USER_LIMIT: Final = _row("user_limit", 429, 1013, 10, "Too many connections of this user")
TIER_LIMIT: Final = _row("tier_limit", 429, 1013, 10, "Too many connections of this tier")
QUEUE_FULL: Final = _row("queue_full", 503, 1013, 60, "The server and its waiting room are full")
WAITING: Final = _row(
    "waiting", 503, None, 5, "The server is full; come back with the ticket to keep the place"
)
WAIT_TIMEOUT: Final = _row("wait_timeout", 503, 1013, 5, "No place became free in time")
RATE_LIMITED: Final = _row(
    "rate_limited", 503, 1013, 5, "Too many new connections; come back at the time given"
)
SHEDDING: Final = _row("shedding", 503, 1013, 10, "The server is overloaded")
BREAKER: Final = _row("breaker", 503, 1013, 10, "The server is out of rotation for a while")
DRAINING: Final = _row("draining", 503, 1013, 5, "The server is going away")
UNAUTHORIZED: Final = _row("unauthorized", 401, 4001, None, "A valid token is needed")
ORIGIN: Final = _row("origin", 403, 1008, None, "This origin is not allowed")
BAD_REQUEST: Final = _row("bad_request", 400, None, None, "The request is not valid")
NOT_FOUND: Final = _row("not_found", 404, None, None, "There is nothing at this path")
METHOD_NOT_ALLOWED: Final = _row(
    "method_not_allowed", 405, None, None, "A WebSocket is opened with GET"
)
HANDSHAKE_TIMEOUT: Final = _row(
    "handshake_timeout", 408, None, None, "The request did not arrive in time"
)
UPGRADE_REQUIRED: Final = _row(
    "upgrade_required", 426, None, None, "Only WebSocket connections, version 13, are served here"
)
HEADERS_TOO_LARGE: Final = _row("headers_too_large", 431, None, None, "The headers are too large")
HTTP_VERSION: Final = _row("http_version", 505, None, None, "Only HTTP/1.1 is served here")
INTERNAL_ERROR: Final = _row("internal_error", 500, 1011, 5, "The server failed")

# Closes: a connection ends. The message is the text of the close frame.
NORMAL: Final = _row("normal", None, 1000, None, "")
IDLE_TIMEOUT: Final = _row("idle_timeout", None, 1000, None, "Idle timeout")
SHUTDOWN: Final = _row("shutdown", None, 1001, 5, "The server is going away")
SHED: Final = _row("shed", None, 1001, 60, "Server shedding load")
DRAINED: Final = _row("drained", None, 1012, 5, "The server is going away")
PROTOCOL_ERROR: Final = _row("protocol_error", None, 1002, None, "Protocol error")
INVALID_DATA: Final = _row("invalid_data", None, 1007, None, "The text is not valid UTF-8")
POLICY: Final = _row("policy", None, 1008, None, "Not allowed here")
MESSAGE_ABUSE: Final = _row("message_abuse", None, 1008, None, "Too many messages, too often")
MESSAGE_TOO_BIG: Final = _row("message_too_big", None, 1009, None, "The message is too big")
HANDLER_ERROR: Final = _row("handler_error", None, 1011, 5, "The server failed")
TOKEN_EXPIRED: Final = _row("token_expired", None, 4001, None, "token expired")
AUTH_TIMEOUT: Final = _row("auth_timeout", None, 4001, None, "no token arrived in time")
SLOW_CONSUMER: Final = _row("slow_consumer", None, 4008, 5, "Messages were not read fast enough")

# Ends without a close frame from this side.
HEARTBEAT_TIMEOUT: Final = _row("heartbeat_timeout", None, 1006, 1, "The peer stopped answering")
RESET: Final = _row("reset", None, 1006, 1, "The peer reset the connection")
EOF: Final = _row("eof", None, 1006, 1, "The peer left without a close frame")
UPGRADE_FAILED: Final = _row("upgrade_failed", None, 1006, 1, "The upgrade could not be sent")
ABORTED: Final = _row("aborted", None, 1006, 1, "The connection was dropped")

# In-band errors: one message is not taken; the connection stays open.
ROOM_LIMIT: Final = _row("room_limit", 403, None, None, "The room is full")
TOO_MANY_ROOMS: Final = _row(
    "too_many_rooms", None, None, None, "This connection is in as many rooms as it may be"
)
INVALID_JSON: Final = _row("invalid_json", None, None, None, "The message is not valid JSON")
UNKNOWN_TYPE: Final = _row("unknown_type", None, None, None, "There is no such type of message")
INVALID_FIELD: Final = _row("invalid_field", None, None, None, "A field is missing or not valid")
TOO_BIG: Final = _row("too_big", None, None, None, "The message is too big")
NOT_JOINED: Final = _row("not_joined", None, None, None, "Join the room first")
NOT_AUTHENTICATED: Final = _row("not_authenticated", None, None, None, "Authenticate first")
NOT_ADMITTED: Final = _row("not_admitted", None, None, None, "Wait to be let in first")
ALREADY_AUTHENTICATED: Final = _row(
    "already_authenticated", None, None, None, "This connection is authenticated already"
)
MESSAGE_RATE: Final = _row("message_rate", None, None, 1, "Too many messages; wait a moment")
BROADCAST_OFF: Final = _row(
    "broadcast_off", None, None, 10, "Messages to rooms are off while the server is overloaded"
)
OVERLOADED: Final = _row("overloaded", None, None, 1, "The server has too much to send; try again")

REASONS: Final[Mapping[str, Reason]] = MappingProxyType(_rows)
"""Every row by its name, in the order of this file."""


# A storm of refusals says the same few things over and over; the bound is for delays that vary.
@lru_cache(maxsize=512)
def close_reason(reason: Reason, retry_after: float | None) -> str:
    """The text of a close frame that refuses in-band: compact JSON of at most 123 bytes.

    That is what a control frame has room for beside the code (RFC 6455 5.5.1).
    ``retry_after`` is in seconds; None (null) tells the client not to come back by itself.
    """
    return _compact({"error": reason.name, "retryAfter": retry_after})


@lru_cache(maxsize=512)
def http_body(reason: Reason, retry_after: float | None) -> bytes:
    """The JSON body of an HTTP refusal; ``retry_after`` in seconds, or None (null) for never."""
    body = {"error": reason.name, "message": reason.message, "retryAfter": retry_after}
    return _compact(body).encode()


def _compact(value: dict[str, str | float | None]) -> str:
    return json.dumps(value, separators=(",", ":"))
