"""One admitted connection: what is known of it, sending, receiving and closing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.engine.outbox import DISCARD, Outbox, Sink
from tidegate.engine.poller import READ, WRITE
from tidegate.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    ProtocolError,
    Reader,
    apply_mask,
    encode,
    encode_close,
)

if TYPE_CHECKING:
    from tidegate.core.attempt import Lease
    from tidegate.engine.engine import Engine
    from tidegate.wire.deflate import Deflate
    from tidegate.wire.handshake import Request

__all__ = ["RECEIVE_BYTES", "Connection", "Socket"]

RECEIVE_BYTES = 65536

_FRAMES_PER_TURN = 64
_READ_AHEAD = 65536
_ABORTED = (1006, "", "aborted")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close with RST

# States, in the order in which a connection goes through them.
_OPENING, _OPEN, _CLOSING, _FAILED, _CLOSED = range(5)

# Why a connection does not take the next message just now. Reading goes on for a little while
# (so that pongs, closes and resets are seen) and then stops until the handler has caught up.
_BUSY = 1  # an async handler is at work
_BACKLOG = 2  # many small frames came at once; the rest waits for the next turn


class Socket(Sink, Protocol):
    """What a connection needs of its socket, plain or TLS."""

    def recv(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, or none at the end of the stream."""

    def shutdown(self, how: int, /) -> None:
        """Half-close."""

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        """Set an option."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


class Connection:
    """An open WebSocket connection.

    Made by the engine for every admitted attempt and given to the application's handlers. All
    methods belong to the loop's thread and return at once; none raises because the peer is gone.

    Frames go to ``sink``: the socket itself, the outbox while bytes wait, or nowhere once a close
    frame is out. So sending to many is a loop over ``sink.send`` without a question asked.
    """

    __slots__ = (
        "__weakref__",
        "_close",
        "_held",
        "_outbox",
        "_paused",
        "_reader",
        "_sock",
        "_state",
        "beat",
        "context",
        "deflate",
        "engine",
        "last_active",
        "last_seen",
        "lease",
        "number",
        "opened_at",
        "path",
        "pending_auth",
        "rooms",
        "sink",
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
        self.engine = engine
        self._sock = sock
        self.sink: Sink = sock
        self.number = number
        """Counts connections of this process from 1; never used twice."""
        self.lease = lease
        self.path = path
        self.subprotocol = subprotocol
        self.deflate = deflate
        self.pending_auth = pending_auth
        """True until a connection that was let in without a token has shown one."""
        self.opened_at = self.last_seen = self.last_active = engine.poller.now
        self.rooms: tuple[str, ...] = ()
        self.context: Any = None
        """Free for the application."""
        self.beat = -1
        self._outbox: Outbox | None = None
        self._reader: Reader | None = None
        self._state = _OPENING
        self._held = 0
        self._paused = False
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

    @property
    def open(self) -> bool:
        """True while messages can be sent."""
        return self._state <= _OPEN

    @property
    def closed(self) -> bool:
        """True once the socket is gone."""
        return self._state == _CLOSED

    @property
    def buffered(self) -> int:
        """Bytes that wait because the peer does not read."""
        return self._outbox.size if self._outbox is not None else 0

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.address}>"

    # Sending.

    def send(self, message: str | bytes) -> None:
        """Send a text (``str``) or binary (``bytes``) message.

        What the peer does not take at once waits in the outbox; a peer that lets more than
        ``outbox.max_bytes`` wait is closed. On a connection that is closing or closed this does
        nothing.
        """
        if self._state > _OPEN:
            return
        if type(message) is str:
            payload, opcode = message.encode(), TEXT
        else:
            payload, opcode = bytes(message), BINARY  # type: ignore[arg-type]
        deflate = self.deflate
        if deflate is not None and len(payload) >= self.engine.deflate_min_size:
            frame = encode(opcode, deflate.compress(payload), True)
        else:
            frame = encode(opcode, payload)
        self.transmit(frame)
        stats = self.engine.stats
        stats.messages_sent += 1
        stats.size_sent.observe(len(payload))

    def transmit(self, frame: bytes) -> None:
        """Send an already encoded frame (or several, joined)."""
        size = len(frame)
        self.engine.stats.bytes_sent += size
        try:
            sent = self.sink.send(frame)
        except BlockingIOError:
            self.hold_back(frame, 0)
        except OSError:
            self.lost("reset")
        else:
            if sent != size:
                self.hold_back(frame, sent)

    def hold_back(self, frame: bytes, sent: int) -> None:
        """Keep what the socket did not take of ``frame`` and send it when it can."""
        outbox = self._outbox = Outbox(self.engine.outbox_bytes, self._overflow)
        outbox.begin(frame, sent)
        self.sink = outbox
        self._watch()

    def _overflow(self) -> None:
        """The peer is too slow: close it now, without the bytes that it did not take."""
        outbox = self._outbox
        if self.engine.tls is not None or outbox is None:
            # An encrypted record that has begun cannot be taken back, so no close frame fits in.
            self._close = (1006, "", "slow_consumer")
            self.sink = DISCARD
            self.engine.poller.ready.append(self._abort)
            self.engine.poller.wake()
            return
        outbox.keep_begun_frame()
        self._begin_close(4008, "slow consumer", "slow_consumer")

    def _send_control(self, frame: bytes) -> None:
        if self._outbox is None:
            self.transmit(frame)
        elif self._state <= _OPEN:
            self._outbox.urge(frame)

    def ping(self, frame: bytes) -> None:
        """Send the heartbeat's ping frame, ahead of what waits."""
        self._send_control(frame)

    def _watch(self) -> None:
        events = 0 if self._paused else READ
        if self._outbox is not None:
            events |= WRITE
        self.engine.poller.modify(self._sock.fileno(), events)

    # Receiving.

    def on_events(self, events: int) -> None:
        """Write what waits, then read; an error or a hang-up shows itself in reading."""
        if events & WRITE and self._outbox is not None:
            self._flush()
        if events != WRITE and self._state != _CLOSED:
            if self._paused and events & ~(READ | WRITE):
                # Hung up or in error while nobody reads: only its end is left to see.
                self.lost("reset")
            elif not self._paused:
                self.on_readable()

    def on_readable(self) -> None:
        """Read once and handle the frames that are there."""
        if self._held and self._reader is not None and self._reader.pending >= _READ_AHEAD:
            self._paused = True
            self._watch()
            return
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.lost("reset")
            return
        if not data:
            self.lost("eof")
            return
        engine = self.engine
        self.last_seen = engine.poller.now
        size = len(data)
        engine.stats.bytes_received += size
        if self._reader is None and self._state == _OPEN and not self._held:
            # The common case first: one whole, final, small data frame and nothing else.
            first = data[0]
            if (first == 0x81 or first == 0x82) and size > 5:
                length = data[1]
                if length < 254:
                    if size == length - 122:  # 6 bytes of header; the mask bit is 128
                        payload = apply_mask(data[6:], data[2:6])
                        self._deliver(first & 15, payload)
                        return
                elif length == 254 and size > 133 and size == (data[2] << 8 | data[3]) + 8:
                    payload = apply_mask(data[8:], data[4:8])
                    self._deliver(first & 15, payload)
                    return
        self.receive(data)

    def _deliver(self, opcode: int, payload: bytes) -> None:
        """Hand over a message that came alone in its read."""
        if opcode == TEXT:
            try:
                message: str | bytes = payload.decode()
            except UnicodeDecodeError:
                self.fail(1007, "text is not UTF-8")
                return
        else:
            message = payload
        if len(payload) > self.engine.max_message:
            self.fail(1009, "message too big")
            return
        self.engine.stats.size_received.observe(len(payload))
        self._handle(message)

    def _handle(self, message: str | bytes) -> None:
        engine = self.engine
        self.last_active = engine.poller.now
        try:
            result = engine.on_message(self, message)
        except Exception as error:
            self._handler_failed(error)
        else:
            if result is not None and hasattr(result, "__await__"):
                self.run(result)

    def receive(self, data: bytes) -> None:
        """Handle any bytes: parts of frames, several frames, control frames."""
        if self._state == _FAILED:
            return  # whatever still comes after a violation is thrown away
        reader = self._reader
        if reader is None:
            engine = self.engine
            reader = self._reader = Reader(engine.max_message, engine.max_fragments, self.deflate)
        reader.feed(data)
        if not self._held or self._state == _CLOSING:
            self._pump()

    def _pump(self) -> None:
        """Handle whole messages until none is left, or a handler or the turn asks to wait."""
        engine = self.engine
        reader = self._reader
        assert reader is not None
        fragments = engine.fragments
        for _ in range(_FRAMES_PER_TURN):
            try:
                item = reader.next()
            except ProtocolError as error:
                self.fail(error.code, error.message)
                return
            if item is None:
                if reader.idle:
                    self._reader = None
                    fragments.discard(self)
                elif self not in fragments:
                    fragments.set(self, engine.poller.now + engine.fragment_timeout)
                return
            opcode, payload = item
            if opcode <= BINARY:
                fragments.discard(self)
                if self._state != _OPEN:
                    continue  # RFC 6455 1.4: after our close frame, data is read and dropped
                size = len(payload)
                if opcode == TEXT and not payload.isascii():
                    size = len(payload.encode())
                engine.stats.size_received.observe(size)
                self._handle(payload)
            elif opcode == PING:
                if self._state <= _OPEN:
                    self._send_control(encode(PONG, payload))
            elif opcode == PONG:
                engine.on_pong(payload)
            elif opcode == CLOSE:
                self._peer_closed(*payload)
            if self._state >= _FAILED or (self._held and self._state <= _OPEN):
                return
        self._held |= _BACKLOG
        engine.poller.ready.append(self._go_on)

    def _go_on(self) -> None:
        """Take up the frames that were left over."""
        self._held &= ~_BACKLOG
        if self._state >= _FAILED or (self._held and self._state <= _OPEN):
            return
        if self._reader is not None:
            self._pump()
        if self._paused and not self._held & _BACKLOG and self._state != _CLOSED:
            self._paused = False
            self._watch()

    # Async handlers: one at a time, and nothing is read meanwhile.

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run an async handler; messages that follow wait until it is done."""
        self._held |= _BUSY
        task = self.engine.start_task(self._supervise(work))
        task.add_done_callback(self._handler_done)

    async def _supervise(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:
            self._handler_failed(error)

    def _handler_done(self, task: asyncio.Task[None]) -> None:
        self._held &= ~_BUSY
        if self._state == _CLOSED:
            self._announce_close()
            return
        if task.cancelled():
            self._begin_close(1011, "internal error", "handler_error")
        elif self._state == _OPENING:
            self._state = _OPEN
        # Not called at once: a chain of short handlers must not become a deep stack.
        self.engine.poller.ready.append(self._go_on)
        self.engine.poller.wake()

    def _handler_failed(self, error: Exception) -> None:
        self.engine.on_error(self, error)
        self._begin_close(1011, "internal error", "handler_error")

    # Opening.

    def start(self, response: bytes, request: Request, registered: bool) -> None:
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
        if self._state == _CLOSED:  # the handler aborted it
            if awaitable and hasattr(work, "close"):
                work.close()
            return
        if self.sink is first:
            self.sink = self._sock
        data = first.take()
        failed = False
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            failed = True
            sent = len(data)
        # Registered even when that failed, so that every end takes the same way.
        fd = self._sock.fileno()
        if registered:
            engine.poller.table[fd] = self
        else:
            engine.poller.register(fd, self)
        engine.heartbeat.add(self, engine.poller.now)
        if sent != len(data):
            closing = self._close is not None
            self.hold_back(data, sent)
            if closing:
                self.sink = DISCARD
        if self._state == _OPENING and awaitable:
            self.run(work)
        elif self._state == _OPENING:
            self._state = _OPEN
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
            code: 1000 to 1014 (not 1004 to 1006) or 3000 to 4999, RFC 6455 7.4.
            reason: at most 123 bytes of UTF-8 are sent, the rest is cut off.
            cause: what the statistics count this end as.

        Raises:
            UsageError: the code may not be sent.
        """
        if self._state <= _OPEN:
            self._begin_close(code, reason, cause)

    def fail(self, code: int, reason: str) -> None:
        """Close because the peer broke the protocol (RFC 6455 7.1.7)."""
        if self._state >= _FAILED:
            return
        causes = {1007: "invalid_data", 1008: "policy", 1009: "message_too_big"}
        self._begin_close(code, reason, causes.get(code, "protocol_error"))
        if self._state == _CLOSED:
            return
        self._state = _FAILED
        self._reader = None
        self.engine.fragments.discard(self)
        if self._outbox is None:
            self._half_close()

    def _begin_close(self, code: int, reason: str, cause: str) -> None:
        if self._state > _OPEN:
            return
        frame = encode_close(code, reason)
        self._close = (code, reason, cause)
        self._state = _CLOSING
        if self._outbox is not None:
            self._outbox.push(frame)
        else:
            self.transmit(frame)
        if self._state == _CLOSED:
            return
        self.sink = DISCARD
        engine = self.engine
        engine.closing.set(self, engine.poller.now + engine.close_timeout)
        if self._held:
            # The peer's answer must be read even while a handler is still at work.
            engine.poller.ready.append(self._go_on)
            engine.poller.wake()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def _peer_closed(self, code: int, reason: str) -> None:
        """The peer's close frame came: answer it, or be done when it is the answer to ours."""
        if self._state <= _OPEN:
            # 1005: the peer gave no code, so there is none to send back (RFC 6455 7.1.5).
            frame = encode_close(code) if code != 1005 else encode(CLOSE, b"")
            self._close = (code, reason, "normal")
            self._state = _CLOSING
            if self._outbox is not None:
                self._outbox.push(frame)
                self.sink = DISCARD
                self._state = _FAILED  # nothing more is read; the flush ends it
                self.engine.closing.set(self, self.engine.poller.now + self.engine.close_timeout)
                return
            self.transmit(frame)
            if self._reader is not None and self._reader.pending:
                # Closing over unread bytes would reset the connection and lose the answer.
                self._state = _FAILED
                self.sink = DISCARD
                self._half_close()
                self.engine.closing.set(self, self.engine.poller.now + self.engine.close_timeout)
                return
        self._finish()

    def _flush(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        try:
            done = outbox.flush(self._sock)
        except OSError:
            self.lost("reset")
            return
        if not done:
            return
        self._outbox = None
        if self.sink is outbox:
            self.sink = self._sock
        self._watch()
        if self._state == _FAILED:
            self._half_close()

    def closing_timeout(self) -> None:
        """The peer did not finish the closing handshake in time."""
        self._abort()

    def fragment_timeout(self) -> None:
        """A message was begun and not finished in time."""
        self.fail(1008, "message took too long")

    def dead(self) -> None:
        """The peer answers no ping (or cannot, because we do not read: then it gets time)."""
        if self._paused:
            self.last_seen = self.engine.poller.now
            self.engine.heartbeat.add(self, self.last_seen)
            return
        self._close = (1006, "", "heartbeat_timeout")
        self._abort()

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
        if self._state == _CLOSED:
            return
        # RST, so that the kernel does not keep bytes that nobody will read.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._finish()

    def _finish(self) -> None:
        """Give everything back. The one place where a connection ends, and it ends once."""
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        self.sink = DISCARD
        self._outbox = None
        self._reader = None
        engine = self.engine
        engine.poller.forget(self._sock.fileno())
        self._sock.close()
        engine.gone(self, (self._close or _ABORTED)[2])
        if not self._held & _BUSY:
            # Not called at once: this may be inside one of the application's own handlers.
            engine.poller.ready.append(self._announce_close)
            engine.poller.wake()

    def _announce_close(self) -> None:
        """Tell the application, after its last handler is done."""
        code, reason, _ = self._close or _ABORTED
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
