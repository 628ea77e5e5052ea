"""A connection whose messages go out as server-sent events, and come in with other requests.

To the application it is a connection like any other. Only what crosses the wire is different:

- Its response has no end, and a message is an event in it. Fan-out gives it frames of its own
  subprotocol, which are encoded once for all members, as those of WebSockets are.
- Nothing comes in on its socket but the end. What its client posts is given to `post`.
- Nobody answers a ping. A comment is sent instead, and the peer's kernel acknowledges it, or not.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.core.codes import EOF, NORMAL, PROTOCOL_ERROR, Close, Refusal, close_text
from tidegate.engine.connection import Connection
from tidegate.engine.handling import BACKLOG
from tidegate.engine.later import SERVED_SECONDS
from tidegate.engine.outbox import DISCARD
from tidegate.engine.states import CLOSED, ENDING, OPEN
from tidegate.wire.events import KEEPALIVE, closed_event, encode_event
from tidegate.wire.frames import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.engine.door import Grant
    from tidegate.engine.sending import Message
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket

__all__ = ["EventStream"]

_NO_FRAMES: Final = 8  # in `_held`: what comes in on the socket is no frame of WebSocket
_OVERHEAD: Final = 64  # of a message that waits, beside its text
_READ_AHEAD: Final = 65536

# tcpi_bytes_acked of tcp_info(7): how much the peer has acknowledged, since Linux 4.1.
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")


class EventStream(Connection):
    """A connection that is a stream of events."""

    __slots__ = ("_acknowledged", "_event_id", "_posted", "_posted_bytes", "key")

    def __init__(self, shared: Shared, sock: Socket, number: int, grant: Grant) -> None:
        super().__init__(shared, sock, number, grant)
        assert grant.stream_key is not None
        self.key = grant.stream_key
        """With which its client posts messages. It is a secret."""
        self._held |= _NO_FRAMES
        self._posted: deque[str] | None = None
        self._posted_bytes = 0
        self._event_id = ""
        self._acknowledged = -1

    @property
    def transport(self) -> str:
        """How messages come and go."""
        return "sse"

    # The way out.

    def send(self, message: Message) -> None:
        """Send a text as one event.

        Raises:
            TypeError: it is not a text.
        """
        if not isinstance(message, str):
            raise TypeError(f"an event must be str, not {type(message).__name__}")
        if self._state is not OPEN:
            return
        payload = message.encode()
        event_id, self._event_id = self._event_id, ""
        self.shared.stats.outgoing.others.observe(len(payload))
        self.transmit(encode_event(payload, event_id))

    def mark(self, event_id: str) -> None:
        """Give the next message that is sent an id, which a browser shows when it comes back."""
        self._event_id = event_id

    def ping_now(self) -> None:
        """Send a comment. Its answer is the peer's kernel's, and nothing is measured."""
        self.ping(KEEPALIVE)

    def ping(self, frame: bytes) -> None:  # noqa: ARG002 - it is the frame of WebSockets
        """Send a comment, and see later whether it has arrived."""
        self._acknowledged = _acknowledged(self.sock)
        self._send_control(KEEPALIVE)

    def dead(self) -> None:
        """End it, unless the peer has taken something since the last comment."""
        acknowledged = _acknowledged(self.sock)
        if acknowledged >= 0 and acknowledged == self._acknowledged:
            super().dead()
            return
        self.last_seen = self.shared.poller.now
        self.shared.heartbeat.add(self, self.last_seen)

    # The way in.

    def take(self, data: bytes) -> None:
        """Handle what was read on the socket: its end, or what must not come."""
        if self._state is CLOSED:
            return
        if data:
            self.shared.stats.incoming.other_bytes += len(data)
            self.receive(data)
        else:
            self.lost(EOF)

    def receive(self, data: bytes) -> None:  # noqa: ARG002 - whatever it is
        """End it: nothing may follow its request."""
        self.fail(PROTOCOL_ERROR, "messages are posted, and not sent on the stream")

    def post(self, messages: Iterable[str]) -> bool:
        """Handle messages that its client has posted; False when too many wait already."""
        if self._state is not OPEN:
            return True  # as of a WebSocket that is closing, which reads and drops them
        if self._posted_bytes >= _READ_AHEAD:
            return False
        self.last_seen = self.shared.poller.now
        if self._posted is None:
            self._posted = deque()
        for message in messages:
            self._posted.append(message)
            self._posted_bytes += len(message) + _OVERHEAD
        if self._held == _NO_FRAMES:
            self._handle_posted()
        self._count_held()
        return True

    def _take_up(self) -> None:
        self._held &= ~BACKLOG
        if self._held == _NO_FRAMES and self._state is OPEN and self._posted is not None:
            self._handle_posted()
            self._count_held()

    def _handle_posted(self) -> None:
        """Handle messages until none is left, or a handler or the time asks to wait."""
        posted = self._posted
        until = monotonic() + SERVED_SECONDS
        while posted:
            message = posted.popleft()
            self._posted_bytes -= len(message) + _OVERHEAD
            self._handle(TEXT, message)
            if self._state is not OPEN:
                break
            if self._held != _NO_FRAMES:
                return
            if monotonic() >= until and posted:
                self._later()
                return
        self._posted = None
        self._posted_bytes = 0

    def _count_held(self) -> None:
        self.shared.buffers.hold(self, self._posted_bytes)

    # Its end.

    def close(self, code: int = NORMAL.code, text: str = "", reason: Close = NORMAL) -> None:
        """End it for the application; what was sent before still goes out.

        Args:
            code: as of a WebSocket.
            text: what the client is told; at most 123 bytes.
            reason: what it is counted as.
        """
        self._end_stream(code, text, reason, None)

    def end(
        self, reason: Refusal | Close, retry_after: float | None = None, detail: str = ""
    ) -> None:
        """End it for a reason of ours, as `Connection.end` does."""
        delay = reason.retry_after if retry_after is None else retry_after
        self._end_stream(reason.code, close_text(reason, delay, detail), reason, delay)

    def fail(self, reason: Close, detail: str = "") -> None:
        """End it because the client broke a rule."""
        self.end(reason, None, detail)

    def _end_stream(
        self, code: int, text: str, reason: Refusal | Close, retry: float | None
    ) -> None:
        self._uncork()
        if self._state is not OPEN:
            return
        self._posted = None
        self._posted_bytes = 0
        self._count_held()
        self._send_last(closed_event(code, text, retry), (code, text, reason))
        if self.closed:
            return
        self._move(ENDING)
        self.sink = DISCARD
        shared = self.shared
        shared.closing.set(self, shared.poller.now + shared.close_timeout)
        if self._outbox is None:
            self._half_close()

    def _finish(self) -> None:
        self._posted = None
        self._posted_bytes = 0
        super()._finish()


def _acknowledged(sock: Socket) -> int:
    """How many bytes the peer has acknowledged; -1 where the system does not say."""
    if _TCP_INFO is None:
        return -1
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKNOWLEDGED.size)
    except OSError:
        return -1
    if len(info) < _ACKNOWLEDGED.size:
        return -1
    (count,) = _ACKNOWLEDGED.unpack(info)
    return int(count)
