"""A real NATS server that a test starts, stops, freezes, kills and starts again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.net import free_port, wait_until

__all__ = ["Nats", "cluster", "nats"]


_ACCOUNTS = """
accounts {
  APP { jetstream: %s, users: [ %s ] }
  $SYS { users: [ { user: sys, password: sys } ] }
}
"""


class Nats:
    """One server on a port of its own, which it keeps over restarts, as it does its data."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        jetstream: bool = True,
        users: str = "",
        accounts: bool = True,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = folder / "nats.conf"
        store = json.dumps(str(folder / "data"))
        more = [f"jetstream {{ store_dir: {store} }}"] if jetstream else []
        if accounts:
            enabled = "enabled" if jetstream else "disabled"
            more.append(_ACCOUNTS % (enabled, users or "{ user: app, password: app }"))
            if not users:
                more.append("no_auth_user: app")
        config.write_text("\n".join(more))
        self._options = ["-c", str(config), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(Path(sys.executable).with_name("nats-server")), "-a", "127.0.0.1"]
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port), *self._options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 20, "NATS answers")

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short."""
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Throw its data away; it is not running."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def stop(self) -> None:
        """Stop it."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it do nothing; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # not all threads stop at once

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def publish(self, subject: str, data: bytes) -> None:
        """Publish something as another program does."""
        with self._connected({}) as sock:
            sock.sendall(b"PUB %b %d\r\n%b\r\nPING\r\n" % (subject.encode(), len(data), data))
            _read_until(sock, b"PONG")

    def ask(self, subject: str, data: Any) -> Any:
        """Ask the server something, or publish to a stream, and return the answer."""
        with self._connected({}) as sock:
            sock.sendall(b"SUB answers 1\r\n")
            return _asked(sock, subject, data)

    def cut(self, node: str) -> None:
        """End the connection of a node; it may come back at once."""
        with self._connected({"user": "sys", "pass": "sys"}) as sock:
            sock.sendall(b"SUB answers 1\r\n")
            found = _asked(sock, "$SYS.REQ.SERVER.PING.CONNZ", {"acc": "APP"})
            server = found["server"]["id"]
            for connection in found["data"]["connections"]:
                if connection.get("name") == f"tidegate {node}":
                    _asked(sock, f"$SYS.REQ.SERVER.{server}.KICK", {"cid": connection["cid"]})

    @contextmanager
    def _connected(self, login: dict[str, str]) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            sock.sendall(
                b"CONNECT %b\r\nPING\r\n" % json.dumps({"verbose": False, **login}).encode()
            )
            _read_until(sock, b"PONG")
            yield sock

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(20)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
                return sock.recv(1 << 16).startswith(b"INFO")
        except OSError:
            time.sleep(0.02)
            return False


def _read_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        some = sock.recv(1 << 16)
        assert some, received
        received += some
    return received


def _asked(sock: socket.socket, subject: str, data: Any) -> Any:
    """Ask the server for something, and return its answer."""
    question = json.dumps(data).encode()
    sock.sendall(b"PUB %b answers %d\r\n%b\r\n" % (subject.encode(), len(question), question))
    received = _read_until(sock, b"\r\n")
    head, _, rest = received.partition(b"\r\n")
    size = int(head.split()[-1])
    while len(rest) < size + 2:
        rest += sock.recv(1 << 16)
    return json.loads(rest[:size])


@contextmanager
def nats(folder: Path, *options: str, **more: Any) -> Iterator[Nats]:
    """One that ends with the block."""
    server = Nats(folder, *options, **more)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def cluster(folder: Path) -> Iterator[list[Nats]]:
    """Three that keep the same; their names end with their numbers."""
    ports = [free_port() for _ in range(3)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            options = ("--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{port}")
            name = ("--routes", routes, "--server_name", f"n{number}")
            servers.append(stack.enter_context(nats(folder / f"n{number}", *options, *name)))
        yield servers
