"""The way out of a connection: its socket, or the outbox while the socket takes no more."""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from tidegate.core.stats import SMALL
from tidegate.engine.outbox import LOOKS, Outbox, Sink
from tidegate.engine.poller import READ, WRITE
from tidegate.wire.frames import BINARY, BINARY_HEADS, TEXT, TEXT_HEADS, encode

if TYPE_CHECKING:
    from tidegate.engine.engine import Engine
    from tidegate.wire.deflate import Deflate

__all__ = ["CLOSED", "CLOSING", "FAILED", "OPEN", "OPENING", "Sender", "Socket"]

# The states of a connection, in the order in which it goes through them.
OPENING, OPEN, CLOSING, FAILED, CLOSED = range(5)


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


class Sender(ABC):
    """The sending half of a connection.

    Frames go to ``sink``: the socket itself, the outbox while bytes wait, or nowhere once a close
    frame is out. So sending to many is a loop over ``sink.send`` without a question asked.
    """

    __slots__ = ("_outbox", "_paused", "_sock", "_state", "deflate", "engine", "sink")

    def __init__(self, engine: Engine, sock: Socket, deflate: Deflate | None) -> None:
        self.engine = engine
        self.deflate = deflate
        self.sink: Sink = sock
        self._sock = sock
        self._outbox: Outbox | None = None
        self._paused = False
        self._state = OPENING

    @property
    def open(self) -> bool:
        """True while messages can be sent."""
        return self._state <= OPEN

    @property
    def closed(self) -> bool:
        """True once the socket is gone."""
        return self._state == CLOSED

    @property
    def buffered(self) -> int:
        """Bytes that wait because the peer does not read."""
        return self._outbox.size if self._outbox is not None else 0

    def send(self, message: str | bytes) -> None:
        """Send a text (``str``) or binary (``bytes``) message.

        What the peer does not take at once waits in the outbox; a peer that lets more than
        ``outbox.max_bytes`` wait is closed. On a connection that is closing or closed this does
        nothing.
        """
        if self._state > OPEN:
            return
        if type(message) is str:
            payload, opcode, heads = message.encode(), TEXT, TEXT_HEADS
        else:
            payload, opcode, heads = bytes(message), BINARY, BINARY_HEADS  # type: ignore[arg-type]
        deflate = self.deflate
        engine = self.engine
        length = len(payload)
        if deflate is not None and length >= engine.deflate_min_size:
            frame = encode(opcode, deflate.compress(payload), True)
        elif length < SMALL:
            engine.stats.outgoing.small[length] += 1
            # Nearly every message goes this way, so it has a `transmit` of its own.
            frame = heads[length] + payload
            try:
                sent = self.sink.send(frame)
            except BlockingIOError:
                self.hold_back(frame, 0)
            except OSError:
                self.lost("reset")
            else:
                if sent != length + 2:
                    self.hold_back(frame, sent)
            return
        else:
            frame = encode(opcode, payload)
        engine.stats.outgoing.others.observe(length)
        self.transmit(frame)

    def transmit(self, frame: bytes) -> None:
        """Send an already encoded frame (or several, joined)."""
        self.engine.stats.outgoing.other_bytes += len(frame)
        try:
            sent = self.sink.send(frame)
        except BlockingIOError:
            self.hold_back(frame, 0)
        except OSError:
            self.lost("reset")
        else:
            if sent != len(frame):
                self.hold_back(frame, sent)

    def hold_back(self, frame: bytes, sent: int) -> None:
        """Keep what the socket did not take of ``frame`` and send it when it can."""
        engine = self.engine
        settings = engine.outbox
        outbox = self._outbox = Outbox(
            settings.max_bytes, self._overflow, settings.policy, engine.stats.messages_dropped
        )
        outbox.begin(frame, sent)
        self.sink = outbox
        self._watch()
        # One that is empty again soon is not taken off the list: that would cost more.
        if self not in engine.slow:
            engine.slow.set(self, engine.poller.now + settings.max_age / LOOKS)

    def look(self) -> None:
        """See, every part of ``outbox.max_age``, whether something waits for too long."""
        outbox = self._outbox
        if outbox is None or self._state > OPEN:
            return
        if outbox.look():
            self._overflow()
        else:
            engine = self.engine
            engine.slow.set(self, engine.poller.now + engine.outbox.max_age / LOOKS)

    def _overflow(self) -> None:
        """The peer is too slow: close it now, without the bytes that it did not take."""
        outbox = self._outbox
        if self.engine.tls is not None or outbox is None:
            # An encrypted record that has begun cannot be taken back, so no close frame fits in.
            self._give_up("slow_consumer")
            return
        outbox.keep_begun_frame()
        self._begin_close(4008, "slow consumer", "slow_consumer")

    def _send_control(self, frame: bytes) -> None:
        if self._outbox is None:
            self.transmit(frame)
        elif self._state <= OPEN:
            self._outbox.urge(frame)

    def _watch(self) -> None:
        events = 0 if self._paused else READ
        if self._outbox is not None:
            events |= WRITE
        self.engine.poller.modify(self._sock.fileno(), events)

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
        if self._state == FAILED:
            self._half_close()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    @abstractmethod
    def lost(self, cause: str) -> None:
        """The socket ended without a closing handshake."""

    @abstractmethod
    def _begin_close(self, code: int, reason: str, cause: str) -> None:
        """Send a close frame as the last one."""

    @abstractmethod
    def _give_up(self, cause: str) -> None:
        """End the connection in the next turn, without a close frame."""
