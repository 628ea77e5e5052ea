"""The way into a connection: bytes to messages, and messages to the handler, one at a time."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable
from inspect import iscoroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import MESSAGE_ABUSE
from tidegate.core.timing.rates import Meter
from tidegate.engine.poller import READ, WRITE
from tidegate.engine.sending import CLOSED, CLOSING, FAILED, OPEN, OPENING, Sender, Socket
from tidegate.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    ProtocolError,
    Reader,
    encode,
)

if TYPE_CHECKING:
    from tidegate.engine.engine import Engine
    from tidegate.wire.deflate import Deflate

__all__ = ["Receiver"]

_FRAMES_PER_TURN = 64
_READ_AHEAD = 65536

# Why a connection does not take the next message just now. Reading goes on for a little while
# (so that pongs, closes and resets are seen) and then stops until the handler has caught up.
_BUSY = 1  # an async handler is at work
_BACKLOG = 2  # many small frames came at once; the rest waits for the next turn
_EARLY = 4  # more came than the rates allow

_TOO_FAST = (
    "a connection sends more than messages.per_second, messages.bytes_per_second or the zone"
    " allows; it is read later"
)

# A timer is not cancelled when its connection ends, so it must not keep it for long.
_LONGEST_WAIT = 1.0


class Receiver(Sender):
    """The receiving half of a connection."""

    __slots__ = ("_held", "_meter", "_pinged", "_reader", "last_active", "last_seen")

    def __init__(self, engine: Engine, sock: Socket, deflate: Deflate | None) -> None:
        super().__init__(engine, sock, deflate)
        self.last_seen = self.last_active = engine.poller.now
        self._reader: Reader | None = None
        self._meter: Meter | None = None
        self._held = 0
        self._pinged = False

    @property
    def busy(self) -> bool:
        """True while an async handler of this connection is at work."""
        return bool(self._held & _BUSY)

    def on_events(self, events: int) -> bool:
        """Write what waits; True to read, in which an error or a hang-up shows itself."""
        if events & WRITE and self._outbox is not None:
            self._flush()
        if events == WRITE or self._state == CLOSED:
            return False
        if self._paused:
            if events & ~(READ | WRITE):
                # Hung up or in error while nobody reads: only its end is left to see.
                self.lost("reset")
            return False
        return True

    def take(self, data: bytes) -> None:
        """Handle what was read, nothing at the end of the stream."""
        if self._state == CLOSED:
            return  # since it was read
        if data:
            self.engine.stats.incoming.other_bytes += len(data)
            self.receive(data)
        elif self._held and self._state <= OPEN and self._reader and self._reader.pending:
            self._pause()  # what waits comes first, and then the end is read once more
        else:
            self.lost("eof")

    def _pause(self) -> None:
        self._paused = True
        self._watch()

    def _handle(self, message: str | bytes, size: int, now: float) -> None:
        engine = self.engine
        self.last_active = now
        if engine.rates.metered and self._comes_too_early(message, size, now):
            return
        handler = engine.on_message  # called as an attribute, it would be looked for in the class
        try:
            result = handler(self, message)
        except Exception as error:
            self._handler_failed(error)
        else:
            if result is not None and hasattr(result, "__await__"):
                self.run(result)

    def receive(self, data: bytes) -> None:
        """Handle any bytes: parts of frames, several frames, control frames."""
        if self._state == FAILED:
            return  # whatever still comes after a violation is thrown away
        reader = self._reader
        if reader is None:
            engine = self.engine
            reader = self._reader = Reader(engine.max_message, engine.max_fragments, self.deflate)
        reader.feed(data)
        if not self._held or self._state == CLOSING:
            self._pump()
        elif reader.pending >= _READ_AHEAD:
            self._pause()

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
                if self._state != OPEN:
                    continue  # RFC 6455 1.4: after our close frame, data is read and dropped
                size = len(payload)
                if opcode == BINARY:
                    engine.stats.binary_received += 1
                elif not payload.isascii():
                    size = len(payload.encode())
                engine.stats.incoming.others.observe(size)
                self._handle(payload, size, engine.poller.now)
            elif opcode == CLOSE:
                self._peer_closed(*payload)
            elif opcode == PONG and self._pinged:
                self._pinged = False
                engine.on_pong(payload)
            elif not self._takes_control():
                return
            elif opcode == PING and self._state <= OPEN:
                self._send_control(encode(PONG, payload))
            if self._state >= FAILED or (self._held and self._state <= OPEN):
                return
        self._held |= _BACKLOG
        engine.poller.ready.append(self._go_on)

    def _go_on(self) -> None:
        """Take up the frames that were left over."""
        self._held &= ~_BACKLOG
        if self._state >= FAILED or (self._held and self._state <= OPEN):
            return
        if self._reader is not None:
            self._pump()
        if self._paused and not self._held & _BACKLOG and self._state != CLOSED:
            self._paused = False
            self._watch()

    def ping(self, frame: bytes) -> None:
        """Send the heartbeat's ping frame, ahead of what waits; one pong counts for no rate."""
        self._pinged = True
        if self._meter is not None and self._meter.is_full(self.engine.poller.now):
            self._meter = None  # few of those who are connected have sent anything lately
        self._send_control(frame)

    # Rates. A connection has a meter only where there is a rate, and when it has sent something.

    def _comes_too_early(self, message: str | bytes, size: int, now: float) -> bool:
        """Count a message; True when it was refused for its rate."""
        engine = self.engine
        meter = self._own_meter()
        if now < meter.ready_at:
            return self._refuse(message, meter.ready_at - now)
        meter.charge(size, now)
        if meter.ready_at > now and engine.on_excess is None and not engine.rates_are_dry:
            self._held |= _EARLY
            engine.stats.messages_limited["delayed"] += 1
            engine.warn(_TOO_FAST)  # the peer is not told, so nobody else would say why it waits
            self._wait_until_ready(now)
        return False

    def join_delay(self) -> float:
        """Count a join of this connection: 0.0, or the seconds until it may join again."""
        if not self.engine.rates.join_step:
            return 0.0
        delay = self._own_meter().take_join(self.engine.poller.now)
        if delay and self.engine.rates_are_dry:
            self._let_through("joins")
            return 0.0
        return delay

    def refused_too_often(self) -> bool:
        """Count a message that was refused for its rate; True when it is time to close."""
        self.engine.stats.messages_limited["refused"] += 1
        return self._own_meter().refused(self.engine.poller.now)

    def _refuse(self, message: str | bytes, delay: float) -> bool:
        """Have a message refused that came too early; False when it is to be handled."""
        engine = self.engine
        if engine.rates_are_dry:
            self._let_through("messages")
            return False
        if engine.on_excess is None:
            return False
        try:
            engine.on_excess(self, message, delay)
        except Exception as error:
            self._handler_failed(error)
        return True

    def _takes_control(self) -> bool:
        """Count a ping or pong; False when there were so many that the connection was closed."""
        engine = self.engine
        if not engine.rates.control_step or self._own_meter().take_control(engine.poller.now):
            return True
        if self.engine.rates_are_dry:
            self._let_through("control frames")
            return True
        self.fail(1008, "too many pings or pongs", MESSAGE_ABUSE.name)
        return False

    def _let_through(self, what: str) -> None:
        self.engine.stats.dry_run["messages"] += 1
        self.engine.warn(f"dry run: too many {what} a second from one connection")

    def _own_meter(self) -> Meter:
        meter = self._meter
        if meter is None:
            meter = self._meter = Meter(self.engine.rates)
        return meter

    def _wait_until_ready(self, now: float) -> None:
        meter = self._own_meter()
        wait = min(meter.ready_at - now, _LONGEST_WAIT)
        self.engine.loop.call_later(wait, self._look_if_ready)

    def _look_if_ready(self) -> None:
        if self._state == CLOSED:
            return
        now = monotonic()
        if now < self._own_meter().ready_at:
            self._wait_until_ready(now)
            return
        self._held &= ~_EARLY
        self.engine.poller.ready.append(self._go_on)
        self.engine.poller.wake()

    def fragment_timeout(self) -> None:
        """A message was begun and not finished in time."""
        self.fail(1008, "message took too long")

    # Async handlers: one at a time, and nothing is read meanwhile.

    def run(self, work: Awaitable[Any]) -> None:
        """Run an async handler; messages that follow wait until it is done."""
        self._held |= _BUSY
        task = self.engine.start_task(work if iscoroutine(work) else _waiting_for(work))
        task.add_done_callback(self._handler_done)

    def _handler_done(self, task: asyncio.Task[None]) -> None:
        self._held &= ~_BUSY
        if task.cancelled():
            self._begin_close(1011, "internal error", "handler_error")
        elif isinstance(error := task.exception(), Exception):
            self._handler_failed(error)
        elif self._state == OPENING:
            self._state = OPEN
        if self._state == CLOSED:
            self._announce_close()
            return
        # Not called at once: a chain of short handlers must not become a deep stack.
        self.engine.poller.ready.append(self._go_on)
        self.engine.poller.wake()

    def _handler_failed(self, error: Exception) -> None:
        self.engine.on_error(self, error)
        self._begin_close(1011, "internal error", "handler_error")

    @abstractmethod
    def fail(self, code: int, reason: str, cause: str | None = None) -> None:
        """Close because the peer broke the protocol or a rule of this server."""

    @abstractmethod
    def _peer_closed(self, code: int, reason: str) -> None:
        """The peer's close frame came."""

    @abstractmethod
    def _announce_close(self) -> None:
        """Tell the application that this connection has ended."""


async def _waiting_for(work: Awaitable[Any]) -> None:
    await work
