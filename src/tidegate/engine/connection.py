"""One admitted connection: what is known of it, how it opens, and how it ends."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

from tidegate.engine.outbox import DISCARD
from tidegate.engine.receiving import Receiver
from tidegate.engine.sending import CLOSED, CLOSING, FAILED, OPEN, OPENING, Socket
from tidegate.wire.frames import encode_close

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.engine.engine import Engine
    from tidegate.wire.deflate import Deflate
    from tidegate.wire.handshake import Request

__all__ = ["Connection"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close with RST


class Connection(Receiver):
    """An open WebSocket connection.

    Made by the engine for every admitted attempt and given to the application's handlers. All
    methods belong to the loop's thread and return at once; none raises because the peer is gone.

    It is one object with slots, in three files: the way out (:mod:`.sending`), the way in
    (:mod:`.receiving`) and its life (here).
    """

    __slots__ = (
        "__weakref__",
        "_close",
        "beat",
        "context",
        "lease",
        "number",
        "opened_at",
        "path",
        "pending_auth",
        "rooms",
        "subprotocol",
    )

    def __init__(
        self,
        engine: Engine,
        sock: Socket,
        number: int,
        lease: Lease,
        path: str,
        subprotocol: str | None,
        deflate: Deflate | None,
        pending_auth: bool,
    ) -> None:
        super().__init__(engine, sock, deflate)
        self.number = number
        """Counts connections of this process from 1; never used twice."""
        self.lease = lease
        self.path = path
        self.subprotocol = subprotocol
        self.pending_auth = pending_auth
        """True until a connection that was let in without a token has shown one."""
        self.opened_at = self.last_seen
        self.rooms: tuple[str, ...] = ()
        self.context: Any = None
        """Free for the application."""
        self.beat = -1
        # Code, reason and cause of the end, known from the first sign of it on.
        self._close: tuple[int, str, str] | None = None

    # What is known of it.

    @property
    def id(self) -> str:
        """A name that is unique across nodes and restarts."""
        return f"{self.engine.name}-{self.number:x}"

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

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.address}>"

    # Opening.

    def start(self, response: bytes, request: Request) -> None:
        """Answer the handshake, call the connect handler and take up early frames.

        The 101 and whatever a plain handler sends go out in one system call.
        """
        engine = self.engine
        first = _Collector(response)
        self.sink = first
        work: Any = None
        try:
            work = engine.on_connect(self, request)
        except Exception as error:
            self._handler_failed(error)
        awaitable = work is not None and hasattr(work, "__await__")
        if self._state == CLOSED:  # the handler aborted it
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
        engine.poller.register(self.sock.fileno(), self)
        engine.heartbeat.add(self, engine.poller.now)
        if sent != len(data):
            closing = self._close is not None
            self.hold_back(data, sent)
            if closing:
                self.sink = DISCARD
        if self._state == OPENING and awaitable:
            self.run(work)
        elif self._state == OPENING:
            self._state = OPEN
        elif awaitable and hasattr(work, "close"):
            work.close()  # never started, and never will be
        if failed:
            self.lost("upgrade_failed")
        elif request.rest:
            self.receive(request.rest)

    # Closing.

    def close(self, code: int = 1000, reason: str = "", cause: str = "normal") -> None:
        """Start the closing handshake; messages sent before still go out first.

        Args:
            code: 1000 to 1014 (not 1004 or 1006) or 3000 to 4999, RFC 6455 7.4; 1005 sends none.
            reason: at most 123 bytes of UTF-8 are sent, the rest is cut off.
            cause: what the statistics count this end as.

        Raises:
            UsageError: the code may not be sent.
        """
        if self._state <= OPEN:
            self._begin_close(code, reason, cause)

    def fail(self, code: int, reason: str, cause: str | None = None) -> None:
        """Close because the peer broke the protocol (RFC 6455 7.1.7) or a rule of this server."""
        if self._state >= FAILED:
            return
        causes = {1007: "invalid_data", 1008: "policy", 1009: "message_too_big"}
        self._begin_close(code, reason, cause or causes.get(code, "protocol_error"))
        if self._state == CLOSED:
            return
        self._state = FAILED
        self._reader = None
        self.engine.fragments.discard(self)
        if self._outbox is None:
            self._half_close()

    def _begin_close(self, code: int, reason: str, cause: str) -> None:
        self._uncork()
        if self._state > OPEN:
            return
        frame = encode_close(code, reason)
        self._close = (code, reason, cause)
        self._state = CLOSING
        if self._outbox is not None:
            self._outbox.push(frame)
        else:
            self.transmit(frame)
        if self._state == CLOSED:
            return
        self.sink = DISCARD
        engine = self.engine
        engine.closing.set(self, engine.poller.now + engine.close_timeout)
        if self._held:
            # The peer's answer must be read even while a handler is still at work.
            engine.poller.ready.append(self._go_on)
            engine.poller.wake()

    def _peer_closed(self, code: int, reason: str) -> None:
        """The peer's close frame came: answer it, or be done when it is the answer to ours."""
        self._uncork()
        if self._state <= OPEN:
            frame = encode_close(code)  # the same code, or none (RFC 6455 7.1.5)
            self._close = (code, reason, "normal")
            self._state = CLOSING
            if self._outbox is not None:
                self._outbox.push(frame)
            else:
                self.transmit(frame)
        if self._outbox is None:
            self._finish()
            return
        # What waits goes out first. Nothing more is read, and the flush ends the connection.
        self.sink = DISCARD
        self._state = FAILED
        self.engine.closing.set(self, self.engine.poller.now + self.engine.close_timeout)

    def closing_timeout(self) -> None:
        """The peer did not finish the closing handshake in time."""
        self._abort()

    def dead(self) -> None:
        """The peer answers no ping (or cannot, because we do not read: then it gets time)."""
        if self._paused:
            self.last_seen = self.engine.poller.now
            self.engine.heartbeat.add(self, self.last_seen)
            return
        self._close = (1006, "", "heartbeat_timeout")
        self._abort()

    def _give_up(self, cause: str) -> None:
        self._close = (1006, "", cause)
        self.sink = DISCARD
        self.engine.poller.ready.append(self._abort)
        self.engine.poller.wake()

    def lost(self, cause: str) -> None:
        """The socket ended without a closing handshake."""
        if self._close is None:
            self._close = (1006, "", cause)
        self._finish()

    def on_crash(self) -> None:
        """End the connection at once."""
        self._abort()

    def abort(self) -> None:
        """End the connection at once, without a closing handshake."""
        self._abort()

    def _abort(self) -> None:
        if self._state == CLOSED:
            return
        # RST, so that the kernel does not keep bytes that nobody will read.
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._finish()

    def _finish(self) -> None:
        """Give everything back. The one place where a connection ends, and it ends once."""
        if self._state == CLOSED:
            return
        self._state = CLOSED
        self.sink = DISCARD
        self._outbox = None
        self._reader = None
        self._close = self._close or (1006, "", "aborted")
        engine = self.engine
        engine.poller.forget(self.sock.fileno())
        self.sock.close()
        engine.gone(self, self._close[2])
        # Not called at once: this may be inside one of the application's own handlers.
        engine.poller.ready.append(self._announce_close)
        engine.poller.wake()

    def _announce_close(self) -> None:
        """Tell the application, once; while a handler is at work, its end tells."""
        if self.busy or self._close is None:
            return
        code, reason, _ = self._close
        self._close = None
        self.engine.announce_close(self, code, reason)


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
