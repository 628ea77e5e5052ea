"""An attempt whose request is not there yet: TLS handshake, PROXY header, slow or split heads.

Most attempts never become an :class:`Opening`: their request is there when they are accepted and
is answered at once. These here wait on the poller, hold no lease, and end at the deadline.
"""

from __future__ import annotations

import ssl
from socket import MSG_PEEK, socket
from time import monotonic
from typing import TYPE_CHECKING, cast

from tidegate.engine.poller import READ, WRITE, Entry
from tidegate.engine.tls import TlsSocket
from tidegate.errors import PeerError
from tidegate.wire.forwarded import MAX_PROXY_V1, PROXY_START, PROXY_V1, parse_proxy, proxy_length
from tidegate.wire.handshake import HandshakeError, head_end, parse_request

if TYPE_CHECKING:
    from tidegate.engine.door import Door
    from tidegate.engine.parked import Parking
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket

__all__ = ["Opening"]

_PROXY, _TLS, _HEAD, _ENDED = range(4)  # the stages, in their order


class Opening(Entry):
    """One socket between accept and the whole request.

    Args:
        listener: takes the attempt over when its request is whole.
        started: when it was accepted, in monotonic seconds.
        proxy_protocol: whether a PROXY header comes first.
        key: what `Unfinished.enter` returned for its peer.
    """

    __slots__ = (
        "_buffer",
        "_listener",
        "_peer",
        "_shared",
        "_sock",
        "_stage",
        "_started",
        "_writing",
        "key",
    )

    def __init__(
        self,
        shared: Shared,
        listener: Parking,
        sock: Socket,
        peer: str,
        started: float,
        proxy_protocol: bool,
        key: str,
    ) -> None:
        self._shared = shared
        self._listener = listener
        self._sock = sock
        self._peer = peer
        self._started = started
        self.key = key
        self._buffer = b""
        self._writing = False
        if proxy_protocol:
            self._stage = _PROXY
        elif shared.tls is not None:
            self._begin_tls(shared.tls)
        else:
            self._stage = _HEAD

    def on_events(self, events: int) -> bool:  # noqa: ARG002 - see the text
        """Go on; what the event was shows in the next call on the socket."""
        return True

    def on_readable(self) -> None:
        """Take the next step of this attempt, if the bytes for it are there."""
        try:
            if self._stage == _PROXY:
                self._read_proxy_header()
            if self._stage == _TLS:
                self._shake_hands()
            if self._stage == _HEAD:
                self._read_head()
        except BlockingIOError:
            return
        except PeerError as error:
            self._shared.host.warn(f"connection from {self._peer} dropped: {error}")
            self.drop()
        except OSError:
            self.drop()

    def on_crash(self) -> None:
        """Close without an answer."""
        self.drop()

    def timeout(self) -> None:
        """The handshake took too long: say so where the peer can read it."""
        self._end(self._door.timed_out(self._peer))

    def give_way(self) -> None:
        """Make room for another attempt; say so where the peer can read it."""
        self._end(self._door.no_descriptor(None, self._peer))

    def drop(self) -> None:
        """Close without an answer."""
        self._leave()
        self._sock.close()

    def receive(self, data: bytes) -> None:
        """Add to the head, and let the listener answer when it is whole."""
        before = len(self._buffer)
        data = self._buffer = self._buffer + data
        try:
            # The end may begin up to three bytes before what is new.
            request = parse_request(data) if head_end(data, max(0, before - 3)) >= 0 else None
        except HandshakeError as error:
            self._leave()
            self._listener.malformed(self._sock, self._peer, data, error)
            return
        if request is not None:
            self._leave()
            self._listener.whole(self._sock, self._peer, data, request, self._started)

    @property
    def _door(self) -> Door:
        return self._shared.door

    def _end(self, response: bytes) -> None:
        if self._stage == _HEAD:
            self._leave()
            self._listener.refuse(self._sock, response, self._peer)
        else:
            self.drop()

    def _leave(self) -> None:
        self._stage = _ENDED
        self._shared.openings.discard(self)
        self._shared.unfinished.leave(self.key)
        self.key = ""
        self._shared.poller.release(self._sock.fileno())

    def _read_head(self) -> None:
        data = self._sock.recv(65536)
        if data:
            self.receive(data)
        else:
            self.drop()

    def _read_proxy_header(self) -> None:
        buffer = self._buffer
        header = None
        while header is None:
            data = self._read_of_proxy_header(buffer)
            if not data:
                raise PeerError("it left before its PROXY header was whole")
            buffer = self._buffer = buffer + data
            header = parse_proxy(buffer)
        if header.source is not None and self._door.trusts(self._peer):
            self._peer = header.source
            if not self._count_client():
                return
        self._buffer = b""
        if self._shared.tls is not None:
            self._begin_tls(self._shared.tls)
        else:
            self._stage = _HEAD

    def _count_client(self) -> bool:
        """Count the client in place of its proxy; False when it has as many as it may have."""
        unfinished = self._shared.unfinished
        unfinished.leave(self.key)
        self.key = ""
        key = unfinished.enter(self._peer, full=len(self._shared.openings) >= unfinished.most)
        if key is None:
            self._leave()
            self._listener.crowd(self._sock, self._peer)
            return False
        self.key = key
        return True

    def _read_of_proxy_header(self, buffer: bytes) -> bytes:
        """Read no byte too many, because what follows may be TLS and then belongs to it."""
        sock, have = cast(socket, self._sock), len(buffer)
        if have < PROXY_START:
            return sock.recv(PROXY_START - have)
        if not buffer.startswith(PROXY_V1):
            return sock.recv(proxy_length(buffer) - have)
        # Only the end of the line says where the header ends, and it may be half there.
        ahead = sock.recv(MAX_PROXY_V1 - have, MSG_PEEK)
        end = (buffer[-1:] + ahead).find(b"\r\n")
        return sock.recv(len(ahead) if end < 0 else end + 1)

    def _begin_tls(self, context: ssl.SSLContext) -> None:
        self._sock = TlsSocket(cast(socket, self._sock), context)
        self._stage = _TLS

    def _shake_hands(self) -> None:
        sock = cast(TlsSocket, self._sock)
        shared = self._shared
        wants_write = sock.handshake()
        if wants_write != self._writing:
            self._writing = wants_write
            shared.poller.modify(sock.fileno(), WRITE if wants_write else READ)
        if not wants_write:
            shared.stats.tls_handshake_duration.observe(monotonic() - self._started)
            self._stage = _HEAD
