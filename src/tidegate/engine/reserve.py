"""Answers without a descriptor: one is kept, and given up for as long as an answer takes."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

from tidegate.addresses import UNIX_PEER, counted
from tidegate.wire.handshake import MAX_HEAD_BYTES, HandshakeError, parse_request

if TYPE_CHECKING:
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket

__all__ = ["Reserve"]

_ANSWERS_PER_TURN = 64


class Reserve:
    """One descriptor of a listener, kept for when no other is left."""

    __slots__ = ("_fd", "_shared")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._fd = -1
        self.take()

    def take(self) -> None:
        """Take it back, if it is not there and one is free."""
        if self._fd < 0:
            with contextlib.suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def give_up(self) -> None:
        """Give it up, if it is there."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def is_needed(self, sock: Socket) -> bool:
        """Whether connections have all descriptors that they may have. Attempts hold some too."""
        shared = self._shared
        attempts = len(shared.openings) + len(shared.lingerers)
        if sock.fileno() - attempts < shared.shares.connections or shared.streams.make_room():
            return False
        self.warn()
        return True

    def warn(self) -> None:
        """Tell the operator that connections have no descriptors left."""
        self._shared.host.warn("out of file descriptors; refusing connections until some are free")

    def answer_queue(self, listening: socket.socket) -> bool:
        """Answer some of those that wait in the kernel's queue; False when that is not possible."""
        for _ in range(_ANSWERS_PER_TURN):
            self.give_up()
            try:
                sock, peer = listening.accept()
            except BlockingIOError:
                self.take()
                return True
            except OSError:
                self.take()
                return False
            self.answer(sock, peer)
            self.take()
            if self._fd < 0:
                break
        return True

    def answer(self, sock: socket.socket, peer: Any) -> None:
        """Answer what the client has sent so far, and end the connection at once."""
        shared = self._shared
        # What accept() says of a peer of a Unix socket is a path, and mostly empty.
        address = counted(peer[0]) if isinstance(peer, tuple) else UNIX_PEER
        self.warn()
        shared.streams.make_room()
        with sock:
            sock.setblocking(False)
            # It cannot linger: what is there is read, so that closing sends no reset over it.
            data = b""
            with contextlib.suppress(OSError):
                data = sock.recv(4 * MAX_HEAD_BYTES)
            request = None
            with contextlib.suppress(HandshakeError):
                request = parse_request(data)
            try:
                response = shared.door.no_descriptor(request, address)
            except Exception as error:
                response = shared.door.failed(error)
            with contextlib.suppress(OSError):
                if shared.tls is None:  # else the answer would have to wait for the handshake
                    shared.stats.outgoing.other_bytes += sock.send(response)
                sock.shutdown(socket.SHUT_WR)
