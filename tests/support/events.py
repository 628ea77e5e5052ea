"""A client of the fallback, made of nothing but sockets: a stream of events, and posts."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.support.net import reset

__all__ = ["Answer", "Event", "Events", "ask"]

PATH = "/sse"


class Answer(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: dict[str, str]
    body: Any


class Event(NamedTuple):
    """One event as it came."""

    name: str
    data: Any
    id: str
    retry: int | None


def _connect(port: int, tls: bool, receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(20)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return sock
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname="localhost")


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _read_answer(file: Any) -> Answer:
    status = file.readline().split(b" ", 2)
    if len(status) < 2:
        raise EOFError("no response")
    headers: dict[str, str] = {}
    while line := file.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = file.read(int(headers.get("content-length", "0")))
    if headers.get("content-type") == "application/json":
        body = json.loads(body)
    return Answer(int(status[1]), headers, body)


def ask(
    port: int,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    path: str = PATH,
    tls: bool = False,
) -> Answer:
    """One request on a connection of its own."""
    with _connect(port, tls) as sock:
        sock.sendall(_request(method, path, headers or {}, body))
        return _read_answer(sock.makefile("rb"))


class _Chunks:
    """The lines of a body that a proxy passes on in chunks (RFC 9112, section 7.1)."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = b""

    def readline(self) -> bytes:
        while b"\n" not in self._left:
            size = int(self._file.readline() or b"0", 16)
            if not size:
                return b""
            self._left += self._file.read(size)
            self._file.readline()
        line, _, self._left = self._left.partition(b"\n")
        return line + b"\n"

    def close(self) -> None:
        self._file.close()


class Events:
    """A stream, opened when it is made; `answer` is a refusal if there is none.

    Args:
        headers: of the request for the stream.
    """

    def __init__(
        self,
        port: int,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = PATH,
        tls: bool = False,
        receive_buffer: int | None = None,
    ) -> None:
        self.port = port
        self.path = path
        self.tls = tls
        self.key = ""
        self.events: list[Event] = []
        self.answer: Answer | None = None
        self._posts: Any = None
        self.sock = _connect(port, tls, receive_buffer)
        self.sock.sendall(_request("GET", path, headers or {}, None))
        self._file: Any = self.sock.makefile("rb")
        status = self._file.readline()
        self.head: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            self.head[name.lower()] = value.strip()
        self.status = int(status.split()[1])
        if self.status != 200:
            body = self._file.read(int(self.head["content-length"]))
            self.answer = Answer(self.status, self.head, json.loads(body))
            self.sock.close()
            return
        if self.head.get("transfer-encoding") == "chunked":
            self._file = _Chunks(self._file)
        self.opened = self.next_event()
        assert self.opened.name == "opened"
        self.key = self.opened.data["key"]

    def next_event(self) -> Event:
        """The next event; comments are skipped. Raises EOFError at the end."""
        name, event_id, retry = "message", "", None
        data: list[str] = []
        while True:
            raw = self._file.readline()
            if not raw:
                raise EOFError
            line = raw.decode().rstrip("\n")
            if not line:
                if data:
                    break
                continue
            field, _, value = line.partition(": ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
            elif field == "id":
                event_id = value
            elif field == "retry":
                retry = int(value)
            else:
                assert line.startswith(":"), line
        event = Event(name, json.loads("\n".join(data)), event_id, retry)
        self.events.append(event)
        return event

    def next(self, kind: str | None = None) -> dict[str, Any]:
        """The next message of the protocol, of a type if one is given; others are skipped."""
        while True:
            event = self.next_event()
            assert event.name == "message", event
            message: dict[str, Any] = event.data
            if kind is None or message["type"] == kind:
                return message

    def closed(self) -> tuple[int, dict[str, Any]]:
        """Read to the end: code and reason of the last event, after which the response ends."""
        while (event := self.next_event()).name != "closed":
            pass
        try:
            self.next_event()
        except (EOFError, ConnectionResetError):
            return event.data["code"], json.loads(event.data["reason"])
        raise AssertionError("something follows the last event")

    def ends(self) -> None:
        """Fail if it does not end without a last event."""
        try:
            while True:
                assert self.next_event().name == "message"
        except (EOFError, ConnectionResetError):
            pass

    def post(
        self,
        *messages: dict[str, Any],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post messages on a connection that is kept for that."""
        if body is None:
            body = json.dumps(messages[0] if len(messages) == 1 else messages).encode()
        if self._posts is None:
            self._posts = _connect(self.port, self.tls)
        own = {"X-Stream-Key": self.key, "Content-Type": "application/json", **(headers or {})}
        self._posts.sendall(_request("POST", self.path, own, body))
        answer = _read_answer(self._posts.makefile("rb"))
        if answer.status >= 300:
            self._posts.close()
            self._posts = None
        return answer

    def say(self, kind: str, **fields: Any) -> None:
        """Post one message, which must be taken."""
        answer = self.post({"type": kind, **fields})
        assert answer.status == 204, answer

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Post a message with an id; its answer, which must be the next message to come."""
        self.say(kind, id="q1", **fields)
        answer = self.next()
        assert answer.pop("id") == "q1", answer
        return answer

    def close(self) -> None:
        """Leave."""
        if self._posts is not None:
            self._posts.close()
        self._file.close()
        self.sock.close()

    def vanish(self) -> None:
        """Leave with a reset."""
        if self._posts is not None:
            self._posts.close()
        self._file.close()
        reset(self.sock)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
