"""The admin listener's HTTP, with bounds on all that a client can make it hold.

uvicorn bounds neither a request's head nor the number of connections nor the time until a request
has come. Here all three are bounded before anything looks at a token, because every client that
reaches the port can send bytes to it:

    connected --head--> asking --response--> connected
        |  10 s            |  60 s, with all that is to be read
        +---- or closed ---+
"""

from __future__ import annotations

from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade
from msgspec import json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tidegate.server.requests import MAX_BODY

__all__ = ["MAX_HEAD", "BadRequests", "BoundedHttp"]

MAX_HEAD: Final = 32 * 1024
"""The largest head of a request with its trailer, in bytes."""

_MAX_FIELDS: Final = 128
# A body in pieces of one byte takes six times its size (RFC 9112, section 7.1).
_MAX_REQUEST: Final = MAX_HEAD + 8 * MAX_BODY
_HEAD_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 60.0


class _HeadTooLargeError(Exception):
    """A head, with its trailer, is larger than it may be."""


class BadRequests:
    """How many requests were no valid HTTP, or too large. They are counted, and not logged."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        """Count one."""
        self.count += 1


class BoundedHttp(HttpToolsProtocol):
    """One connection to the admin listener.

    Args:
        bad: counts the requests that are refused here.
        most: how many connections there may be. One more ends the one that has waited longest
            without a request; where all have one, it is closed itself.
    """

    def __init__(self, *args: Any, most: int, bad: BadRequests, **options: Any) -> None:
        super().__init__(*args, **options)
        self.access_log = False  # uvicorn's own switch would silence an application's too
        self._bad = bad
        self._most = most
        self._received = 0
        self._head = 0
        self._asking = False
        self._ended = False
        self._since = self.loop.time()
        self._timer: TimerHandle | None = None

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        """Take a connection, in place of another where there are too many."""
        super().connection_made(transport)
        self._wait(_HEAD_SECONDS)
        if len(self.connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, up to what a request may have. What is wrong is answered, and not logged."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            return  # it is answered as if it had not asked for one
        except HttpParserError as error:
            if isinstance(error.__context__, _HeadTooLargeError):
                self._refuse_head()
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "this is not a valid HTTP request")
            return
        # The parser keeps what it has not told yet, such as a value that goes on and on.
        if not self._asking and self._received > MAX_HEAD:
            self._refuse_head()
        elif self._received > _MAX_REQUEST:
            said = f"the body is larger than {MAX_BODY:,} bytes"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._received = 0
        self._head = 0
        self._asking = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Some of the request target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of a trailer."""
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD or len(self.headers) >= _MAX_FIELDS:
            raise _HeadTooLargeError

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._asking = True
        self._received = 0
        self._wait(_ANSWER_SECONDS)
        super().on_headers_complete()

    # What the response calls.

    def on_response_complete(self) -> None:
        """All was written, and may not have been read."""
        super().on_response_complete()
        self._since = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        self._wait(_ANSWER_SECONDS if unread or self.pipeline else _HEAD_SECONDS)

    # Ends.

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> None:
        idle = [
            other
            for other in self.connections
            if isinstance(other, BoundedHttp)
            and other is not self
            and other._idle
            and not other._ended
        ]
        oldest = min(idle, key=lambda other: other._since, default=self)
        oldest._drop()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._drop)

    def _drop(self) -> None:
        self._ended = True
        self.transport.abort()

    def _refuse_head(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the head is larger than {MAX_HEAD:,} bytes or has more than {_MAX_FIELDS} fields",
        )

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._bad.add()
        self._ended = True
        if self._idle or not self.cycle.response_started:
            body = json.encode({"error": text})
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\n"
                + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
                + body
            )
        if not self._idle:
            self.cycle.disconnected = True  # what it writes would come behind this
            self.cycle.message_event.set()
        self.transport.close()
