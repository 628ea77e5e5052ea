"""One connection: what is known of it, how it opens, and how it ends."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import (
    ABORTED,
    BUFFERS_FULL,
    HEARTBEAT_TIMEOUT,
    NORMAL,
    UPGRADE_FAILED,
    Close,
    Refusal,
    close_text,
)
from tidegate.engine.outbox import DISCARD, Sink
from tidegate.engine.receiving import Receiver
from tidegate.engine.sockets import Socket
from tidegate.engine.states import CLOSED, CLOSING, ENDING, OPEN, Admission
from tidegate.engine.tasks import is_awaitable
from tidegate.wire.frames import encode_close

if TYPE_CHECKING:
    from tidegate.engine.door import Grant
    from tidegate.engine.shared import Shared
    from tidegate.wire.handshake import Request

__all__ = ["Connection"]

_SMALL_REST = 65536  # of a frame that has begun, to be sent before a close frame
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close with RST


class Connection(Receiver):
    """An open WebSocket connection.

    Made by the engine for every grant and given to the application. All methods belong to the
    loop's thread and return at once; none raises because the peer is gone.

    It is one object with slots, in four files: the way out (`sending`), the handlers at work for it
    (`handling`), the way in (`receiving`) and its life (here). Its states are in `states`.
    """

    __slots__ = (
        "__weakref__",
        "_end",
        "admission",
        "beat",
        "context",
        "lease",
        "number",
        "opened_at",
        "path",
        "rooms",
        "subprotocol",
    )

    def __init__(self, shared: Shared, sock: Socket, number: int, grant: Grant) -> None:
        super().__init__(shared, sock, grant.deflate)
        self.number = number
        """Counts connections of this process from 1; used twice only to resume a session."""
        self.lease = grant.lease
        self.path = grant.path
        self.subprotocol = grant.subprotocol
        self.admission = grant.admission
        self.opened_at = self.last_seen
        self.rooms: tuple[str, ...] = ()
        self.context = grant.context
        """Free for the application."""
        self.beat = -1
        # Code, text and reason of the end, known from the first sign of it on.
        self._end: tuple[int, str, Refusal | Close] | None = None

    # What is known of it.

    @property
    def id(self) -> str:
        """A name that is unique across nodes and restarts."""
        names = self.shared.names
        if names and self.number in names:
            return names[self.number]
        return f"{self.shared.name}-{self.number:x}"

    def rename(self, id: str) -> None:  # noqa: A002
        """Give it the id that it had at another node, as long as this number is in use."""
        self.shared.names[self.number] = id

    @property
    def address(self) -> str:
        """The client's IP address, as far as trusted proxies tell."""
        return self.lease.address

    @property
    def user(self) -> str | None:
        """The authenticated user, None for an anonymous connection."""
        return self.lease.user

    @property
    def tier(self) -> str | None:
        """The user's tier, None without one."""
        return self.lease.tier

    @property
    def ending(self) -> Refusal | Close | None:
        """Why it ends, from the first sign of it until the application was told."""
        return None if self._end is None else self._end[2]

    @property
    def transport(self) -> str:
        """How messages come and go: `websocket` or `sse`."""
        return "websocket"

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.address}>"

    # Opening.

    def start(self, response: bytes, request: Request) -> None:
        """Answer the handshake, tell the application, and take up early frames.

        The 101 and whatever a plain `Application.opened` sends go out in one system call.
        """
        shared = self.shared
        first = _Collector(response)
        self.sink = first
        work: Any = None
        try:
            if self.admission is Admission.WAITING:
                shared.host.waits(self)
            else:
                work = shared.application.opened(self, request)
        except Exception as error:
            self._handler_failed(error)
        awaitable = is_awaitable(work)
        if self._state is CLOSED:  # the application aborted it
            if awaitable and hasattr(work, "close"):
                work.close()
            return
        if self.sink is first:
            self.sink = self.sock
        data = first.take()
        failed = False
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            failed = True
            sent = len(data)
        # Registered even when that failed, so that every end takes the same way.
        shared.poller.register(self.sock.fileno(), self)
        shared.heartbeat.add(self, shared.poller.now)
        if sent != len(data):
            closing = self._end is not None
            self.hold_back(data, sent)
            if closing:
                self.sink = DISCARD
        if awaitable and self._state is OPEN:
            self.run(work)
        elif awaitable and hasattr(work, "close"):
            work.close()  # never started, and never will be
        if failed:
            self.lost(UPGRADE_FAILED)
        elif request.rest:
            self.receive(request.rest)

    # Closing.

    def close(self, code: int = NORMAL.code, text: str = "", reason: Close = NORMAL) -> None:
        """Start the closing handshake for the application; what was sent before still goes out.

        Args:
            code: 1000 to 1014 (not 1004 or 1006) or 3000 to 4999, RFC 6455 7.4; 1005 sends none.
            text: at most 123 bytes of UTF-8 are sent, the rest is cut off.
            reason: what it is counted as.

        Raises:
            UsageError: the code may not be sent.
        """
        self._begin_close(code, text, reason)

    def end(
        self, reason: Refusal | Close, retry_after: float | None = None, detail: str = ""
    ) -> None:
        """Start the closing handshake for a reason of ours, in the one format of these.

        Args:
            reason: a row of the table of reasons whose code may be sent.
            retry_after: seconds after which the client may come back; None for the usual ones.
            detail: what exactly is wrong; nothing that the peer sent.
        """
        delay = reason.retry_after if retry_after is None else retry_after
        self._begin_close(reason.code, close_text(reason, delay, detail), reason)

    def fail(self, reason: Close, detail: str = "") -> None:
        """Close because the peer broke the protocol (RFC 6455 7.1.7) or a rule of this server."""
        if self._is_over():
            return
        self.end(reason, None, detail)
        if self._state is CLOSED:
            return
        self._move(ENDING)
        self._reader = None
        self._count_held()
        self.shared.fragments.discard(self)
        if self._outbox is None:
            self._half_close()

    def _begin_close(self, code: int, text: str, reason: Refusal | Close) -> None:
        self._uncork()  # which may find that the peer is gone
        shared = self.shared
        if not self.open:
            shared.leftover.drop(self)
            return
        self._send_last(encode_close(code, text), (code, text, reason))
        if self.closed:
            return
        self.sink = DISCARD
        shared.closing.set(self, shared.poller.now + shared.close_timeout)
        if self._held:
            # The peer's answer must be read even while a handler is still at work.
            shared.poller.ready.append(self._go_on)
            shared.poller.wake()

    def _send_last(self, frame: bytes, end: tuple[int, str, Refusal | Close]) -> None:
        """Send a close frame, behind all that waits."""
        self._end = end
        self._move(CLOSING)
        if self._outbox is not None:
            self._outbox.push(frame)
        else:
            self.transmit(frame)

    def _peer_closed(self, code: int, text: str) -> None:
        """The peer's close frame came: answer it, or be done when it is the answer to ours."""
        self._uncork()
        if self._state is OPEN:
            self._cancel_handler()
            # The same code, or none (RFC 6455 7.1.5).
            self._send_last(encode_close(code), (code, text, NORMAL))
        if self._outbox is None:
            self._finish()
            return
        # What waits goes out first. Nothing more is read, and the flush ends the connection.
        self.sink = DISCARD
        self._move(ENDING)
        shared = self.shared
        shared.closing.set(self, shared.poller.now + shared.close_timeout)

    def closing_timeout(self) -> None:
        """The peer did not finish the closing handshake in time."""
        self.abort()

    def dead(self) -> None:
        """The peer answers no ping (or cannot, because we do not read: then it gets time)."""
        if self._paused:
            self.last_seen = self.shared.poller.now
            self.shared.heartbeat.add(self, self.last_seen)
            return
        self._end = (HEARTBEAT_TIMEOUT.code, "", HEARTBEAT_TIMEOUT)
        self._cancel_handler()
        self.abort()

    def _give_up(self, reason: Close) -> None:
        self._end = (ABORTED.code, "", reason)
        self.sink = DISCARD
        self.shared.poller.ready.append(self.abort)
        self.shared.poller.wake()

    def relieve(self) -> None:
        """Free what is kept for it, and close it for that (`buffers.Holder`)."""
        outbox = self._outbox
        if outbox is not None:
            outbox.keep_begun_frame()
        if self._state is OPEN and (
            outbox is None or (self.shared.tls is None and outbox.size <= _SMALL_REST)
        ):
            self.fail(BUFFERS_FULL)
            return
        # No close frame fits in, or was taken.
        if self._end is None:
            self._end = (ABORTED.code, "", BUFFERS_FULL)
        self.abort()

    def lost(self, reason: Close) -> None:
        """The socket ended without a closing handshake."""
        if self._end is None:
            self._end = (reason.code, "", reason)
            self._cancel_handler()
        self._finish()

    def on_crash(self) -> None:
        """End the connection at once."""
        self.abort()

    def abort(self) -> None:
        """End the connection at once, without a closing handshake."""
        if self._state is CLOSED:
            self.shared.leftover.drop(self)
            return
        # RST, so that the kernel does not keep bytes that nobody will read.
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._finish()

    def divert(self, sink: Sink) -> None:
        """Give what rooms send to a connection that has ended to somebody else."""
        assert self._state is CLOSED
        self.sink = sink

    def _finish(self) -> None:
        """Give everything back. The one place where a connection ends, and it ends once."""
        if self._state is CLOSED:
            return
        self._move(CLOSED)
        self.sink = DISCARD
        if self._outbox is not None:
            self._outbox.discard()
            self._outbox = None
            self.shared.application.drained(self)
        self._reader = None
        self._count_held()
        end = self._end = self._end or (ABORTED.code, "", ABORTED)
        shared = self.shared
        shared.poller.forget(self.sock.fileno())
        self.sock.close()
        shared.heartbeat.remove(self)
        shared.closing.discard(self)
        shared.fragments.discard(self)
        shared.slow.discard(self)
        if shared.deferred:
            shared.deferred.pop(self, None)
        if shared.ends and (future := shared.ends.pop(self, None)) is not None:
            future.set_result(None)
        shared.stats.duration.observe(shared.poller.now - self.opened_at)
        shared.stats.close_codes[end[0]] += 1
        shared.host.gone(self, end[2])
        # Not called at once: this may be inside one of the application's own handlers.
        shared.poller.ready.append(self._announce_close)
        shared.poller.wake()

    def _announce_close(self) -> None:
        """Tell the application, once; while messages are handled, their end tells."""
        if self.busy or self._end is None or self in self.shared.leftover:
            return
        code, text, _ = self._end
        self._end = None
        shared = self.shared
        try:
            work = shared.application.closed(self, code, text)
        except Exception as error:
            shared.host.failed(self, error)
            return
        if is_awaitable(work):
            shared.tasks.start_guarded(work, self._closed_failed)

    def _closed_failed(self, error: Exception) -> None:
        self.shared.host.failed(self, error)


class _Collector:
    """Gathers the first frames behind the handshake's answer."""

    __slots__ = ("_parts",)

    def __init__(self, response: bytes) -> None:
        self._parts = [response]

    def send(self, data: bytes, /) -> int:
        self._parts.append(data)
        return len(data)

    def take(self) -> bytes:
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)
