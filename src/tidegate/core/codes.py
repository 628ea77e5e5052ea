"""The one table of reasons: why an attempt is refused, a connection ends or a message is not taken.

Every code and text that Tidegate sends for one of these comes from here: HTTP refusals, close
frames, errors in-band, labels of metrics, the reference page and `codes.json`. Three kinds:

- `Refusal`: an attempt does not become a connection. It has an HTTP status, and a close code for
  clients that are told in-band: a browser cannot read the status of a failed upgrade. The close
  code also ends a connection that was open before the decision was made.
- `Close`: a connection ends.
- `Fault`: one message is not taken; the connection stays open.

Close codes below 3000 are those of RFC 6455 section 7.4.1 and the IANA registry (1012, "Service
Restart"; 1013, "Try Again Later"). Our own are from the range that section 7.4.2 leaves to
applications, and say what a client that knows no reasons does next: after 4000 to 4499 it may come
back, after 4500 to 4999 it must not come back by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar, final

__all__ = [
    "ABORTED",
    "ALREADY_AUTHENTICATED",
    "AUTH_TIMEOUT",
    "BACKPLANE_DOWN",
    "BAD_REQUEST",
    "BODY_TOO_LARGE",
    "BREAKER",
    "BROADCAST_OFF",
    "BUFFERS_FULL",
    "COMPRESSION_RATIO",
    "DECISION_TIMEOUT",
    "DISCONNECTED",
    "DRAINED",
    "DRAINING",
    "EOF",
    "FLEET_DOWN",
    "FLEET_LIMIT",
    "FORBIDDEN",
    "HANDLER_ERROR",
    "HANDSHAKE_TIMEOUT",
    "HEADERS_TOO_LARGE",
    "HEARTBEAT_TIMEOUT",
    "HOOK_FAILED",
    "HTTP_VERSION",
    "IDLE_TIMEOUT",
    "INTERNAL_ERROR",
    "INVALID_DATA",
    "INVALID_FIELD",
    "INVALID_JSON",
    "INVALID_MSGPACK",
    "INVALID_PROTOBUF",
    "INVALID_TOKEN",
    "IP_LIMIT",
    "KEYS_UNAVAILABLE",
    "KICKED",
    "LEASE_LOST",
    "MESSAGE_ABUSE",
    "MESSAGE_RATE",
    "MESSAGE_TOO_BIG",
    "METHOD_NOT_ALLOWED",
    "NORMAL",
    "NOT_ADMITTED",
    "NOT_ALLOWED",
    "NOT_AUTHENTICATED",
    "NOT_FOUND",
    "NOT_JOINED",
    "NO_HISTORY",
    "NO_PRESENCE",
    "ORIGIN",
    "OVERLOADED",
    "PENDING_LIMIT",
    "POLICY",
    "POSTS_WAIT",
    "PROTOCOL_ERROR",
    "QUEUE_FULL",
    "RATE_LIMITED",
    "REASONS",
    "REBALANCED",
    "REFUSED",
    "REMOVED",
    "RESET",
    "ROOM_FULL",
    "ROOM_LIMIT",
    "ROOM_RATE",
    "ROOM_USER_LIMIT",
    "SERVER_LIMIT",
    "SHED",
    "SHEDDING",
    "SHUTDOWN",
    "SLOW_CONSUMER",
    "TIER_LIMIT",
    "TOKEN_EXPIRED",
    "TOKEN_REVOKED",
    "TOKEN_UNCHECKED",
    "TOO_BIG",
    "TOO_MANY_ROOMS",
    "TOO_MANY_USER_ROOMS",
    "UNANSWERED",
    "UNAUTHORIZED",
    "UNKNOWN_STREAM",
    "UNKNOWN_TYPE",
    "UPGRADE_FAILED",
    "UPGRADE_REQUIRED",
    "USER_LIMIT",
    "USUAL_DELAYS",
    "WAITING",
    "WAIT_TIMEOUT",
    "Close",
    "Fault",
    "Reason",
    "Refusal",
    "close_text",
    "http_body",
    "is_own_code",
]


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an attempt does not become a connection.

    ``status`` is the HTTP status, ``code`` the close code for clients that are told in-band.
    ``retry_after`` is the usual delay in seconds before the client comes back by itself; None
    means that it should not. ``message`` is for people and safe to show to the peer.
    """

    name: str
    status: int
    code: int
    retry_after: int | None
    message: str


@final
@dataclass(frozen=True, slots=True)
class Close:
    """Why a connection ends.

    A ``code`` of 1006 is never sent (RFC 6455 7.4.1): it is what the program at the other end
    sees when the connection just ends. ``retry_after`` and ``message`` are as in `Refusal`.
    """

    name: str
    code: int
    retry_after: int | None
    message: str


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message is not taken. ``retry_after`` and ``message`` are as in `Refusal`."""

    name: str
    retry_after: int | None
    message: str


Reason: TypeAlias = Refusal | Close | Fault

_R = TypeVar("_R", Refusal, Close, Fault)
_rows: dict[str, Reason] = {}


def _row(reason: _R) -> _R:
    _rows[reason.name] = reason
    return reason


# Refusals: an attempt does not become a connection.
SERVER_LIMIT: Final = _row(Refusal("server_limit", 503, 1013, 5, "The server is full"))
IP_LIMIT: Final = _row(Refusal("ip_limit", 429, 1013, 10, "Too many connections from this address"))
USER_LIMIT: Final = _row(Refusal("user_limit", 429, 1013, 10, "Too many connections of this user"))
TIER_LIMIT: Final = _row(Refusal("tier_limit", 429, 1013, 10, "Too many connections of this tier"))
FLEET_LIMIT: Final = _row(Refusal("fleet_limit", 503, 1013, 5, "All servers are full"))
FLEET_DOWN: Final = _row(
    Refusal("fleet_down", 503, 1013, 5, "The limits of the fleet cannot be checked at present")
)
ROOM_FULL: Final = _row(Refusal("room_full", 503, 4002, 10, "The room is full"))
QUEUE_FULL: Final = _row(
    Refusal("queue_full", 503, 1013, 60, "The server and its waiting room are full")
)
WAITING: Final = _row(
    Refusal(
        "waiting",
        503,
        1013,
        5,
        "The server is full; come back with the ticket to keep the position",
    )
)
WAIT_TIMEOUT: Final = _row(Refusal("wait_timeout", 503, 1013, 5, "No capacity became free in time"))
RATE_LIMITED: Final = _row(
    Refusal("rate_limited", 503, 1013, 5, "Too many new connections; come back at the time given")
)
SHEDDING: Final = _row(Refusal("shedding", 503, 1013, 10, "The server is overloaded"))
BREAKER: Final = _row(
    Refusal("breaker", 503, 1013, 10, "The server is out of rotation for a while")
)
DRAINING: Final = _row(Refusal("draining", 503, 1013, 5, "The server is going away"))
UNAUTHORIZED: Final = _row(Refusal("unauthorized", 401, 4501, None, "A valid token is needed"))
FORBIDDEN: Final = _row(Refusal("forbidden", 403, 4503, None, "This client may not connect here"))
ORIGIN: Final = _row(Refusal("origin", 403, 1008, None, "This origin is not allowed"))
BAD_REQUEST: Final = _row(Refusal("bad_request", 400, 1002, None, "The request is not valid"))
NOT_FOUND: Final = _row(Refusal("not_found", 404, 1008, None, "There is nothing at this path"))
METHOD_NOT_ALLOWED: Final = _row(
    Refusal("method_not_allowed", 405, 1002, None, "This method is not served at this path")
)
HANDSHAKE_TIMEOUT: Final = _row(
    Refusal("handshake_timeout", 408, 1008, None, "The request did not arrive in time")
)
UPGRADE_REQUIRED: Final = _row(
    Refusal(
        "upgrade_required",
        426,
        1002,
        None,
        "Only WebSocket connections, version 13, are served here",
    )
)
HEADERS_TOO_LARGE: Final = _row(
    Refusal("headers_too_large", 431, 1009, None, "The headers are too large")
)
UNKNOWN_STREAM: Final = _row(
    Refusal("unknown_stream", 404, 1008, None, "No stream has this key; open a new one")
)
BODY_TOO_LARGE: Final = _row(
    Refusal("body_too_large", 413, 1009, None, "The body of the request is too large")
)
POSTS_WAIT: Final = _row(
    Refusal("posts_wait", 429, 1013, 1, "Messages that were posted before wait to be handled")
)
HTTP_VERSION: Final = _row(Refusal("http_version", 505, 1002, None, "Only HTTP/1.1 is served here"))
PENDING_LIMIT: Final = _row(
    Refusal("pending_limit", 503, 1013, 5, "Too many attempts wait for a decision")
)
DECISION_TIMEOUT: Final = _row(
    Refusal("decision_timeout", 503, 1013, 5, "The decision took too long")
)
HOOK_FAILED: Final = _row(
    Refusal("hook_failed", 503, 1013, 5, "The application cannot be asked at present")
)
KEYS_UNAVAILABLE: Final = _row(
    Refusal("keys_unavailable", 503, 1013, 5, "The token cannot be checked at present")
)
INTERNAL_ERROR: Final = _row(Refusal("internal_error", 500, 1011, 5, "The server failed"))

# Closes: a connection ends.
NORMAL: Final = _row(Close("normal", 1000, None, ""))
IDLE_TIMEOUT: Final = _row(Close("idle_timeout", 1000, None, "No message came for a long time"))
SHUTDOWN: Final = _row(Close("shutdown", 1001, 5, "The server is going away"))
SHED: Final = _row(Close("shed", 1001, 60, "The server is shedding load"))
DRAINED: Final = _row(Close("drained", 1012, 5, "The server is going away"))
LEASE_LOST: Final = _row(
    Close("lease_lost", 1012, 5, "The server could not reach the others for too long")
)
PROTOCOL_ERROR: Final = _row(Close("protocol_error", 1002, None, "Protocol error"))
INVALID_DATA: Final = _row(Close("invalid_data", 1007, None, "The text is not valid UTF-8"))
POLICY: Final = _row(Close("policy", 1008, None, "Not allowed here"))
MESSAGE_ABUSE: Final = _row(Close("message_abuse", 1008, None, "Too many messages, too often"))
COMPRESSION_RATIO: Final = _row(
    Close("compression_ratio", 1008, None, "The message is compressed too much")
)
MESSAGE_TOO_BIG: Final = _row(Close("message_too_big", 1009, None, "The message is too big"))
HANDLER_ERROR: Final = _row(Close("handler_error", 1011, 5, "The server failed"))
TOKEN_EXPIRED: Final = _row(Close("token_expired", 4501, None, "The token has expired"))
TOKEN_REVOKED: Final = _row(Close("token_revoked", 4501, None, "The token was revoked"))
AUTH_TIMEOUT: Final = _row(Close("auth_timeout", 4501, None, "No token arrived in time"))
KICKED: Final = _row(Close("kicked", 4500, None, "Disconnected by the operator"))
DISCONNECTED: Final = _row(
    Close("disconnected", 4009, 5, "Disconnected by the operator; the client may come back")
)
REBALANCED: Final = _row(Close("rebalanced", 4010, 1, "Another server has more room; come back"))
SLOW_CONSUMER: Final = _row(Close("slow_consumer", 4008, 5, "Messages were not read fast enough"))
BUFFERS_FULL: Final = _row(
    Close("buffers_full", 1013, 10, "The server keeps too much that was not read or not finished")
)

# Ends without a close frame from this side.
HEARTBEAT_TIMEOUT: Final = _row(Close("heartbeat_timeout", 1006, 1, "The peer stopped answering"))
RESET: Final = _row(Close("reset", 1006, 1, "The peer reset the connection"))
EOF: Final = _row(Close("eof", 1006, 1, "The peer left without a close frame"))
UPGRADE_FAILED: Final = _row(Close("upgrade_failed", 1006, 1, "The upgrade could not be sent"))
ABORTED: Final = _row(Close("aborted", 1006, 1, "The connection was dropped"))

# In-band errors: one message is not taken; the connection stays open.
ROOM_LIMIT: Final = _row(Fault("room_limit", None, "The room is full"))
TOO_MANY_ROOMS: Final = _row(
    Fault("too_many_rooms", None, "This connection is in as many rooms as it may be")
)
TOO_MANY_USER_ROOMS: Final = _row(
    Fault("too_many_user_rooms", None, "This user is in as many rooms as it may be")
)
ROOM_USER_LIMIT: Final = _row(
    Fault("room_user_limit", None, "Too many connections of this user are in the room")
)
INVALID_JSON: Final = _row(Fault("invalid_json", None, "The message is not valid JSON"))
INVALID_MSGPACK: Final = _row(
    Fault("invalid_msgpack", None, "The message is not valid MessagePack")
)
INVALID_PROTOBUF: Final = _row(Fault("invalid_protobuf", None, "The message is not valid Protobuf"))
UNKNOWN_TYPE: Final = _row(Fault("unknown_type", None, "There is no such type of message"))
INVALID_FIELD: Final = _row(Fault("invalid_field", None, "A field is missing or not valid"))
TOO_BIG: Final = _row(Fault("too_big", None, "The message is too big"))
REMOVED: Final = _row(
    Fault("removed", None, "The server has taken this connection out of the room")
)
NOT_JOINED: Final = _row(Fault("not_joined", None, "Join the room first"))
NO_HISTORY: Final = _row(Fault("no_history", None, "This room keeps no history"))
NO_PRESENCE: Final = _row(Fault("no_presence", None, "This room does not show who is there"))
NOT_AUTHENTICATED: Final = _row(Fault("not_authenticated", None, "Authenticate first"))
NOT_ADMITTED: Final = _row(Fault("not_admitted", None, "Wait to be admitted first"))
NOT_ALLOWED: Final = _row(
    Fault("not_allowed", None, "Neither the token nor the rules of the room allow that")
)
ALREADY_AUTHENTICATED: Final = _row(
    Fault("already_authenticated", None, "This connection belongs to another user")
)
INVALID_TOKEN: Final = _row(
    Fault("invalid_token", None, "The token is not valid; the one before stays in force")
)
TOKEN_UNCHECKED: Final = _row(
    Fault("token_unchecked", 5, "The token cannot be checked at present; the one before stays")
)
REFUSED: Final = _row(Fault("refused", None, "The application does not allow it"))
UNANSWERED: Final = _row(Fault("unanswered", 5, "The application cannot be asked at present"))
MESSAGE_RATE: Final = _row(Fault("message_rate", 1, "Too many messages; wait a moment"))
ROOM_RATE: Final = _row(Fault("room_rate", 1, "Too many messages to this room; wait a moment"))
BROADCAST_OFF: Final = _row(
    Fault("broadcast_off", 10, "Messages to rooms are off while the server is overloaded")
)
BACKPLANE_DOWN: Final = _row(
    Fault("backplane_down", 1, "The server cannot reach the others at present; try again")
)
OVERLOADED: Final = _row(Fault("overloaded", 1, "The server has too much to send; try again"))

REASONS: Final[Mapping[str, Reason]] = MappingProxyType(_rows)
"""Every row by its name, in the order of this file."""

USUAL_DELAYS: Final[Mapping[int, int | None]] = MappingProxyType(
    {
        row.code: row.retry_after
        for row in reversed(_rows.values())
        if not isinstance(row, Fault) and row.code != ABORTED.code
    }
)
"""Seconds after which a client comes back that got a close code and no reason; None for never.

The first row with a code gives its delay, so a row that is added later changes no client.
"""

_CLOSE_BYTES: Final = 123  # what a control frame has room for beside the code (RFC 6455 5.5.1)


def is_own_code(code: int) -> bool:
    """Whether an application may close with a code (RFC 6455 7.4.2): 1000, or 3000 to 4999."""
    return code == NORMAL.code or 3000 <= code <= 4999


# A storm of refusals says the same few things over and over; the bound is for delays that vary.
@lru_cache(maxsize=512)
def close_text(reason: Refusal | Close, retry_after: float | None, detail: str = "") -> str:
    """The reason of a close frame, always in this form: compact JSON of at most 123 bytes.

    ``retry_after`` is in seconds; None (null) tells the client not to come back by itself.
    ``detail`` says more exactly what is wrong; it is cut where it does not fit in.
    """
    said: dict[str, str | float | None] = {"error": reason.name, "retryAfter": retry_after}
    text = _compact({**said, "detail": detail} if detail else said)
    while (over := len(text) - _CLOSE_BYTES) > 0:
        detail = detail[: -max(1, over // 6)]  # JSON writes a character in at most six
        text = _compact({**said, "detail": detail})
    return text


@lru_cache(maxsize=512)
def http_body(reason: Refusal, retry_after: float | None, detail: str = "") -> bytes:
    """The JSON body of an HTTP refusal.

    Args:
        reason: a row of the table.
        retry_after: in seconds, or None (null) for never.
        detail: what exactly is wrong; nothing that the peer sent.
    """
    body = {"error": reason.name, "message": reason.message, "retryAfter": retry_after}
    if detail:
        body["detail"] = detail
    return _compact(body).encode()


def _compact(value: dict[str, str | float | None]) -> str:
    return json.dumps(value, separators=(",", ":"))
