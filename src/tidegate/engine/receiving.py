"""The way into a connection: bytes to messages, and messages to the handler, one at a time."""

from __future__ import annotations

import struct
from abc import abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import EOF, MESSAGE_ABUSE, POLICY, REASONS, RESET, Close
from tidegate.core.timing.rates import Meter
from tidegate.engine.application import BLOCKED_SECONDS
from tidegate.engine.buffers import SHARED_WEIGHT
from tidegate.engine.handling import BACKLOG, EARLY, LONG, Handling
from tidegate.engine.later import SERVED_SECONDS
from tidegate.engine.poller import READ, WRITE
from tidegate.engine.sockets import Socket
from tidegate.engine.states import CLOSED, CLOSING, ENDING, OPEN
from tidegate.engine.tasks import is_awaitable
from tidegate.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    ProtocolError,
    encode,
)
from tidegate.wire.reader import HEAVY, LIGHT_BYTES, Reader

if TYPE_CHECKING:
    from tidegate.engine.shared import Shared
    from tidegate.wire.deflate import Deflate

__all__ = ["Receiver"]

_READ_AHEAD = 65536
_ANY_SIZE = 1 << 63
_STAMP = struct.Struct("!d")  # the payload of our pings: when they were sent

_TOO_FAST = (
    "a connection sends more than messages.per_second, messages.bytes_per_second or the zone"
    " allows; it is read later"
)

# A timer is not cancelled when its connection ends, so it must not keep it for long.
_LONGEST_WAIT = 1.0


class Receiver(Handling):
    """The receiving half of a connection."""

    __slots__ = ("_meter", "_pinged", "_reader", "last_active", "last_seen")

    def __init__(self, shared: Shared, sock: Socket, deflate: Deflate | None) -> None:
        super().__init__(shared, sock, deflate)
        self.last_seen = self.last_active = shared.poller.now
        self._reader: Reader | None = None
        self._meter: Meter | None = None
        self._pinged = False

    def on_events(self, events: int) -> bool:
        """Write what waits; True to read, in which an error or a hang-up shows itself."""
        if events & WRITE and self._outbox is not None:
            self._flush()
        if events == WRITE or self._state is CLOSED:
            return False
        if self._paused:
            if events & ~(READ | WRITE):
                # Hung up or in error while nobody reads: only its end is left to see.
                self.lost(RESET)
            return False
        return True

    def take(self, data: bytes) -> None:
        """Handle what was read, nothing at the end of the stream."""
        if self._state is CLOSED:
            return  # since it was read
        if data:
            self.shared.stats.incoming.other_bytes += len(data)
            self.receive(data)
        elif (reader := self._reader) is None or self._state is not OPEN or not reader.pending:
            self.lost(EOF)
        elif self._held & LONG:
            self._leave_messages(reader)
            self.lost(EOF)
        elif self._held:
            self._pause()  # what waits comes first, and then the end is read once more
        else:
            self.lost(EOF)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._watch()

    def _handle(self, opcode: int, message: str | bytes) -> None:
        """Count a message, and give it to the application."""
        shared = self.shared
        size = len(message)
        if opcode == BINARY:
            shared.stats.binary_received += 1
        elif not message.isascii():
            assert isinstance(message, str)
            size = len(message.encode())
        shared.stats.incoming.others.observe(size)
        now = self.last_active = shared.poller.now
        if shared.rates.metered and self._comes_too_early(message, size, now):
            return
        try:
            result = shared.on_message(self, message)
        except Exception as error:
            self._handler_failed(error)
        else:
            if is_awaitable(result):
                self.run(result)

    def receive(self, data: bytes) -> None:
        """Handle any bytes: parts of frames, several frames, control frames."""
        if self._state is ENDING:
            return  # what still comes after a violation is thrown away
        reader = self._reader
        if reader is None:
            shared = self.shared
            reader = self._reader = Reader(shared.max_message, shared.max_fragments, self.deflate)
        reader.feed(data)
        if not self._held or self._state is CLOSING:
            self._pump()
        elif self._held & LONG:
            self._look_ahead(reader)
        elif reader.pending >= _READ_AHEAD:
            self._pause()
        if self._reader is not None or self in self.shared.buffers.held:
            self._count_held()

    def _count_held(self) -> None:
        """Count what has come and is not handled, after that has changed."""
        shared = self.shared
        reader = self._reader
        if reader is None and shared.leftover:
            reader = shared.leftover.reader(self)
        shared.buffers.hold(self, 0 if reader is None else reader.held)

    def _look_ahead(self, reader: Reader) -> None:
        """Take control frames while messages wait: a ping is answered, and a close is seen.

        What is read ahead is bounded. A close frame behind more than that is seen when the handler
        has caught up.
        """
        try:
            controls = reader.controls()
        except ProtocolError as error:
            self._fail_as(error)
            return
        for opcode, payload in controls:
            if opcode == CLOSE:
                self._leave_messages(reader)
            self._control(opcode, payload)
            if self._state is not OPEN:
                return
        if reader.pending >= _READ_AHEAD:
            self._pause()

    def _leave_messages(self, reader: Reader) -> None:
        """The peer has closed: handle what waits all the same, if it is not to be cancelled."""
        self._reader = None
        if reader.pending and not self.shared.cancels:
            self.shared.leftover.keep(self, reader)

    @property
    def kept(self) -> float:
        """What is kept for it, in bytes by weight (`buffers.Holder`)."""
        outbox = self._outbox
        kept: float = self.shared.buffers.held.get(self, 0)
        if outbox is not None:
            kept += outbox.own + SHARED_WEIGHT * (outbox.size - outbox.own)
        return kept

    def _pump(self, light: int = LIGHT_BYTES) -> None:
        """Handle whole messages until none is left, or a handler or the time asks to wait.

        Args:
            light: bytes of the largest message to handle now; a larger one comes behind the others.
        """
        shared = self.shared
        reader = self._reader
        assert reader is not None
        fragments = shared.fragments
        until = monotonic() + SERVED_SECONDS
        while True:
            try:
                item = reader.next(light)
            except ProtocolError as error:
                self._fail_as(error)
                return
            if item is None:
                if reader.idle:
                    self._reader = None
                    fragments.discard(self)
                elif self not in fragments:
                    fragments.set(self, shared.poller.now + shared.fragment_timeout)
                return
            if item is HEAVY:
                break
            opcode, payload = item
            if opcode <= BINARY:
                light = LIGHT_BYTES
                fragments.discard(self)
                if self._state is not OPEN:
                    continue  # RFC 6455 1.4: after our close frame, data is read and dropped
                self._handle(opcode, payload)
            else:
                self._control(opcode, payload)
            if self._is_over():
                return
            if self._held and self._state is OPEN:
                self._look_ahead(reader)
                return
            if monotonic() >= until:
                break
        if reader.pending >= _READ_AHEAD:
            self._pause()
        self._later()

    def _control(self, opcode: int, payload: Any) -> None:
        """Handle a control frame."""
        if opcode == CLOSE:
            self._peer_closed(*payload)
        elif opcode == PONG and self._pinged:
            self._pinged = False
            self._measure(payload)
        elif self._takes_control() and opcode == PING and self._state is OPEN:
            self._send_control(encode(PONG, payload))

    def _later(self) -> None:
        """Leave the rest until the others were served."""
        self._held |= BACKLOG
        self.shared.later.add(self._go_on)

    def _go_on(self) -> None:
        """Take up the frames that were left over."""
        began = monotonic()
        self._take_up()
        seconds = monotonic() - began
        if seconds >= BLOCKED_SECONDS:
            self.shared.application.blocked(seconds)

    def _take_up(self) -> None:
        self._held &= ~BACKLOG
        leftover = self.shared.leftover
        if leftover and self in leftover:
            if not self._held:
                leftover.handle(self)
            return
        if self._is_over() or (self._held and self._state is OPEN):
            return
        if self._reader is not None:
            self._pump(_ANY_SIZE)
            self._count_held()
        if (
            self._paused
            and not self._held & BACKLOG
            and self._state is not CLOSED
            and (self._reader is None or self._reader.pending < _READ_AHEAD)
        ):
            self._paused = False
            self._watch()

    def _measure(self, payload: bytes) -> None:
        """Note how long our ping took; its payload is the time when it was sent."""
        shared = self.shared
        if len(payload) == _STAMP.size:
            latency = monotonic() - _STAMP.unpack(payload)[0]
            # A peer can answer with any number; only a possible one is counted.
            if 0.0 <= latency <= shared.heartbeat_timeout:
                shared.stats.heartbeat_latency.observe(latency)
                shared.application.measured(self, latency)
                shared.host.measured(self, latency)

    def ping_now(self) -> None:
        """Send a ping; the application is told how long its answer took."""
        self.ping(encode(PING, _STAMP.pack(monotonic())))

    def ping(self, frame: bytes) -> None:
        """Send the heartbeat's ping frame, ahead of what waits; one pong counts for no rate."""
        self._pinged = True
        if self._meter is not None and self._meter.is_full(self.shared.poller.now):
            self._meter = None  # few of those who are connected have sent anything lately
        self._send_control(frame)

    # Rates. A connection has a meter only where there is a rate, and when it has sent something.

    def _comes_too_early(self, message: str | bytes, size: int, now: float) -> bool:
        """Count a message; True when it was refused for its rate."""
        shared = self.shared
        meter = self._own_meter()
        if now < meter.ready_at:
            return self._refuse(message, meter.ready_at - now)
        meter.charge(size, now)
        if meter.ready_at > now and not shared.refuses_early and not shared.rates_are_dry:
            self._held |= EARLY
            shared.stats.messages_limited["delayed"] += 1
            shared.host.warn(
                _TOO_FAST
            )  # the peer is not told, so nobody else would say why it waits
            self._wait_until_ready(now)
        return False

    def join_delay(self) -> float:
        """Count a join of this connection: 0.0, or the seconds until it may join again."""
        if not self.shared.rates.join_step:
            return 0.0
        delay = self._own_meter().take_join(self.shared.poller.now)
        if delay and self.shared.rates_are_dry:
            self._let_through("joins")
            return 0.0
        return delay

    def refused_too_often(self) -> bool:
        """Count a message that was refused for its rate; True when it is time to close."""
        self.shared.stats.messages_limited["refused"] += 1
        return self._own_meter().refused(self.shared.poller.now)

    def _refuse(self, message: str | bytes, delay: float) -> bool:
        """Have a message refused that came too early; False when it is to be handled."""
        shared = self.shared
        if shared.rates_are_dry:
            self._let_through("messages")
            return False
        if not shared.refuses_early:
            return False
        try:
            shared.application.too_early(self, message, delay)
        except Exception as error:
            self._handler_failed(error)
        return True

    def _takes_control(self) -> bool:
        """Count a ping or pong; False when there were so many that the connection was closed."""
        shared = self.shared
        if not shared.rates.control_step or self._own_meter().take_control(shared.poller.now):
            return True
        if self.shared.rates_are_dry:
            self._let_through("control frames")
            return True
        self.fail(MESSAGE_ABUSE, "too many pings or pongs")
        return False

    def _let_through(self, what: str) -> None:
        self.shared.stats.dry_run["messages"] += 1
        self.shared.host.warn(f"dry run: too many {what} a second from one connection")

    def _own_meter(self) -> Meter:
        meter = self._meter
        if meter is None:
            meter = self._meter = Meter(self.shared.rates)
        return meter

    def _wait_until_ready(self, now: float) -> None:
        meter = self._own_meter()
        wait = min(meter.ready_at - now, _LONGEST_WAIT)
        self.shared.loop.call_later(wait, self._look_if_ready)

    def _look_if_ready(self) -> None:
        if self._state is CLOSED and self not in self.shared.leftover:
            return
        now = monotonic()
        if now < self._own_meter().ready_at:
            self._wait_until_ready(now)
            return
        self._held &= ~EARLY
        self.shared.poller.ready.append(self._go_on)
        self.shared.poller.wake()

    def fragment_timeout(self) -> None:
        """A message was begun and not finished in time."""
        self.fail(POLICY, "message took too long")

    def _fail_as(self, error: ProtocolError) -> None:
        reason = REASONS[error.reason]
        assert isinstance(reason, Close)
        self.fail(reason, error.message)

    def _is_over(self) -> bool:
        """Whether nothing more is read."""
        return self._state is ENDING or self._state is CLOSED

    @abstractmethod
    def relieve(self) -> None:
        """Free what is kept for it, and close it for that (`buffers.Holder`)."""

    @abstractmethod
    def fail(self, reason: Close, detail: str = "") -> None:
        """Close because the peer broke the protocol or a rule of this server."""

    @abstractmethod
    def _peer_closed(self, code: int, reason: str) -> None:
        """The peer's close frame came."""
