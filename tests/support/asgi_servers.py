"""The ASGI servers of the tests as real processes: ours, and others behind the middleware."""

from __future__ import annotations

import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.net import free_port
from tests.support.process import Process, get

__all__ = ["OURS", "SERVERS", "AsgiProcess"]

OURS = "tidegate"
GUARDED = "tests.support.asgi_guarded:app"
SERVERS = {
    OURS: "tidegate run tests.support.asgi_guarded:inner --no-access-log",
    "uvicorn": f"uvicorn {GUARDED} --port {{port}} --ws websockets-sansio --no-access-log",
    "uvicorn-wsproto": f"uvicorn {GUARDED} --port {{port}} --ws wsproto --no-access-log",
    "hypercorn": f"hypercorn {GUARDED} --bind 127.0.0.1:{{port}} --graceful-timeout 1",
    "granian": f"granian {GUARDED} --interface asgi --port {{port}} --no-access-log",
    "daphne": f"daphne {GUARDED} --bind 127.0.0.1 --port {{port}} --verbosity 0",
}
"""What is run, by name; each is a module of Python."""


class AsgiProcess(Process):
    """A server with the applications of `asgi_guarded`."""

    def __init__(self, name: str, folder: Path, settings: dict[str, dict[str, Any]]) -> None:
        port = free_port()
        self.name = name
        self.ours = name == OURS
        command = [sys.executable, "-m", *SERVERS[name].format(port=port).split()]
        super().__init__(command, folder, settings, port=port, admin=self.ours)
        self.expects_errors = True  # of the application

    def ask(self, path: str) -> Any:
        """The body of an HTTP response of the application."""
        status, body = get(self.port, path)
        assert status == 200, body
        return body

    def open(self) -> int:
        """How many connections the gate counts."""
        return super().open() if self.ours else int(self.ask("/gate")["open"])

    def ended(self) -> dict[str, int]:
        """How many connections ended for each reason."""
        ended: dict[str, int]
        ended = self.stats()["disconnections"] if self.ours else self.ask("/gate")["disconnected"]
        return ended

    def drain(self) -> None:
        """Begin the drain, by whatever the server has for it."""
        if self.ours:
            request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}/drain", b"{}")
            urllib.request.urlopen(request, timeout=10).close()
        else:
            self.ask("/drain")

    def terminate(self) -> None:
        """Tell it to end, as a service manager does."""
        self.signal(signal.SIGTERM)
