"""The protocol that NATS servers and their clients speak, as one end of a connection.

It is a text protocol (docs.nats.io, "NATS Protocol"). Here it is spoken by us, and not by nats-py:
that has a task for each subscription, so for each room, and its PING overtakes what was published
before it, so that the PONG confirms nothing.

    INFO {json}                              the server, first and when something changes
    CONNECT {json}                           the client, once
    PUB subject [reply] bytes                then so many bytes
    HPUB subject [reply] head-bytes bytes    the same with headers before the message
    SUB subject sid     UNSUB sid
    MSG subject sid [reply] bytes            HMSG subject sid [reply] head-bytes bytes
    PING     PONG     +OK     -ERR 'text'
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import msgspec

__all__ = ["Message", "Wire", "request"]

_LONGEST_LINE: Final = 1 << 20  # an INFO names all servers of a cluster
_END: Final = b"\r\n"


class Message(NamedTuple):
    """One that the server delivers."""

    sid: int
    subject: bytes
    head: bytes
    """Its headers as they come, empty without any."""
    data: bytes
    reply: bytes = b""
    """The subject on which it may be answered."""

    @property
    def status(self) -> int:
        """What JetStream says in place of a message, 503 where nobody answers; 0 for nothing."""
        status = self.head[9:12]  # NATS/1.0 503
        return int(status) if status.isdigit() else 0

    def header(self, name: bytes) -> bytes:
        """Return the value of a header; empty without it."""
        start = self.head.find(_END + name + b": ")
        if start < 0:
            return b""
        start += len(name) + 4
        return self.head[start : self.head.index(_END, start)]

    def headers(self) -> dict[str, str]:
        """Return all headers; of those with the same name, the last."""
        found = {}
        for line in self.head.split(_END)[1:]:
            name, colon, value = line.partition(b":")
            if colon:
                found[name.decode("utf-8", "replace")] = value.strip().decode("utf-8", "replace")
        return found


def request(subject: str, reply: str, data: bytes, head: bytes = b"") -> bytes:
    """Return the command that publishes something; answers go to `reply`, if it is not empty. HOT.

    Args:
        head: its headers, a line for each, with its end.
    """
    if not head:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
    head = b"NATS/1.0\r\n%b\r\n" % head
    sizes = len(head), len(head) + len(data)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), *sizes, head, data)


class Wire(asyncio.Protocol):
    """One connection.

    Args:
        message: told each message.
        pong: told each PONG.
        trouble: told the text of each error of the server.
        informed: told what the server says of itself, first and later.
    """

    def __init__(
        self,
        message: Callable[[Message], None],
        pong: Callable[[], None],
        trouble: Callable[[str], None],
        informed: Callable[[dict[str, Any]], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._message = message
        self._pong = pong
        self._trouble = trouble
        self._informed = informed
        self._buffer = bytearray()
        self._waiting: tuple[int, bytes, bytes, int, int] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.first: asyncio.Future[dict[str, Any]] = loop.create_future()
        """What the server said of itself first."""
        self.lost: asyncio.Future[Exception] = loop.create_future()
        """Why the connection has ended, once it has."""
        self._greeted: asyncio.Future[None] | None = None
        self.last_error = ""
        """What the server said last that is wrong; it says so before it ends a connection."""

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.use(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self._transport = None
        if not self.lost.done():
            text = self.last_error or "the server has closed the connection"
            self.lost.set_result(error or ConnectionError(text))
        if not self.first.done():
            self.first.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what has come. HOT."""
        self._buffer += data
        try:
            self._parse()
        except (ValueError, IndexError, msgspec.DecodeError) as error:
            self.end(ConnectionError(f"the server does not speak NATS: {error}"))

    # For the link.

    def use(self, transport: asyncio.BaseTransport) -> None:
        """Write to this transport: another one with TLS."""
        # Those of uvloop are no subclasses.
        self._transport = cast("asyncio.WriteTransport", transport)

    def greet(self, answer: asyncio.Future[None], data: bytes) -> None:
        """Send the first commands, with one PING: `answer` is set by its PONG."""
        self._greeted = answer
        self.write(data)

    def write(self, data: bytes) -> None:
        """Send bytes; they are lost when the connection has ended."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """End the connection when all is sent."""
        if self._transport is not None:
            self._transport.close()

    def end(self, error: Exception) -> None:
        """End the connection, and say that this is why."""
        if not self.lost.done():
            self.lost.set_result(error)
        if self._transport is not None:
            self._transport.abort()

    def _parse(self) -> None:
        buffer = self._buffer
        at = 0
        try:
            while True:
                waiting = self._waiting
                if waiting is not None:
                    sid, subject, reply, head, size = waiting
                    end = at + size
                    if len(buffer) < end + 2:
                        return
                    middle = at + head
                    self._waiting = None
                    message = Message(
                        sid, subject, bytes(buffer[at:middle]), bytes(buffer[middle:end]), reply
                    )
                    at = end + 2
                    self._message(message)
                    continue
                end = buffer.find(_END, at)
                if end < 0:
                    if len(buffer) - at > _LONGEST_LINE:
                        raise ValueError("a line is too long")
                    return
                line = bytes(buffer[at:end])
                at = end + 2
                self._line(line)
        finally:
            del buffer[:at]

    def _line(self, line: bytes) -> None:
        kind, _, rest = line.partition(b" ")
        kind = kind.upper()
        if kind == b"MSG":
            words = rest.split()
            reply = words[2] if len(words) > 3 else b""
            self._waiting = int(words[1]), words[0], reply, 0, _size(words[-1])
        elif kind == b"HMSG":
            words = rest.split()
            reply = words[2] if len(words) > 4 else b""
            self._waiting = int(words[1]), words[0], reply, _size(words[-2]), _size(words[-1])
        elif kind == b"PING":
            self.write(b"PONG\r\n")
        elif kind == b"PONG":
            greeted, self._greeted = self._greeted, None
            if greeted is None:
                self._pong()
            elif not greeted.done():
                greeted.set_result(None)
        elif kind == b"INFO":
            info = msgspec.json.decode(rest, type=dict[str, Any])
            if not self.first.done():
                self.first.set_result(info)
            self._informed(info)
        elif kind == b"-ERR":
            self.last_error = rest.decode("utf-8", "replace").strip("'")[:200]
            self._trouble(self.last_error)
        elif kind != b"+OK":
            raise ValueError(f"it sent {line[:40]!r}")


def _size(word: bytes) -> int:
    size = int(word)
    if size < 0:
        raise ValueError("a size is negative")
    return size
