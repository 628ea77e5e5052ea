"""Accepting: from the kernel's queue to an answer, in one go where the request is there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from tidegate.engine.connection import Connection
from tidegate.engine.opening import Opening
from tidegate.errors import ConfigError
from tidegate.wire.forwarded import normalise
from tidegate.wire.handshake import MAX_HEAD_BYTES, HandshakeError, Request, parse_request

if TYPE_CHECKING:
    from tidegate.core.attempt import Lease
    from tidegate.engine.engine import Engine
    from tidegate.engine.sending import Socket
    from tidegate.wire.deflate import Deflate

__all__ = ["Door", "Grant", "Listener"]

_ACCEPTS_PER_TURN = 64
# Of a turn: at least (or a quarter of what the others took, if that is more), and at most, while
# nobody else waits.
_ACCEPT_SECONDS = (0.00005, 0.001)
_DEFERRED_SECONDS = 1 if sys.platform == "linux" else 0
_PAUSE_SECONDS = 0.2
_PACE_SECONDS = (0.005, 1.0)  # at least as long as a timer is worth, at most until another look
_MORE_TO_COME = getattr(socket, "MSG_MORE", 0)


class Grant(NamedTuple):
    """What the gate gives to an attempt that becomes a connection: the answer, and what was agreed.

    The lease of one that still has to wait is not held.
    """

    response: bytes
    lease: Lease
    path: str
    subprotocol: str | None = None
    deflate: Deflate | None = None
    pending_auth: bool = False
    expires_in: float | None = None
    """Seconds until the token expires, None when it does not."""
    place: Any = None
    """The place of a connection that waits to be let in; it means nothing to the engine."""


class Door(Protocol):
    """Who decides about attempts. It returns what to write; the engine does the writing."""

    def decide(self, request: Request, peer: str, now: float) -> Grant | bytes:
        """Return a grant, or the whole response with which to refuse (or answer plain HTTP)."""

    def malformed(self, error: HandshakeError) -> bytes:
        """Return the response to a request that is not valid HTTP."""

    def timed_out(self) -> bytes:
        """Return the response to a request that did not come in time."""

    def no_descriptor(self) -> bytes:
        """Return the response when the process is out of file descriptors."""

    def failed(self, error: Exception) -> bytes:
        """Return the response when :meth:`decide` raised; no lease may be held then."""

    def wait_for_accept(self, now: float) -> float:
        """Return the seconds for which nobody is to be accepted; 0.0 for none. HOT."""

    def trusts(self, peer: str) -> bool:
        """Return whether ``peer`` is a proxy that may speak for others."""


class Listener:
    """One listening socket on the poller.

    Out of file descriptors it gives up its reserve to accept and refuse one connection at a time,
    so that the kernel's queue drains, nobody waits in vain, and the processor stays idle.
    """

    def __init__(self, engine: Engine, sock: socket.socket, proxy_protocol: bool) -> None:
        self.engine = engine
        self.poller = engine.poller
        self.stats = engine.stats
        self.door = engine.door
        self.tls: ssl.SSLContext | None = engine.tls
        self.openings = engine.openings
        self.proxy_protocol = proxy_protocol
        self._sock = sock
        self._family = int(sock.family)
        self._direct = self.tls is None and not proxy_protocol
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._paused = False
        self._next: Callable[[], None] | None = None  # the next step of the last one accepted

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    def open(self) -> None:
        """Begin to accept."""
        self.poller.register(self._sock.fileno(), self)

    def close(self) -> None:
        """Stop accepting. Attempts that wait in the kernel's queue are reset."""
        if self._sock.fileno() >= 0:
            self.poller.forget(self._sock.fileno())
            self._sock.close()
            while self._next is not None:
                self.poller.guard(self._go_on)
            if self._reserve >= 0:
                os.close(self._reserve)

    def on_events(self, events: int) -> None:  # noqa: ARG002 - see the text
        """Accept; an error on a listening socket shows itself there."""
        self.on_readable()

    def on_crash(self) -> None:
        """Go on accepting: what failed was one attempt."""

    def on_readable(self) -> None:
        """Accept at the end of the turn, when those who are connected have been served."""
        if self._accept not in self.poller.newcomers:
            self.poller.newcomers.append(self._accept)

    def _accept(self) -> None:
        """Accept what waits and answer each whose request is there, until others wait for us.

        That goes in steps, so that others need not wait for all of them: reading the request,
        deciding, and opening the connection.
        """
        if self._sock.fileno() < 0:
            return  # since then, in the same turn
        # accept() of the standard library makes an object that costs as much as the system call.
        accept = self._sock._accept  # type: ignore[attr-defined]
        wait_for_accept = self.door.wait_for_accept
        others_wait = self.poller.others_wait
        own = self._sock.fileno()
        now = monotonic()
        until = now + _ACCEPT_SECONDS[1]
        look = min(now + max(_ACCEPT_SECONDS[0], (now - self.poller.now) / 4), until)
        for _ in range(3 * _ACCEPTS_PER_TURN):
            if self._next is not None:
                self._go_on()
            elif self._paused:
                return
            elif wait := wait_for_accept(now):
                self._rest(min(max(wait, _PACE_SECONDS[0]), _PACE_SECONDS[1]))
                return
            else:
                try:
                    fd, peer = accept()
                except BlockingIOError:
                    return
                except ConnectionAbortedError:
                    continue
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE):
                        self._out_of_descriptors()
                    else:
                        self._pause(f"accept failed: {error.strerror}")
                    return
                self._accepted(fd, peer[0])
            now = monotonic()
            if now >= look:
                if now >= until or others_wait(own):
                    break
                look = now + _ACCEPT_SECONDS[0]
        if self._next is not None:
            self.poller.newcomers.append(self._accept)

    def _go_on(self) -> None:
        step, self._next = self._next, None
        if step is not None:
            step()

    def _accepted(self, fd: int, peer: str) -> None:
        started = monotonic()
        family = self._family
        if family == socket.AF_INET6:
            peer = normalise(peer)  # a dual-stack socket says ::ffff:192.0.2.1
        if not self._direct:
            full = socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
            full.setblocking(False)
            with contextlib.suppress(OSError):  # TLS finds that the peer is gone already
                self._wait(full, peer, started)
            return
        sock = socket.SocketType(family, socket.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        try:
            data = sock.recv(MAX_HEAD_BYTES)
        except BlockingIOError:
            # The kernel has waited for the request already, and that time counts.
            waited = min(_DEFERRED_SECONDS, self.engine.handshake_timeout / 2)
            self._wait(sock, peer, started - waited)
            return
        except OSError:
            sock.close()
            return
        if not data:
            sock.close()
            return
        try:
            request = parse_request(data)
        except HandshakeError as error:
            self.refuse(sock, self.door.malformed(error))
            return
        if request is None:
            self._wait(sock, peer, started).receive(data)
        else:
            self._next = partial(self.answer, sock, peer, request, started)

    def _wait(self, sock: Socket, peer: str, started: float) -> Opening:
        fd = sock.fileno()  # known before TLS takes the socket over
        opening = Opening(self, sock, peer, started)
        self.poller.register(fd, opening)
        self.openings.set(opening, started + self.engine.handshake_timeout)
        return opening

    def answer(
        self, sock: Socket, peer: str, request: Request, started: float, registered: bool = False
    ) -> None:
        """Ask the door about a whole request and do what it says.

        A socket that is not ``registered`` with the poller becomes a connection in the next step.
        """
        try:
            answer = self.door.decide(request, peer, self.poller.now)
        except Exception as error:
            answer = self.door.failed(error)
        if type(answer) is bytes:
            self.refuse(sock, answer, registered)
            return
        grant = cast(Grant, answer)
        if registered:
            self._open(sock, request, started, grant, registered)
        else:
            self._next = partial(self._open, sock, request, started, grant, registered)

    def _open(
        self, sock: Socket, request: Request, started: float, grant: Grant, registered: bool
    ) -> None:
        engine = self.engine
        engine.count += 1
        connection = Connection(
            engine,
            sock,
            engine.count,
            grant.lease,
            grant.path,
            grant.subprotocol,
            grant.deflate,
            grant.pending_auth,
        )
        try:
            engine.granted(connection, grant)
            connection.start(grant.response, request, registered)
        except Exception:
            connection.abort()  # gives the lease back
            raise
        engine.stats.handshake_duration.observe(monotonic() - started)

    def refuse(self, sock: Socket, response: bytes, registered: bool = False) -> None:
        """Write a response that ends the attempt, and make sure that it can be read."""
        # A fresh socket's buffer takes it whole; if not, the peer is of no such kind anyway.
        with contextlib.suppress(OSError):
            if type(sock) is socket.SocketType:
                # Held back for an instant, so that the end of the stream goes in the same packet.
                self.stats.bytes_sent += sock.send(response, _MORE_TO_COME)
            else:
                self.stats.bytes_sent += sock.send(response)
        if registered:
            self.poller.forget(sock.fileno())
        self.engine.lingerers.add(sock, self.poller.now)

    def _out_of_descriptors(self) -> None:
        self.engine.warn("out of file descriptors; refusing connections until some are free")
        for _ in range(_ACCEPTS_PER_TURN):
            if self._reserve >= 0:
                os.close(self._reserve)
                self._reserve = -1
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                break
            except OSError:
                self._pause("no file descriptor for accepting")
                break
            with sock:
                sock.setblocking(False)
                # No descriptor can be kept for a polite end: what is there is read, so that
                # closing sends no reset over it.
                with contextlib.suppress(OSError):
                    sock.recv(65536)
                with contextlib.suppress(OSError):
                    if self.tls is None:
                        sock.send(self.door.no_descriptor())
                    sock.shutdown(socket.SHUT_WR)
            self._take_reserve()
            if self._reserve < 0:
                break
        if self._reserve < 0:
            self._take_reserve()

    def _take_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _pause(self, why: str) -> None:
        """Stop accepting for a moment, instead of failing in every turn."""
        if not self._paused:
            self.engine.warn(why)
            self._rest(_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        """Accept nobody for a while; who comes meanwhile waits in the kernel's queue."""
        if not self._paused:
            self._paused = True
            self.poller.modify(self._sock.fileno(), 0)
            self.engine.loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._sock.fileno() < 0:
            return
        if self._reserve < 0:
            self._take_reserve()
        self._paused = False
        self.poller.modify(self._sock.fileno(), 1)


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        ConfigError: the address cannot be used; the text says why.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"server.host = {host!r}: {error.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what is accepted, which saves a system call for each connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # The kernel hands a connection over when its request is there (tcp(7)).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFERRED_SECONDS)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}"
        ) from None
    return sock
