"""The fallback for networks that break WebSockets: one stream of events, and messages by POST.

    GET     an attempt like any other. If the gate admits it, its response is the stream.
    POST    messages of the client, with the key that the stream began with. They are answered on
            the stream, in the order of everything else there.
    DELETE  the client leaves. When its stream just ends, it may want to resume its session.

A page of another origin reads the responses if it may connect at all: CORS says that to browsers.
"""

from __future__ import annotations

from random import random
from time import time
from typing import TYPE_CHECKING, Final, Protocol

from tidegate.core.codes import (
    BAD_REQUEST,
    BODY_TOO_LARGE,
    METHOD_NOT_ALLOWED,
    NORMAL,
    ORIGIN,
    POSTS_WAIT,
    UNKNOWN_STREAM,
    Refusal,
    http_body,
)
from tidegate.gate.decision import OpeningRequest
from tidegate.gate.tokens import token_of
from tidegate.node.rendering import StreamTerms, refusal_headers, with_fields
from tidegate.wire.codecs import MessageError
from tidegate.wire.events import EVENTS_V1, KEY_HEADER, split_posted
from tidegate.wire.handshake import http_response, is_upgrade

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.engine.door import Grant, Undecided
    from tidegate.gate.decision import Decision, Pending
    from tidegate.gate.gate import Gate
    from tidegate.node.event_streams import EventStreams
    from tidegate.node.rendering import Terms
    from tidegate.wire.handshake import Request

__all__ = ["Fallback"]

_ALLOWED: Final = (("Allow", "GET, POST, DELETE, OPTIONS"),)
_PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: GET, POST, DELETE\r\n"
    b"Access-Control-Allow-Headers: Authorization, Cache-Control, Content-Type, Last-Event-ID,"
    b" X-Queue-Ticket, X-Stream-Key\r\n"
    b"Access-Control-Max-Age: 7200\r\n"
)
_EXPOSED: Final = (
    b"Access-Control-Expose-Headers: Retry-After, X-Queue-Position, X-Queue-Ticket,"
    b" X-Rejection-Reason\r\n"
)
_NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n"
_CLOSE: Final = b"Connection: close\r\n"
_RETRY_MILLISECONDS: Final = (1000, 4000)  # at least, and at most so much more, by chance


class Door(Protocol):
    """What it needs of the door of all attempts."""

    def client(self, request: Request, peer: str) -> str:
        """Return the client's own address, behind trusted proxies."""

    def render(
        self, decision: Decision | Pending, terms: Terms, wall: float
    ) -> Grant | bytes | Undecided:
        """Return a decision as the engine wants it."""

    def undecidable(self, error: Exception, terms: Terms) -> bytes:
        """Log why a decision failed, and return the refusal."""


class Fallback:
    """Answers the requests at one path.

    Args:
        most: how many bytes may be posted in one request.
        door: renders the decisions of the gate.
    """

    def __init__(
        self,
        settings: Settings,
        gate: Gate,
        streams: EventStreams,
        most: int,
        door: Door,
    ) -> None:
        self.path = settings.server.sse
        self.most = most
        self._gate = gate
        self._posts = streams.posts
        self._streams = streams
        self._door = door
        self._secure = settings.tls.certificate is not None
        self._query_token = settings.auth.query_token

    def answers(self, request: Request) -> bool:
        """Whether a request is for it."""
        return request.path == self.path and not is_upgrade(request)

    def open(self, request: Request, peer: str, now: float) -> Grant | bytes | Undecided:
        """Return a stream, or the response that refuses it; answer preflights of browsers."""
        if request.method == "POST":
            return self.posted(request, b"", peer)
        fields = self._fields(request, peer)
        if request.method == "OPTIONS" and fields is not None:
            return _NO_CONTENT + _CLOSE + fields + _PREFLIGHT + b"\r\n"
        if request.method == "DELETE" and fields is not None:
            return self._leave(request, fields)
        if request.method != "GET" or fields is None:
            reason = METHOD_NOT_ALLOWED if fields is not None else ORIGIN
            return _refusal(reason, fields or b"", "")
        headers = request.headers
        attempt = OpeningRequest(
            self._door.client(request, peer),
            request.path,
            headers["host"],
            self._secure,
            headers.get("origin"),
            token_of(headers, (), request.query, query_allowed=self._query_token),
            headers.get("x-queue-ticket"),
            True,
            headers,
            request.query,
            headers.get("last-event-id"),
        )
        wall = time()
        low, more = _RETRY_MILLISECONDS
        terms = StreamTerms(
            attempt,
            self._streams.new_key(),
            EVENTS_V1,
            None,
            None,
            False,
            request,
            wall,
            fields,
            low + round(more * random()),  # noqa: S311 - it spreads browsers that come back
        )
        try:
            decision = self._gate.decide(attempt, now, wall)
        except Exception as error:
            return self._door.undecidable(error, terms)
        return self._door.render(decision, terms, wall)

    def posted(self, request: Request, body: bytes | None, peer: str) -> bytes:
        """Hand over the messages that were posted; a body that was too large is None."""
        response = self._take(request, body, peer)
        if isinstance(response, bytes):
            self._posts["taken"] += 1
            return response
        self._posts["refused"] += 1
        return _refusal(*response)

    def _take(
        self, request: Request, body: bytes | None, peer: str
    ) -> bytes | tuple[Refusal, bytes, str]:
        fields = self._fields(request, peer)
        if fields is None:
            return ORIGIN, b"", ""
        if body is None:
            return BODY_TOO_LARGE, fields, f"at most {self.most} bytes"
        stream = self._streams.find(request.headers.get(KEY_HEADER, ""))
        if stream is None:
            return UNKNOWN_STREAM, fields, ""
        try:
            messages = split_posted(body) if body else []
        except MessageError as error:
            return BAD_REQUEST, fields, error.message
        if not messages:
            return BAD_REQUEST, fields, "there is no message in the body"
        if not stream.post(messages):
            return POSTS_WAIT, fields, ""
        return b"%b%b\r\n" % (_NO_CONTENT, fields)

    def _leave(self, request: Request, fields: bytes) -> bytes:
        stream = self._streams.find(request.headers.get(KEY_HEADER, ""))
        if stream is None:
            return _refusal(UNKNOWN_STREAM, fields, "")
        stream.close(NORMAL.code)
        return _NO_CONTENT + _CLOSE + fields + b"\r\n"

    def _fields(self, request: Request, peer: str) -> bytes | None:
        """Return the fields that let a page read the response; None if it may not connect."""
        headers = request.headers
        origin = headers.get("origin")
        if origin is None:
            # Another site's page can ask without an origin, for an image, say.
            return None if headers.get("sec-fetch-site") == "cross-site" else b""
        address = self._door.client(request, peer)
        if self._gate.page_problem(origin, headers["host"], address, secure=self._secure):
            return None
        return (
            b"Access-Control-Allow-Origin: %b\r\n"
            b"Access-Control-Allow-Credentials: true\r\n"
            b"Vary: Origin\r\n"
            b"%b" % (origin.encode("latin-1"), _EXPOSED)
        )


def _refusal(reason: Refusal, fields: bytes, detail: str) -> bytes:
    headers = refusal_headers(reason, reason.retry_after, None)
    if reason is METHOD_NOT_ALLOWED:
        headers += _ALLOWED
    body = http_body(reason, reason.retry_after, detail)
    return with_fields(http_response(reason.status, body, headers), fields)
