"""The way out of a connection: its socket, or the outbox while the socket takes no more."""

from __future__ import annotations

import contextlib
import socket
from abc import abstractmethod
from typing import TYPE_CHECKING, TypeAlias

from tidegate.core.codes import RESET, SLOW_CONSUMER, Close, Refusal
from tidegate.core.stats import SMALL
from tidegate.engine.outbox import LOOKS, Outbox, RoomFrames, Sink
from tidegate.engine.poller import BATCH, READ, WRITE, Entry
from tidegate.engine.sockets import Socket
from tidegate.engine.states import CLOSED, ENDING, MOVES, OPEN, State
from tidegate.wire.frames import BINARY, BINARY_HEADS, TEXT, TEXT_HEADS, encode

if TYPE_CHECKING:
    from tidegate.engine.shared import Corked, Shared
    from tidegate.wire.deflate import Deflate

__all__ = ["Message", "Sender", "uncork"]

Message: TypeAlias = str | bytes | bytearray | memoryview
"""What can be sent: a text, or bytes."""


class Sender(Entry):
    """The sending half of a connection.

    Frames go to ``sink``: the socket itself, the outbox while bytes wait, or nowhere once a close
    frame is out. So sending to many is a loop over ``sink.send`` without a question asked.
    """

    __slots__ = ("_outbox", "_paused", "_state", "deflate", "shared", "sink", "sock")

    sock: Socket

    def __init__(self, shared: Shared, sock: Socket, deflate: Deflate | None) -> None:
        self.shared = shared
        self.deflate = deflate
        self.sink: Sink = sock
        self.sock = sock
        self._outbox: Outbox | None = None
        self._paused = False
        self._state: State = OPEN

    @property
    def open(self) -> bool:
        """True while messages can be sent."""
        return self._state is OPEN

    @property
    def closed(self) -> bool:
        """True once the socket is gone."""
        return self._state is CLOSED

    @property
    def buffered(self) -> int:
        """Bytes that wait because the peer does not read."""
        return self._outbox.size if self._outbox is not None else 0

    def send(self, message: Message) -> None:
        """Send a text (``str``) or binary (``bytes``, ``bytearray``, ``memoryview``) message.

        What the peer does not take at once waits in the outbox; a peer that lets more than
        ``outbox.max_bytes`` wait is closed. On a connection that is closing or closed this does
        nothing. In a message handler, a message of up to 125 bytes goes out when others that came
        at the same time were handled (:mod:`.intake`), before anything that is sent later.

        Raises:
            TypeError: it is of another type, also when the connection is closed.
        """
        if self._state is not OPEN:
            if not isinstance(message, str):
                _to_bytes(message)
            return
        if isinstance(message, str):
            payload, opcode, heads = message.encode(), TEXT, TEXT_HEADS
        else:
            payload, opcode, heads = _to_bytes(message), BINARY, BINARY_HEADS
        deflate = self.deflate
        shared = self.shared
        length = len(payload)
        if deflate is not None and length >= shared.deflate_min_size:
            frame = encode(opcode, deflate.compress(payload), True)
        elif length < SMALL:
            shared.stats.outgoing.small[length] += 1
            frame = heads[length] + payload
            corked = shared.corked
            if corked is None:
                self._write(frame)
            else:
                corked.append((self, frame))
                if len(corked) > BATCH:
                    uncork(corked)
            return
        else:
            frame = encode(opcode, payload)
        shared.stats.outgoing.others.observe(length)
        self.transmit(frame)

    def transmit(self, frame: bytes) -> None:
        """Send an already encoded frame (or several, joined)."""
        self.shared.stats.outgoing.other_bytes += len(frame)
        self._uncork()
        self._write(frame)

    def _uncork(self) -> None:
        """Send what is corked, before anything that must come behind it."""
        corked = self.shared.corked
        if corked:
            uncork(corked)

    def _write(self, frame: bytes) -> None:
        try:
            sent = self.sink.send(frame)
        except BlockingIOError:
            self.hold_back(frame, 0)
        except OSError:
            self.lost(RESET)
        else:
            if sent != len(frame):
                self.hold_back(frame, sent)

    def hold_back(self, frame: bytes, sent: int) -> None:
        """Keep what the socket did not take of ``frame`` and send it when it can."""
        shared = self.shared
        settings = shared.outbox
        outbox = self._outbox = Outbox(
            settings.max_bytes,
            self._overflow,
            settings.policy,
            shared.stats.messages_dropped,
            shared.buffers,
            self._missed,
        )
        outbox.begin(frame, sent)
        self.sink = outbox
        self._watch()
        # One that is empty again soon is not taken off the list: that would cost more.
        if self not in shared.slow:
            shared.slow.set(self, shared.poller.now + settings.max_age / LOOKS)

    def look(self) -> None:
        """See, every part of ``outbox.max_age``, whether something waits for too long."""
        outbox = self._outbox
        if outbox is None or self._state is not OPEN:
            return
        if outbox.look():
            self._overflow()
        else:
            shared = self.shared
            shared.slow.set(self, shared.poller.now + shared.outbox.max_age / LOOKS)

    def _overflow(self) -> None:
        """The peer is too slow: close it now, without the bytes that it did not take."""
        outbox = self._outbox
        if self.shared.tls is not None or outbox is None:
            # An encrypted record that has begun cannot be taken back, so no close frame fits in.
            self._give_up(SLOW_CONSUMER)
            return
        outbox.keep_begun_frame()
        self.end(SLOW_CONSUMER)

    def _missed(self, frames: RoomFrames) -> None:
        """Frames of a room were dropped."""
        if frames.chain is not None:
            frames.chain.restart(self)

    def _send_control(self, frame: bytes) -> None:
        if self._outbox is None:
            self.transmit(frame)
        elif self._state is OPEN:
            self._outbox.urge(frame)

    def _watch(self) -> None:
        events = 0 if self._paused else READ
        if self._outbox is not None:
            events |= WRITE
        self.shared.poller.modify(self.sock.fileno(), events)

    def _flush(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        try:
            done = outbox.flush(self.sock)
        except OSError:
            self.lost(RESET)
            return
        if not done:
            return
        self._outbox = None
        if self.sink is outbox:
            self.sink = self.sock
        self._watch()
        if self._state is ENDING:
            self._half_close()
        if outbox.gaps is not None and self._state is OPEN:
            self.shared.application.gaps(self, outbox.gaps)
        self.shared.application.drained(self)

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def _move(self, to: State) -> None:
        assert to in MOVES[self._state], f"no move from {self._state} to {to}"
        self._state = to

    @abstractmethod
    def lost(self, reason: Close) -> None:
        """The socket ended without a closing handshake."""

    @abstractmethod
    def end(
        self, reason: Refusal | Close, retry_after: float | None = None, detail: str = ""
    ) -> None:
        """Send a close frame as the last one."""

    @abstractmethod
    def _give_up(self, reason: Close) -> None:
        """End the connection in the next turn, without a close frame."""


def _to_bytes(message: object) -> bytes:
    # Nothing else: `bytes(5)` is five NUL bytes, and that of a list its numbers.
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    raise TypeError(
        f"a message must be str, bytes, bytearray or memoryview, not {type(message).__name__}"
    )


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
            sender.lost(RESET)
        else:
            if sent != len(frame):
                sender.hold_back(frame, sent)
