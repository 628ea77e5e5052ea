"""The way out of a connection: its socket, or the outbox while the socket takes no more."""

from __future__ import annotations

import contextlib
import socket
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Protocol

from tidegate.core.stats import SMALL
from tidegate.engine.outbox import LOOKS, Outbox, Sink
from tidegate.engine.poller import BATCH, READ, WRITE, Entry, Source
from tidegate.wire.frames import BINARY, BINARY_HEADS, TEXT, TEXT_HEADS, encode

if TYPE_CHECKING:
    from tidegate.engine.engine import Engine
    from tidegate.wire.deflate import Deflate

__all__ = ["CLOSED", "CLOSING", "FAILED", "OPEN", "OPENING", "Corked", "Sender", "Socket", "uncork"]

# The states of a connection, in the order in which it goes through them.
OPENING, OPEN, CLOSING, FAILED, CLOSED = range(5)


class Socket(Sink, Source, Protocol):
    """What a connection needs of its socket, plain or TLS."""

    def shutdown(self, how: int, /) -> None:
        """Half-close."""

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        """Set an option."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


class Sender(Entry):
    """The sending half of a connection.

    Frames go to ``sink``: the socket itself, the outbox while bytes wait, or nowhere once a close
    frame is out. So sending to many is a loop over ``sink.send`` without a question asked.
    """

    __slots__ = ("_outbox", "_paused", "_state", "deflate", "engine", "sink", "sock")

    sock: Socket

    def __init__(self, engine: Engine, sock: Socket, deflate: Deflate | None) -> None:
        self.engine = engine
        self.deflate = deflate
        self.sink: Sink = sock
        self.sock = sock
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
        nothing. In a message handler, a message of up to 125 bytes goes out when others that came
        at the same time were handled (:mod:`.intake`), before anything that is sent later.
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
            frame = heads[length] + payload
            corked = engine.corked
            if corked is None:
                self._write(frame)
            else:
                corked.append((self, frame))
                if len(corked) > BATCH:
                    uncork(corked)
            return
        else:
            frame = encode(opcode, payload)
        engine.stats.outgoing.others.observe(length)
        self.transmit(frame)

    def transmit(self, frame: bytes) -> None:
        """Send an already encoded frame (or several, joined)."""
        self.engine.stats.outgoing.other_bytes += len(frame)
        self._uncork()
        self._write(frame)

    def _uncork(self) -> None:
        """Send what is corked, before anything that must come behind it."""
        corked = self.engine.corked
        if corked:
            uncork(corked)

    def _write(self, frame: bytes) -> None:
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
        self.engine.poller.modify(self.sock.fileno(), events)

    def _flush(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        try:
            done = outbox.flush(self.sock)
        except OSError:
            self.lost("reset")
            return
        if not done:
            return
        self._outbox = None
        if self.sink is outbox:
            self.sink = self.sock
        self._watch()
        if self._state == FAILED:
            self._half_close()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    @abstractmethod
    def lost(self, cause: str) -> None:
        """The socket ended without a closing handshake."""

    @abstractmethod
    def _begin_close(self, code: int, reason: str, cause: str) -> None:
        """Send a close frame as the last one."""

    @abstractmethod
    def _give_up(self, cause: str) -> None:
        """End the connection in the next turn, without a close frame."""


Corked = deque[tuple[Sender, bytes]]
"""Frames and the connections they are for, in the order of sending."""


def uncork(corked: Corked) -> None:
    """Send what is corked, and whatever is added meanwhile."""
    while corked:
        sender, frame = corked.popleft()
        while corked and corked[0][0] is sender:
            frame += corked.popleft()[1]
        # What `_write` does: nearly every message goes this way.
        try:
            sent = sender.sink.send(frame)
        except BlockingIOError:
            sender.hold_back(frame, 0)
        except OSError:
            sender.lost("reset")
        else:
            if sent != len(frame):
                sender.hold_back(frame, sent)
