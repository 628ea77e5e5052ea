"""Clients that connect as fast as they can."""

from __future__ import annotations

import threading
import time
from collections import Counter

from tests.support.net import wait_until
from tests.support.raw import Raw

__all__ = ["Clients"]


class Clients:
    """Threads that connect over and over, and count how each attempt ended."""

    def __init__(self, port: int, threads: int) -> None:
        self.ends: Counter[str] = Counter()
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, count: int) -> None:
        """Wait until so many have got in."""
        wait_until(lambda: self.ends["101"] >= count, 30, f"{count} are let in")

    def _work(self, number: int) -> None:
        while not self._stop.is_set():
            end = self._attempt(slow=number == 0)
            with self._lock:
                self.ends[end] += 1

    def _attempt(self, slow: bool) -> str:
        try:
            with Raw(self._port, timeout=30) as client:
                if slow:  # its request is on its way while the process that accepted it drains
                    client.send(b"GET /ws HTTP/1.1\r\n")
                    time.sleep(0.05)
                    rest = b"Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    client.send(rest + key + b"Sec-WebSocket-Version: 13\r\n\r\n")
                    return str(client.response().status)
                return str(client.ask().status)
        except OSError as error:
            return type(error).__name__
        except EOFError:  # it ended before its response was whole
            return "lost"
