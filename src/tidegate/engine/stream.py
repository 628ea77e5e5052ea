"""A connection that speaks plain HTTP: an asyncio transport over a socket of this poller.

What serves HTTP is an `asyncio.Protocol`, such as that of uvicorn. It gets the request that
was read already, TLS undone, and from then on all bytes of the connection. When a client asks for a
WebSocket on a connection that it used for HTTP before, `hand_back` makes an attempt of it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from tidegate.addresses import UNIX_PEER, unix_path
from tidegate.engine.poller import READ, WRITE, Entry
from tidegate.engine.sockets import peer_port
from tidegate.wire.handshake import HandshakeError, parse_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.engine.application import HttpServer
    from tidegate.engine.parked import Parking
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket

__all__ = ["Stream"]

_READ_BYTES = 65536
_CORKED_BYTES = 16384
_HIGH, _LOW = 65536, 16384  # bytes that wait, as asyncio's own transports count them


class Stream(Entry, asyncio.Transport):
    """One HTTP connection.

    Args:
        listener: takes the connection back when it becomes an attempt.
        peer: the address of the client, behind a PROXY header too.
        http: serves it.
    """

    __slots__ = (
        "_buffered",
        "_closing",
        "_corked",
        "_corked_bytes",
        "_high",
        "_http",
        "_listener",
        "_low",
        "_paused",
        "_peer",
        "_progress",
        "_protocol",
        "_shared",
        "_sock",
        "_waiting",
        "_write_paused",
    )

    def __init__(
        self,
        shared: Shared,
        listener: Parking,
        sock: Socket,
        peer: str,
        http: HttpServer,
    ) -> None:
        super().__init__()
        self._shared = shared
        self._listener = listener
        self._sock = sock
        self._peer = peer
        self._http = http
        self._protocol: Any = http.protocol()
        self._corked: list[bytes] = []  # what goes out together, when this step of a task is over
        self._corked_bytes = 0
        self._waiting: deque[bytes] = deque()
        self._buffered = 0
        self._high, self._low = _HIGH, _LOW
        self._paused = False
        self._write_paused = False
        self._closing = False
        self._progress = False

    def begin(self, data: bytes) -> None:
        """Watch the socket, and give the protocol what was read already."""
        self._shared.streams.add(self, self._listener.counted(self._peer))
        self._shared.poller.register(self._sock.fileno(), self)
        self._protocol.connection_made(self)
        self._protocol.data_received(data)

    # What the poller calls.

    def on_events(self, events: int) -> bool:
        """Write what waits; True to read, in which an error or a hang-up shows itself."""
        if events & WRITE and self._waiting:
            self._flush()
        if self._protocol is None:
            return False
        if self._paused or self._closing:
            if events & ~(READ | WRITE):
                self._lost(None)  # hung up while nobody reads
            return False
        return events != WRITE

    def on_readable(self) -> None:
        """Read once and give it to the protocol."""
        if self._paused or self._closing:
            return
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()

    def on_crash(self) -> None:
        """End it at once."""
        self._lost(None)

    def closing_timeout(self) -> None:
        """See whether the client still takes what waits; if not, end it."""
        if self._progress:
            self._progress = False
            self._shared.closing.set(self, self._shared.poller.now + self._shared.close_timeout)
        else:
            self._lost(None)

    # asyncio.Transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes soon, head and body of a response in one packet; keep what cannot go."""
        if self._closing or not data:
            return
        data = bytes(data)
        if self._waiting:
            self._wait(data)
            return
        if not self._corked:
            self._shared.loop.call_soon(self._uncork)
        self._corked.append(data)
        self._corked_bytes += len(data)
        if self._corked_bytes >= _CORKED_BYTES:
            self._uncork()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces as one."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """End it when all was sent."""
        if self._closing:
            return
        self._uncork()
        self._closing = True
        if self._waiting:
            self._watch()
            self._shared.closing.set(self, self._shared.poller.now + self._shared.close_timeout)
        else:
            self._end_soon(None)

    def abort(self) -> None:
        """End it at once; what waits is dropped."""
        self._end_soon(None)

    def is_closing(self) -> bool:
        """Whether it ends or has ended."""
        return self._closing

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._paused and not self._closing:
            self._paused = True
            self._watch()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._paused and not self._closing:
            self._paused = False
            self._watch()
            # TLS may have decrypted more already, which no descriptor announces.
            self._shared.poller.ready.append(self._read_on)
            self._shared.poller.wake()

    def is_reading(self) -> bool:
        """Whether it reads."""
        return not self._paused and not self._closing

    def get_write_buffer_size(self) -> int:
        """Bytes that wait."""
        return self._buffered + self._corked_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks between which writing is paused."""
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        """Whether the way out can be closed by itself: it cannot."""
        return False

    def write_eof(self) -> None:
        """Not supported.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("this transport closes as a whole")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol serve the connection."""
        if self._protocol is not None:
            self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """What serves the connection."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `peername`, `sockname` or `sslcontext`, as sockets say them; else `default`.

        The port of the client is 0 behind a PROXY header, which is not the connection's own.
        """
        if name == "peername":
            unix = self._peer == UNIX_PEER
            return "" if unix else (self._peer, peer_port(self._sock, self._peer))
        if name == "sockname":
            host, port = self._listener.address
            return unix_path(host) or (host, port)
        if name == "sslcontext":
            return self._shared.tls or default
        return default

    # What is ours.

    def hand_back(self, head: bytes) -> None:
        """Let the gate decide about a request for a WebSocket, whose head this is."""
        self._uncork()
        try:
            request = parse_request(head)
        except HandshakeError as error:
            refusal = self._shared.door.malformed(error, self._peer)
            self._release()
            self._listener.refuse(self._sock, refusal, self._peer)
            return
        assert request is not None
        self._release()
        self._listener.ask(self._sock, self._peer, request, self._shared.poller.now)

    @property
    def idle(self) -> bool:
        """Whether it has no request under way, so that it can make room for another."""
        return self._protocol is not None and not self._closing and self._http.idle(self._protocol)

    @property
    def kept(self) -> float:
        """What is kept for it, in bytes (`buffers.Holder`)."""
        return self._buffered

    def relieve(self) -> None:
        """Free what is kept for it, and end it (`buffers.Holder`)."""
        self._waiting.clear()
        self._keep(0)
        self._end_soon(None)

    def _keep(self, size: int) -> None:
        """Count the bytes that wait."""
        self._buffered = size
        self._shared.buffers.hold(self, size)

    def _release(self) -> None:
        """Leave the socket to others."""
        self._protocol = None
        self._closing = True
        self._shared.streams.remove(self)
        self._shared.poller.release(self._sock.fileno())

    def _uncork(self) -> None:
        """Send what was written in this step."""
        corked = self._corked
        if not corked or self._protocol is None:
            return
        data = corked[0] if len(corked) == 1 else b"".join(corked)
        corked.clear()
        self._corked_bytes = sent = 0
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._end_soon(error)
            return
        self._shared.stats.outgoing.other_bytes += sent
        if sent < len(data):
            self._wait(data[sent:] if sent else data)

    def _wait(self, data: bytes) -> None:
        """Keep what the kernel does not take, until it does."""
        self._waiting.append(data)
        self._keep(self._buffered + len(data))
        self._watch()
        if self._buffered > self._high and not self._write_paused:
            self._write_paused = True
            self._protocol.pause_writing()

    def _read_on(self) -> None:
        if self._protocol is not None:
            self.on_readable()

    def _watch(self) -> None:
        if self._protocol is not None:
            events = 0 if self._paused or self._closing else READ
            if self._waiting:
                events |= WRITE
            self._shared.poller.modify(self._sock.fileno(), events)

    def _flush(self) -> None:
        waiting = self._waiting
        try:
            while waiting:
                data = waiting[0]
                sent = self._sock.send(data)
                self._progress = True
                self._keep(self._buffered - sent)
                self._shared.stats.outgoing.other_bytes += sent
                if sent < len(data):
                    waiting[0] = data[sent:]
                    break
                waiting.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(error)
            return
        if self._write_paused and self._buffered <= self._low:
            self._write_paused = False
            self._protocol.resume_writing()
        if not waiting:
            if self._closing:
                self._lost(None)
            else:
                self._watch()

    def _end_soon(self, error: OSError | None) -> None:
        """End it in the next turn: a protocol does not expect that inside a call of its own."""
        self._closing = True
        self._shared.poller.ready.append(lambda: self._lost(error))
        self._shared.poller.wake()

    def _lost(self, error: OSError | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            return
        self._closing = True
        self._corked.clear()
        self._waiting.clear()
        self._keep(0)
        self._shared.streams.remove(self)
        self._shared.closing.discard(self)
        self._shared.poller.forget(self._sock.fileno())
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        protocol.connection_lost(error)
