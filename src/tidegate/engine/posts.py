"""An HTTP connection over which clients post messages: requests with a body, one after the other.

It stays open between them, so that a message costs no new connection, nor TLS handshake. It is
counted with the HTTP connections (`engine.streams`), and makes room when it has nothing to do. A
request that is no such message is given back to the listener, as if it were the first.
"""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.engine.later import SERVED_SECONDS
from tidegate.engine.poller import READ, Entry
from tidegate.wire.handshake import HandshakeError, asks_to_close, body_length, parse_request

if TYPE_CHECKING:
    from tidegate.engine.parked import Parking
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket
    from tidegate.wire.handshake import Request

__all__ = ["Posts"]

_READ_BYTES: Final = 65536
_IDLE_SECONDS: Final = 75.0  # longer than browsers and proxies keep a connection that is not used
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_TAKEN: Final = b"HTTP/1.1 2"  # what a response begins with that is no refusal


class Posts(Entry):
    """One such connection.

    Args:
        listener: takes what is no such message.
        peer: the address of the client, behind a PROXY header too.
    """

    __slots__ = (
        "_buffer",
        "_ended",
        "_length",
        "_listener",
        "_peer",
        "_request",
        "_shared",
        "_sock",
    )

    def __init__(self, shared: Shared, listener: Parking, sock: Socket, peer: str) -> None:
        self._shared = shared
        self._listener = listener
        self._sock = sock
        self._peer = peer
        self._buffer = b""
        self._request: Request | None = None  # whose body has not come in whole
        self._length = 0
        self._ended = False

    def begin(self, data: bytes) -> None:
        """Watch the socket, and take what was read already."""
        shared = self._shared
        shared.streams.add(self, self._listener.counted(self._peer))
        shared.poller.register(self._sock.fileno(), self)
        self._take(data)

    # What the poller and the engine call.

    def on_events(self, events: int) -> bool:  # noqa: ARG002 - see the text
        """Read; what the event was shows there."""
        return True

    def on_readable(self) -> None:
        """Take what has come."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._shared.stats.incoming.other_bytes += len(data)
            self._take(data)
        else:
            self.abort()

    def on_crash(self) -> None:
        """End it at once."""
        self.abort()

    def timeout(self) -> None:
        """Nothing came for too long, or not the rest of a request."""
        self.abort()

    def abort(self) -> None:
        """End it at once."""
        if self._leave():
            self._sock.close()

    @property
    def idle(self) -> bool:
        """Whether it has no request under way (`streams.HttpConnection`)."""
        return not self._buffer and self._request is None

    @property
    def kept(self) -> float:
        """What is kept for it, in bytes (`buffers.Holder`)."""
        return len(self._buffer)

    def relieve(self) -> None:
        """Free what is kept for it, and end it (`buffers.Holder`)."""
        self.abort()

    # What is ours.

    def _take(self, data: bytes) -> None:
        new = self.idle
        self._buffer += data
        until = monotonic() + SERVED_SECONDS
        while self._take_one():
            new = True
            if self._buffer and monotonic() >= until:
                self._watch(0)
                self._shared.later.add(self._go_on)
                break
        if self._ended:
            return
        shared = self._shared
        shared.buffers.hold(self, len(self._buffer))
        if new:
            seconds = _IDLE_SECONDS if self.idle else shared.fragment_timeout
            shared.posts.set(self, shared.poller.now + seconds)

    def _go_on(self) -> None:
        """Take the requests that were left over."""
        if not self._ended:
            self._watch(READ)
            self._take(b"")

    def _watch(self, events: int) -> None:
        self._shared.poller.modify(self._sock.fileno(), events)

    def _take_one(self) -> bool:
        """Take one request; False when none is there in whole, or it was the last one."""
        request = self._request or self._take_head()
        if request is None or len(self._buffer) < self._length:
            return False
        self._request = None
        body, self._buffer = self._buffer[: self._length], self._buffer[self._length :]
        response = self._shared.door.posted(request, body, self._peer)
        if request.minor == 0 or not response.startswith(_TAKEN) or asks_to_close(request):
            self._refuse(response)
            return False
        try:
            sent = self._sock.send(response)
        except OSError:
            sent = 0
        self._shared.stats.outgoing.other_bytes += sent
        if sent < len(response):  # it posts, and does not read its answers
            self.abort()
        return not self._ended

    def _take_head(self) -> Request | None:
        """Take the head of the next request, if it is there and a message is in its body."""
        door = self._shared.door
        try:
            request = parse_request(self._buffer, body=True) if self._buffer else None
            if request is None:
                return None
            length = body_length(request.headers)
            most = door.max_body(request.path) if request.method == "POST" else 0
            if not most:
                parse_request(self._buffer)  # raises where it has a body
                self._give_back(request)
                return None
        except HandshakeError as error:
            self._refuse(door.malformed(error, self._peer))
            return None
        if length > most:
            self._refuse(door.posted(request, None, self._peer))
            return None
        self._request, self._length, self._buffer = request, length, request.rest
        request.rest = b""
        # RFC 9110 10.1.1: some clients wait for this before they send a long body.
        if len(self._buffer) < length and "100-continue" in request.headers.get("expect", ""):
            with contextlib.suppress(OSError):
                self._sock.send(_CONTINUE)
        return request

    def _refuse(self, response: bytes) -> None:
        """Send the last response."""
        if self._leave():
            self._listener.refuse(self._sock, response, self._peer)

    def _give_back(self, request: Request) -> None:
        """Let the listener answer a request that is no message."""
        if self._leave():
            self._listener.ask(self._sock, self._peer, request, self._shared.poller.now)

    def _leave(self) -> bool:
        """Leave the socket to others; False when that was so already."""
        if self._ended:
            return False
        self._ended = True
        self._buffer = b""
        self._request = None
        shared = self._shared
        shared.buffers.hold(self, 0)
        shared.posts.discard(self)
        shared.streams.remove(self)
        shared.poller.release(self._sock.fileno())
        return True
