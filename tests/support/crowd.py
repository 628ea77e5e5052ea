"""Many clients of the native protocol in one thread, each with a record of what came when."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from tests.support.raw import CLOSE, PING, TEXT, frame, upgrade

__all__ = ["Crowd", "Member"]

_NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
_PER_SOURCE = 5000  # connections from one address, well below the ports that there are
_AT_ONCE = 500  # opened before the answers are read


class Member:
    """One client: it answers closes, and keeps when and what it was told.

    `heard` has, for each sender, the numbers of its room messages in the order they came.
    """

    __slots__ = (
        "acks",
        "buffer",
        "closed",
        "connected",
        "gone",
        "heard",
        "joined",
        "notice",
        "number",
        "room",
        "said",
        "sock",
    )

    def __init__(self, number: int, sock: socket.socket, room: str | None) -> None:
        self.number = number
        self.sock = sock
        self.room = room
        self.buffer = b""
        self.connected = False
        self.joined = room is None
        self.notice: tuple[float, float] | None = None
        self.closed: tuple[float, int, str] | None = None
        self.gone: float | None = None
        self.said = 0
        self.acks: list[tuple[float, int]] = []
        self.heard: dict[int, list[int]] = {}


class Crowd:
    """`count` clients; `room` says by its number which room each joins, if any."""

    def __init__(
        self, port: int, count: int, room: Callable[[int], str | None] = lambda _: None
    ) -> None:
        self.members: list[Member] = []
        self.lateness = 0.0
        """The most seconds by which something may have come before it was read; set it to 0."""
        self._looked = time.monotonic()
        self._epoll = select.epoll()
        self._by_fd: dict[int, Member] = {}
        for number in range(count):
            sock = socket.socket()
            sock.bind((f"127.0.0.{2 + number // _PER_SOURCE}", 0))
            sock.connect(("127.0.0.1", port))
            sock.sendall(upgrade(headers=[_NATIVE]))
            sock.setblocking(False)
            member = Member(number, sock, room(number))
            self.members.append(member)
            self._by_fd[sock.fileno()] = member
            self._epoll.register(sock, select.EPOLLIN)
            if number % _AT_ONCE == _AT_ONCE - 1:
                self.wait(lambda: self.members[-1].joined, 20)
        self.wait(lambda: all(m.connected and m.joined for m in self.members), 20)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.sock.close()
        self._epoll.close()

    @property
    def left(self) -> int:
        """How many still have their connection."""
        return len(self._by_fd)

    def say(self, member: Member) -> None:
        """Say the next number to the member's room, to be acknowledged."""
        number = member.said
        message = {
            "type": "room_message",
            "room": member.room,
            "id": number,
            "data": [member.number, number],
        }
        try:
            member.sock.send(frame(TEXT, json.dumps(message).encode()))
        except OSError:
            return
        member.said += 1

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        """Read what comes until `condition` holds; fail after so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s"
            self.read(0.05)

    def read(self, seconds: float) -> None:
        """Read what is there, waiting so long for the first."""
        ready = self._epoll.poll(seconds)
        looked, self._looked = self._looked, time.monotonic()
        for fd, _ in ready:
            member = self._by_fd.get(fd)
            if member is not None:
                self._receive(member)
        self.lateness = max(self.lateness, time.monotonic() - looked)

    def _receive(self, member: Member) -> None:
        try:
            data = member.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        if not data:
            self._epoll.unregister(member.sock)
            del self._by_fd[member.sock.fileno()]
            member.gone = now
            return
        buffer = member.buffer + data
        if not member.connected:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                member.buffer = buffer
                return
            assert buffer.startswith(b"HTTP/1.1 101 "), buffer
            member.connected = True
            buffer = buffer[end + 4 :]
            if member.room is not None:
                join = {"type": "join", "room": member.room, "id": "join"}
                member.sock.send(frame(TEXT, json.dumps(join).encode()))
        at, size = 0, len(buffer)
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            if size - start < length:
                break
            self._take(member, buffer[at] & 15, buffer[start : start + length], now)
            at = start + length
        member.buffer = buffer[at:]

    def _take(self, member: Member, opcode: int, payload: bytes, now: float) -> None:
        assert member.closed is None, "something came after the close frame"
        if opcode == TEXT:
            self._understand(member, json.loads(payload), now)
        elif opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0]
            member.closed = (now, code, payload[2:].decode())
            member.sock.send(frame(CLOSE, payload[:2]))
        else:
            assert opcode == PING

    def _understand(self, member: Member, message: dict[str, Any], now: float) -> None:
        match message["type"]:
            case "room_message":
                sender, number = message["data"]
                member.heard.setdefault(sender, []).append(number)
            case "ack" if message["id"] == "join":
                member.joined = True
            case "ack":
                member.acks.append((now, message["id"]))
            case "server_shutdown":
                assert member.notice is None, "told twice"
                assert message["reason"] == "drained"
                member.notice = (now, message["reconnectDelay"])
            case other:
                assert other == "connected", message
