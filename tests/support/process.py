"""Real server processes, their logs and their admin API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.net import free_port, wait_until
from tests.support.raw import Raw

__all__ = ["ROOT", "Process", "get", "to_toml"]

ROOT = Path(__file__).parents[2]
_START_SECONDS = 20.0

Values = Mapping[str, Mapping[str, Any]]


class Process:
    """A server that runs; `url` is where WebSockets are opened."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        settings: Values | None = None,
        *,
        admin: bool = True,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        prepare: Any = None,
        output: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.port = port or free_port()
        self.admin_port = free_port()
        self.tls = "certificate" in (settings or {}).get("tls", {})
        self.url = f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws"
        self.expects_errors = False
        """Whether its log may show tracebacks."""
        self._admin = admin
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / f"tidegate-{self.port}.toml"
        """The file with its settings."""
        self.configure(settings or {})
        self._log = folder / f"log-{self.port}.txt"
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("TIDEGATE_") and key != "PORT"
        }
        with self._log.open("wb") as file:
            log = file if output is None else output
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**own, "TIDEGATE_CONFIG": str(self.config), **(environment or {})},
                preexec_fn=prepare,
                pass_fds=pass_fds,
            )

    def configure(self, settings: Values) -> None:
        """Write the file with its settings; a running server reads it again at SIGHUP."""
        merged: dict[str, dict[str, Any]] = {key: dict(of) for key, of in settings.items()}
        merged.setdefault("server", {}).setdefault("port", self.port)
        merged.setdefault("admin", {}).setdefault("port", self.admin_port)
        self.config.write_text(to_toml(merged))

    @classmethod
    def serve(
        cls,
        folder: Path,
        settings: Values | None = None,
        arguments: Sequence[str] = (),
        **options: Any,
    ) -> Process:
        """Start `tidegate serve`."""
        command = [str(Path(sys.executable).with_name("tidegate")), "serve", *arguments]
        return cls(command, folder, settings, **options).wait_ready()

    def wait_ready(self) -> Process:
        """Wait until it serves; fail with its log if it ends instead."""
        try:
            wait_until(self._answers, _START_SECONDS, "the server is ready")
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.log}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return not self._admin or self.get("/health")[0] == 200
        return False

    # What it says.

    @property
    def log(self) -> str:
        """All that it wrote so far."""
        return self._log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The whole lines of it: the last one may be half written."""
        whole, newline, _ = self.log.rpartition("\n")
        return whole.split("\n") if newline else []

    @property
    def usage(self) -> psutil.Process:
        """What it uses of the machine."""
        return psutil.Process(self.process.pid)

    def get(self, path: str, token: str | None = None) -> tuple[int, Any]:
        """Ask the admin listener; status and body, parsed if it is JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return get(self.admin_port, path, headers)

    def stats(self) -> dict[str, Any]:
        """The counters."""
        status, body = self.get("/stats")
        assert status == 200, body
        stats: dict[str, Any] = body
        return stats

    def open(self) -> int:
        """How many connections are open."""
        return int(self.stats()["connections"]["current"])

    def connections(self, query: str = "limit=1000") -> list[dict[str, Any]]:
        """The first page of the list of connections."""
        status, body = self.get(f"/connections?{query}")
        assert status == 200, body
        connections: list[dict[str, Any]] = body["connections"]
        return connections

    def metrics(self) -> dict[str, float]:
        """Every sample of the metrics page, by its name with labels."""
        status, text = self.get("/metrics")
        assert status == 200
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def wait_open(self, count: int, timeout: float = 20.0) -> None:
        """Wait until exactly so many connections are open."""
        wait_until(lambda: self.open() == count, timeout, f"{count} connections are open")

    # What is done to it.

    def connect(self, **options: Any) -> Raw:
        """Connect a socket; nothing is sent yet."""
        return Raw(self.port, **options)

    def settle(self) -> None:
        """Give it the time to read what was sent, so that two writes are not read as one."""
        time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self, timeout: float = 30.0) -> int:
        """End it with SIGINT, which waits for no window; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it and its workers, whatever they are doing."""
        if self.process.poll() is None:
            workers = self.usage.children(recursive=True)
            self.process.kill()
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        self.process.wait()


def get(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, tls: bool = False
) -> tuple[int, Any]:
    """One GET request to this machine; status and body, parsed if it is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.headers.get_content_type() == "application/json":
        return response.status, json.loads(body)
    return response.status, body.decode()


def to_toml(settings: Values) -> str:
    """Settings as a TOML file; a section within a section is written with a dotted name."""
    lines: list[str] = []

    def toml(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{key} = {toml(own)}" for key, own in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(toml, value)) + "]"
        # What JSON writes of strings, numbers and booleans is TOML as well.
        return json.dumps(value)

    def section(name: str, values: Mapping[str, Any]) -> None:
        nested = {key: value for key, value in values.items() if isinstance(value, Mapping)}
        lines.append(f"[{name}]")
        lines.extend(f"{key} = {toml(value)}" for key, value in values.items() if key not in nested)
        for key, value in nested.items():
            section(f"{name}.{key}", value)

    for name, values in settings.items():
        section(name, values)
    return "\n".join([*lines, ""])
