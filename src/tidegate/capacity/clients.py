"""Many WebSocket clients in one process, on one selector."""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, process_time
from typing import Final

from tidegate.capacity.wire import CLOSE, PING, PONG, frames_of, masked, upgrade

__all__ = ["Client", "Clients", "Server"]

_READ: Final = 65_536
_OPENING: Final = 256  # attempts under way at a time: half a usual accept queue
_PER_ADDRESS: Final = 25_000  # ports of one source address; Linux has 28,232 by default
_HANDSHAKE_SECONDS: Final = 10.0
_LOCAL: Final = "127.0.0.1"


@dataclass(slots=True)
class Server:
    """Where the clients connect to."""

    host: str
    port: int
    path: str
    secure: bool = False
    offered: tuple[str, ...] = ()
    token: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, so that there are as many source addresses as needed."""
        return self.host == _LOCAL


@dataclass(slots=True, eq=False)
class Client:
    """One connection."""

    sock: socket.socket
    began: float
    open: bool = False
    native: bool = False
    """Whether the server speaks the native protocol with it."""
    buffer: bytearray = field(default_factory=bytearray)
    heard: Callable[[Client, int, bytes], None] | None = None
    """Called with the first byte and the payload of each frame that is no ping."""
    after: Callable[[Client], None] | None = None
    """Called when it is open."""


class Clients:
    """Opens, holds and closes clients, and counts what becomes of them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.selector = selectors.DefaultSelector()
        self.all: dict[Client, None] = {}
        """Those that are open, in the order in which they were opened."""
        self.opening: dict[Client, None] = {}
        self.refused: Counter[str] = Counter()
        """Attempts and connections that ended, by what was said."""
        self.handshakes: list[float] = []
        """Seconds from the first byte to the answer, of those that were opened."""
        self.stuck = ""
        """Why this process can open no more."""
        self._made = 0
        self._context: ssl.SSLContext | None = None
        if server.secure:
            self._context = ssl.create_default_context()
        self._request = upgrade(
            f"{server.host}:{server.port}", server.path, server.offered, server.token
        )
        self._address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]

    # One turn.

    def turn(self, timeout: float) -> None:
        """Do what the sockets are ready for, waiting for `timeout` seconds at most."""
        for key, _ in self.selector.select(timeout):
            client: Client = key.data
            if client.open:
                self._read(client)
            else:
                self._open_more(client)

    def run(self, until: float, due: Callable[[float], float] | None = None) -> float:
        """Run until a time; `due` does what is due and returns when it wants to be called again.

        Returns:
            The share of a core that this process used.
        """
        began, cpu = monotonic(), process_time()
        while (now := monotonic()) < until:
            next_ = until if due is None else min(until, due(now))
            self.turn(min(0.05, max(0.0, next_ - monotonic())))
        return (process_time() - cpu) / max(1e-3, monotonic() - began)

    # Opening.

    def open_one(self, after: Callable[[Client], None] | None = None) -> bool:
        """Begin to open a client; False when too many are under way, or no more can be."""
        if len(self.opening) >= _OPENING or self.stuck:
            return False
        family, _, _, _, address = self._address
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self.stuck = _reason(error)
            return False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.server.is_local:
                last = 1 + self._made // _PER_ADDRESS
                sock.bind((f"127.0.{last // 250}.{1 + last % 250}", 0))
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        except OSError as error:
            sock.close()
            if error.errno in (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE):
                self.stuck = _reason(error)
            else:
                self.refused[_reason(error)] += 1
            return False
        self._made += 1
        client = Client(sock, monotonic(), after=after)
        self.opening[client] = None
        self.selector.register(sock, selectors.EVENT_WRITE, client)
        return True

    def expire(self, now: float) -> None:
        """Give up attempts that take too long."""
        late = [one for one in self.opening if now - one.began > _HANDSHAKE_SECONDS]
        for client in late:
            self._end(client, "no answer")

    def close(self, client: Client) -> None:
        """Reset a client, so that its port is free at once."""
        with contextlib.suppress(OSError):
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._forget(client)

    def close_all(self) -> None:
        """Reset all clients."""
        for client in (*self.opening, *self.all):
            self.close(client)

    def send(self, client: Client, frame: bytes) -> bool:
        """Send a frame whole, or not at all when the socket takes no more."""
        try:
            return client.sock.send(frame) == len(frame)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            self._end(client, _reason(error))
            return False

    def _open_more(self, client: Client) -> None:
        """Go on with an attempt: connected, encrypted, answered."""
        sock = client.sock
        try:
            if self.selector.get_key(sock).events == selectors.EVENT_WRITE:
                failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    self._end(client, _reason(OSError(failed, "")))
                    return
                if self._context is not None and not isinstance(sock, ssl.SSLSocket):
                    self.selector.unregister(sock)
                    sock = client.sock = self._context.wrap_socket(
                        sock,
                        server_hostname=self.server.host,
                        do_handshake_on_connect=False,
                    )
                    self.selector.register(sock, selectors.EVENT_WRITE, client)
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                sock.send(self._request)
                self.selector.modify(sock, selectors.EVENT_READ, client)
                return
            if isinstance(sock, ssl.SSLSocket) and sock.version() is None:
                sock.do_handshake()
        except ssl.SSLWantReadError:
            self.selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
            return
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._end(client, _reason(error))
            return
        if not self._receive(client):
            return
        head, found, rest = client.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        status = head.split(b" ", 2)[1:2]
        if status != [b"101"]:
            self._end(client, _refusal(bytes(head)))
            return
        client.native = b"tidegate.v1.json" in head
        client.buffer = rest
        client.open = True
        self.handshakes.append(monotonic() - client.began)
        del self.opening[client]
        self.all[client] = None
        if client.after is not None:
            client.after(client)
        if client.open and rest:
            self._take(client)

    # Reading.

    def _read(self, client: Client) -> None:
        if self._receive(client):
            self._take(client)

    def _receive(self, client: Client) -> bool:
        """Read what has come into the client's buffer; False for nothing, or the end."""
        try:
            data = client.sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError as error:
            self._end(client, _reason(error))
            return False
        if not data:
            self._end(client, "closed")
            return False
        client.buffer += data
        return True

    def _take(self, client: Client) -> None:
        for first, payload in frames_of(client.buffer):
            if first == PING:
                self.send(client, masked(PONG, payload))
            elif first == CLOSE:
                self._end(client, _closed_for(payload))
                return
            elif client.heard is not None:
                client.heard(client, first, payload)

    def _end(self, client: Client, why: str) -> None:
        self.refused[why] += 1
        self._forget(client)

    def _forget(self, client: Client) -> None:
        client.open = False
        self.opening.pop(client, None)
        self.all.pop(client, None)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(client.sock)
        client.sock.close()


def _refusal(head: bytes) -> str:
    """What an HTTP response refuses for: the reason that Tidegate gives, or the status."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"x-rejection-reason":
            return value.strip().decode("ascii", "replace")[:40]
    return "HTTP " + head.split(b" ", 2)[1].decode("ascii", "replace")[:3]


def _closed_for(payload: bytes) -> str:
    """What a close frame says: the reason that Tidegate gives, or the code."""
    try:
        return str(json.loads(payload[2:])["error"])[:40]
    except (ValueError, KeyError, TypeError):
        return str(int.from_bytes(payload[:2])) if payload else "closed"


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
