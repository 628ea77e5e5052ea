"""A line to a server that a test cuts and restores."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType

from tests.support.net import reset, wait_until

__all__ = ["Line"]


class Line:
    """Forwards a port of its own to one of this machine, byte for byte, until it is cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._whole = True
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        wait_until(lambda: not self._open, 20, "the line is closed")

    def cut(self) -> None:
        """End all connections at both ends, and reset each new one, until `restore`."""
        with self._lock:
            self._whole = False
            for sock in self._open:
                # The thread that reads it wakes up, and ends both.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Let new connections through again."""
        self._whole = True

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # it was shut down
                return
            with self._lock:
                if not self._whole:
                    reset(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open |= {near, far}
            threading.Thread(target=self._forward, args=(near, far), daemon=True).start()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with contextlib.suppress(OSError):
            while True:
                for source in select.select([near, far], [], [])[0]:
                    octets = source.recv(65536)
                    if not octets:
                        raise ConnectionError
                    other[source].sendall(octets)
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()
