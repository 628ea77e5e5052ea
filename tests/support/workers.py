"""A server with several workers, as a process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import Raw

__all__ = ["UNBOUND", "Crew", "crew"]

UNBOUND: Mapping[str, Mapping[str, Any]] = {
    "limits": {"per_ip": 10_000},
    "pacing": {"enabled": False},
    "drain": {"window": 1},
    "backplane": {"private": False},
}
"""Settings with which every client gets in."""


class Crew:
    """The supervisor, and its workers."""

    def __init__(self, server: Process) -> None:
        self.server = server

    def rows(self) -> list[dict[str, Any]]:
        """What `/health` says of the workers."""
        status, body = self.server.get("/health")
        assert status == 200, body
        rows: list[dict[str, Any]] = body["workers"]
        return rows

    def serving(self) -> dict[int, int]:
        """The process of every worker that serves, by its number."""
        return {row["number"]: row["pid"] for row in self.rows() if row["state"] == "serving"}

    def processes(self) -> list[psutil.Process]:
        """The workers that the supervisor has started."""
        return [one for one in self._started() if not _is_valkey(one)]

    def valkey(self) -> psutil.Process:
        """The private Valkey of the workers."""
        wait_until(lambda: any(map(_is_valkey, self._started())), 20, "there is a Valkey")
        return next(filter(_is_valkey, self._started()))

    def _started(self) -> list[psutil.Process]:
        found: list[psutil.Process] = self.server.usage.children(recursive=True)
        return found

    def wait_serving(self, count: int) -> dict[int, int]:
        """Wait until exactly so many workers serve, and nothing else of it runs."""
        wait_until(
            lambda: len(self.serving()) == len(self.rows()) == count,
            30,
            f"{count} workers serve",
        )
        return self.serving()

    def connect_to(self, number: int, most: int = 200) -> Raw:
        """Return a client that this worker has let in; the kernel chooses, so it tries."""
        others: list[Raw] = []
        try:
            for _ in range(most):
                before = self.connections(number)
                client = Raw(self.server.port)
                client.open()
                if self.connections(number) > before:
                    return client
                others.append(client)
        finally:
            for other in others:
                other.__exit__()
        raise AssertionError(f"worker {number} got none of {most}")

    def connections(self, number: int) -> int:
        """How many connections a worker has."""
        name = f'websocket_connections_peak{{worker="{number}"}}'
        return int(self.server.metrics()[name])


def _is_valkey(process: psutil.Process) -> bool:
    try:
        return str(process.name()).startswith("valkey")
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def crew(folder: Path, settings: Any = None, workers: int = 2, **options: Any) -> Iterator[Crew]:
    """Run a server with several workers, and end it."""
    merged: dict[str, dict[str, Any]] = {
        name: dict(own) for name, own in {**UNBOUND, **(settings or {})}.items()
    }
    merged.setdefault("server", {})["workers"] = workers
    server = Process.serve(folder, merged, **options)
    try:
        wait_until(lambda: "Press Ctrl-C" in server.log, 30, "all workers have started")
        yield Crew(server)
    finally:
        server.kill()
