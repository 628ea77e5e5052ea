"""Accepting: from the kernel's queue to an answer, in one go where the request is there."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING

from tidegate.addresses import UNIX_PEER, counted
from tidegate.core.codes import DECISION_TIMEOUT, SERVER_LIMIT
from tidegate.engine.connection import Connection
from tidegate.engine.door import Grant
from tidegate.engine.endpoints import DEFERRED_SECONDS, bound_kernel
from tidegate.engine.events import EventStream
from tidegate.engine.plain import Plain
from tidegate.engine.poller import READ, Entry
from tidegate.engine.reserve import Reserve
from tidegate.engine.sockets import peer_port
from tidegate.engine.waiting import Waiting
from tidegate.wire.handshake import (
    MAX_HEAD_BYTES,
    HandshakeError,
    Request,
    is_upgrade,
    parse_request,
)

if TYPE_CHECKING:
    from tidegate.engine.door import Undecided
    from tidegate.engine.endpoints import Endpoint
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket

__all__ = ["Listener"]

_BATCH = 16
# Of a turn: at least (or a quarter of what the others took, if that is more), and at most, while
# nobody else waits.
_ACCEPT_SECONDS = (0.00005, 0.001)
_PAUSE_SECONDS = 0.2
_PACE_SECONDS = (0.005, 1.0)  # at least as long as a timer is worth, at most until another look
_MORE_TO_COME = getattr(socket, "MSG_MORE", 0)


class Listener(Entry):
    """One listening socket on the poller.

    Attempts go through three phases, from one queue to the next: those that arrived have their
    request read, those that ask are decided about, and then they are told, or let in.

        kernel's queue -> arrived -> asking -> granted -> connection
                             |        ^ ^ |
                             |        | | +--> refused -> lingerer
                             |        | +----> Parked, until the decision is known
                             +-> Opening, until the request is whole

    A batch goes through each phase together, because that costs half as much as one after the
    other: the code and the tables of one phase fit the processor's caches, those of all do not.

    File descriptors are shared out (`engine.descriptors`): when those of connections have run out,
    attempts are read and refused as ever. When none at all is left, it gives up its reserve to
    answer one connection at a time, so that the kernel's queue drains, nobody waits in vain, and
    the processor stays idle.
    """

    def __init__(self, shared: Shared, endpoint: Endpoint, proxy_protocol: bool) -> None:
        self.shared = shared
        self.door = shared.door
        self.tls: ssl.SSLContext | None = shared.tls
        self._poller = shared.poller
        self._http = shared.application.http_server
        self.proxy_protocol = proxy_protocol
        self._endpoint = endpoint
        sock = self._sock = endpoint.sock
        self._family = int(sock.family)
        self._unix = sock.family == socket.AF_UNIX
        self._direct = self.tls is None and not proxy_protocol
        self._reserve = Reserve(shared)
        self._plain = Plain(shared, self, self._reserve)
        self._waiting = Waiting(shared, self, proxy_protocol)
        self._for_connections = shared.shares.connections
        self._for_clients = shared.shares.clients
        self._accepts, self._paused, self._closed = True, False, False
        # When it arrived, in monotonic seconds, stands last where it is needed.
        self._arrived: deque[tuple[int, str, float]] = deque()
        self._asking: deque[tuple[Socket, str, Request, float, Undecided | None]] = deque()
        self._refused: deque[tuple[Socket, bytes, str]] = deque()
        self._granted: deque[tuple[Socket, Request, Grant, float]] = deque()
        self._steps: Iterator[None] | None = None  # what is left of the last turn

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on, as `Endpoint.address` has them."""
        return self._endpoint.address

    @property
    def idle(self) -> bool:
        """Whether no attempt that it has accepted is in one of its queues."""
        return not (self._arrived or self._asking or self._refused or self._granted)

    def bound_kernel(self, kernel_bytes: int) -> None:
        """Bound what the kernel keeps for each connection that is accepted from now on."""
        bound_kernel(self._sock, kernel_bytes)

    def open(self) -> None:
        """Begin to accept."""
        self.bound_kernel(self.shared.outbox.kernel_bytes)
        self._poller.register(self._sock.fileno(), self)

    def stop_accepting(self) -> None:
        """Leave the kernel's queue to other processes that have the socket."""
        self._accepts = False
        self._poller.modify(self._sock.fileno(), 0)

    def close(self) -> None:
        """Stop accepting. The kernel resets what is in its queue, unless others have the socket."""
        if not self._closed:
            self._accepts, self._closed = False, True
            self._poller.release(self._sock.fileno())
            self._endpoint.close()
            while not self.idle:
                self._poller.guard(lambda: deque(self._work(), 0).clear())
            self._reserve.give_up()

    def on_events(self, events: int) -> bool:  # noqa: ARG002 - see the text
        """Accept; an error on a listening socket shows itself there."""
        return True

    def on_crash(self) -> None:
        """Go on accepting: what failed was one attempt."""

    def on_readable(self) -> None:
        """Go through attempts at the end of the turn, when all connections were served."""
        if self._let_in not in self._poller.attempts:
            self._poller.attempts.append(self._let_in)

    def ask(
        self,
        sock: Socket,
        peer: str,
        request: Request,
        arrived: float,
        undecided: Undecided | None = None,
    ) -> None:
        """Take an attempt that can be decided about; no poller may watch its socket."""
        self._asking.append((sock, peer, request, arrived, undecided))
        self.on_readable()
        self._poller.wake()

    def _let_in(self) -> None:
        """Go from step to step until others wait for us, or nobody is left."""
        steps, self._steps = self._steps or self._work(), None
        others_wait = self._poller.others_wait
        own = self._sock.fileno()
        now = monotonic()
        until = now + _ACCEPT_SECONDS[1]
        look = min(now + max(_ACCEPT_SECONDS[0], (now - self._poller.now) / 4), until)
        try:
            for _ in steps:
                now = monotonic()
                if now >= look:
                    if now >= until or others_wait(own):
                        self._steps = steps
                        self._poller.attempts.append(self._let_in)
                        return
                    look = now + _ACCEPT_SECONDS[0]
        except Exception:
            self.on_readable()  # what failed was one attempt; the others go on
            raise

    def _work(self) -> Iterator[None]:
        """Yield after every step. It ends when nobody is left who may come in now."""
        arrived, asking = self._arrived, self._asking
        refused, granted = self._refused, self._granted
        while True:
            while arrived:
                self._read(*arrived.popleft())
                yield
            held = False
            while asking and not (held := self._hold()):
                self._decide(*asking.popleft())
                yield
            while refused:
                self.refuse(*refused.popleft())
                yield
            while granted:
                self._open(*granted.popleft())
                yield
            while not asking and len(arrived) < _BATCH and self._accept():
                yield
            # While others were served, one whose request came late may have asked.
            if not arrived and (held or not asking):
                return

    def _hold(self) -> bool:
        """Rest if the door wants nobody to be decided about for now; True when it does."""
        wait = self.door.wait_to_decide(monotonic())
        if not wait or self._closed:
            return False
        self._rest(min(max(wait, _PACE_SECONDS[0]), _PACE_SECONDS[1]))
        return True

    def _accept(self) -> bool:
        """Accept one from the kernel's queue; False when there is none, or not to be for now."""
        if self._paused or not self._accepts:
            return False
        try:
            # accept() of the standard library makes an object that costs as much as the call.
            fd, peer = self._sock._accept()  # type: ignore[attr-defined]  # CPython's own
        except BlockingIOError:
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                if not self._reserve.answer_queue(self._sock):
                    self._pause("no file descriptor for accepting")
            else:
                self._pause(f"accept failed: {error.strerror}")
            return False
        if fd < self._for_clients:
            self._arrived.append((fd, UNIX_PEER if self._unix else peer[0], monotonic()))
        else:
            sock = socket.socket(self._family, socket.SOCK_STREAM, 0, fileno=fd)
            self._reserve.answer(sock, peer)
        return True

    def _read(self, fd: int, peer: str, arrived: float) -> None:
        """Read the request; if it is not there in whole, the attempt waits on the poller."""
        family = self._family
        if family == socket.AF_INET6:
            peer = counted(peer)  # a dual-stack socket says ::ffff:192.0.2.1
        if not self._direct:
            full = socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
            full.setblocking(False)
            with contextlib.suppress(OSError):  # TLS finds that the peer is gone already
                self._waiting.wait(full, peer, arrived)
            return
        sock = socket.SocketType(family, socket.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        try:
            data = sock.recv(MAX_HEAD_BYTES)
        except BlockingIOError:
            # The kernel has waited for the request already, and that time counts.
            waited = min(0 if self._unix else DEFERRED_SECONDS, self.shared.handshake_timeout / 2)
            self._waiting.wait(sock, peer, arrived - waited)
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
            self.malformed(sock, peer, data, error)
            return
        if request is None:
            self._waiting.wait(sock, peer, arrived, data)
        elif self._http is None or is_upgrade(request):
            self._asking.append((sock, peer, request, arrived, None))
        else:
            self._plain.serve(sock, peer, data)

    def whole(self, sock: Socket, peer: str, data: bytes, request: Request, arrived: float) -> None:
        """Take an attempt whose request came late; no poller may watch its socket."""
        if self._http is None or is_upgrade(request):
            self.ask(sock, peer, request, arrived)
        else:
            self._plain.serve(sock, peer, data)

    def malformed(self, sock: Socket, peer: str, data: bytes, error: HandshakeError) -> None:
        """Take what is no valid handshake."""
        self._plain.malformed(sock, peer, data, error)

    def counted(self, peer: str) -> str | None:
        """What a peer is counted under; None for a proxy, whose clients are counted."""
        return None if self.door.trusts(peer) else peer

    def _decide(
        self,
        sock: Socket,
        peer: str,
        request: Request,
        arrived: float,
        undecided: Undecided | None,
    ) -> None:
        """Ask the door about a whole request, or for a decision that was not known before."""
        now = self._poller.now
        answer: Grant | bytes | Undecided
        try:
            if sock.fileno() >= self._for_connections and self._reserve.is_needed(sock):
                if undecided is None:
                    answer = self.door.no_descriptor(request, peer)
                else:
                    answer = undecided.refuse(SERVER_LIMIT)
            elif undecided is None:
                if self.shared.application.negotiates:
                    request.peer = peer, peer_port(sock, peer)
                answer = self.door.decide(request, peer, now)
            else:
                answer = undecided.decide(now)
        except Exception as error:
            answer = self.door.failed(error)
        if isinstance(answer, bytes):
            self._refused.append((sock, answer, peer))
        elif isinstance(answer, Grant):
            self._granted.append((sock, request, answer, arrived))
        else:
            refusal = self._waiting.park(sock, peer, request, arrived, answer)
            if refusal is not None:
                self._refused.append((sock, refusal, peer))

    def _open(self, sock: Socket, request: Request, grant: Grant, arrived: float) -> None:
        shared = self.shared
        number = None if grant.resumed is None else grant.resumed.number
        if number is None:
            number = shared.count + 1
        shared.count = max(shared.count, number)
        kind = Connection if grant.stream_key is None else EventStream
        connection = kind(shared, sock, number, grant)
        try:
            shared.host.granted(connection, grant)
            connection.start(grant.response, request)
        except Exception:
            connection.abort()  # gives the lease back
            raise
        shared.stats.handshake_duration.observe(monotonic() - arrived)

    def refuse(self, sock: Socket, response: bytes, peer: str) -> None:
        """Write a response that ends the attempt, and make sure that it can be read.

        No poller may watch the socket.
        """
        # A fresh socket's buffer takes it whole; if not, the peer is of no such kind anyway.
        with contextlib.suppress(OSError):
            if type(sock) is socket.SocketType:
                # Held back for an instant, so that the end of the stream goes in the same packet.
                self.shared.stats.outgoing.other_bytes += sock.send(response, _MORE_TO_COME)
            else:
                self.shared.stats.outgoing.other_bytes += sock.send(response)
        self.shared.lingerers.add(sock, self._poller.now, self.counted(peer))

    def crowd(self, sock: Socket, peer: str) -> None:
        """End an attempt whose address has too many that are unfinished."""
        response = self.door.crowded(peer)
        if self.tls is None:
            self.refuse(sock, response, peer)
        else:
            sock.close()

    def _pause(self, why: str) -> None:
        """Stop accepting for a moment, instead of failing in every turn."""
        if not self._paused:
            self.shared.host.warn(why)
            self._rest(_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        """Accept nobody for a while; who comes meanwhile waits in the kernel's queue."""
        if not self._paused:
            self._paused = True
            self._poller.modify(self._sock.fileno(), 0)
            self.shared.loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._closed:
            return
        self._reserve.take()
        self._paused = False
        self._poller.modify(self._sock.fileno(), READ if self._accepts else 0)
        if self._asking:
            self._refuse_late()
            self.on_readable()
            self._poller.wake()

    def _refuse_late(self) -> None:
        """Refuse attempts that the door has let nobody decide about for too long."""
        since = monotonic() - self.shared.handshake_timeout
        for _ in range(len(self._asking)):
            attempt = self._asking.popleft()
            sock, peer, request, arrived, undecided = attempt
            if arrived >= since:
                self._asking.append(attempt)
            elif undecided is None:
                self._refused.append((sock, self.door.overdue(request, peer), peer))
            else:
                self._refused.append((sock, undecided.refuse(DECISION_TIMEOUT), peer))
