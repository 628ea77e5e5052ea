"""Connections that ask for no WebSocket: HTTP of an application, and messages that are posted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tidegate.engine.posts import Posts
from tidegate.engine.stream import Stream
from tidegate.wire.handshake import HandshakeError, parse_request

if TYPE_CHECKING:
    from tidegate.engine.parked import Parking
    from tidegate.engine.reserve import Reserve
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket

__all__ = ["Plain"]


class Plain:
    """Begins such connections of one listener, if there is room for them."""

    def __init__(self, shared: Shared, listener: Parking, reserve: Reserve) -> None:
        self._shared = shared
        self._listener = listener
        self._reserve = reserve
        self._http = shared.application.http_server
        self._for_connections = shared.shares.connections

    def serve(self, sock: Socket, peer: str, data: bytes) -> None:
        """Let the application's HTTP server have a connection, with what was read of it."""
        assert self._http is not None
        if self._has_room(sock, peer):
            Stream(self._shared, self._listener, sock, peer, self._http).begin(data)

    def malformed(self, sock: Socket, peer: str, data: bytes, error: HandshakeError) -> None:
        """Take what is no valid handshake: HTTP that others know, or to be refused."""
        if self._http is not None:
            self.serve(sock, peer, data)
        elif not self._is_post(data):
            self._listener.refuse(sock, self._shared.door.malformed(error, peer), peer)
        elif self._has_room(sock, peer):
            Posts(self._shared, self._listener, sock, peer).begin(data)

    def _is_post(self, data: bytes) -> bool:
        """Whether a message is posted, where that is possible."""
        if data.startswith(b"POST "):
            with suppress(HandshakeError):
                request = parse_request(data, body=True)
                return request is not None and self._shared.door.max_body(request.path) > 0
        return False

    def _has_room(self, sock: Socket, peer: str) -> bool:
        """Whether there may be one more; if not, it is refused."""
        listener, shared = self._listener, self._shared
        if shared.streams.full(listener.counted(peer)):
            listener.refuse(sock, shared.door.crowded(peer), peer)
        elif sock.fileno() >= self._for_connections and self._reserve.is_needed(sock):
            listener.refuse(sock, shared.door.no_descriptor(None, peer), peer)
        else:
            return True
        return False
