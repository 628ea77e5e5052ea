"""One host restarts without an outage: the next process accepts while the last one drains."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.arrivals import Clients
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.raw import Raw

# As systemd does: LISTEN_PID is the process itself, so it is set right before the exec.
PASS = 'exec env LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public "$@" 3<&"$PASSED"'
SERVE = [str(Path(sys.executable).with_name("tidegate")), "serve"]


class Host:
    """Holds a listening socket, as systemd does, and starts one server after the other on it."""

    def __init__(self, folder: Path, sock: socket.socket, settings: Any, ending: ExitStack) -> None:
        self.sock = sock
        self.port = sock.getsockname()[1]
        self.settings = settings
        self.servers: list[Process] = []
        self._folder = folder
        self._ending = ending

    def start(self) -> Process:
        """Start another server, and return when it is ready."""
        number = self.sock.fileno()
        process = Process(
            ["bash", "-c", PASS, "bash", *SERVE],
            self._folder / str(len(self.servers)),
            self.settings,
            port=self.port,
            environment={"PASSED": str(number)},
            prepare=lambda: os.set_inheritable(number, True),
            pass_fds=[number],
        )
        self.servers.append(process)
        self._ending.callback(process.kill)
        wait_until(
            lambda: "Press Ctrl-C" in process.log or process.process.poll() is not None,
            20,
            "the next server is ready",
        )
        assert process.process.poll() is None, process.log
        return process


@contextmanager
def host(folder: Path, settings: Any = None, family: int = socket.AF_INET) -> Iterator[Host]:
    with ExitStack() as ending, socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", free_port()))
        sock.listen(4096)
        found = Host(folder, sock, settings or {}, ending)
        yield found


def opening(server: Process) -> float:
    """How many attempts have no answer yet."""
    return server.metrics()['websocket_connections_current{state="opening"}']


NO_BOUNDS = {
    "limits": {"per_ip": 10_000},
    "pacing": {"enabled": False},
    "drain": {"window": 1},
}


def test_restarts_under_load_refuse_nobody(tmp_path: Path) -> None:
    with host(tmp_path, NO_BOUNDS) as machine:
        last = machine.start()
        with Clients(machine.port, 6) as clients:
            for _ in range(3):
                reached = clients.ends["101"]
                following = machine.start()
                last.signal(signal.SIGTERM)
                assert last.process.wait(30) == 0
                clients.wait_for(reached + 50)
                last = following
        assert set(clients.ends) == {"101"}, clients.ends
        assert last.stop() == 0
        for server in machine.servers:
            assert "Traceback" not in server.log


def test_attempts_between_two_processes_wait_in_the_queue(tmp_path: Path) -> None:
    with host(tmp_path, NO_BOUNDS) as machine:
        first = machine.start()
        with Raw(machine.port) as before:
            before.open()
            first.signal(signal.SIGTERM)
            wait_until(lambda: "draining" in first.log)
            # Nobody accepts now. The socket is still there, so nobody is refused either.
            with Raw(machine.port) as late:
                late.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
                before.closed(1012)
                before.send_close(1012)
                assert first.process.wait(20) == 0
                machine.start()
                assert late.response().status == 200


def test_a_slow_attempt_of_the_process_that_drains_is_let_in_and_drained(tmp_path: Path) -> None:
    with host(tmp_path, NO_BOUNDS) as machine:
        server = machine.start()
        with Raw(machine.port) as slow:
            slow.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n")
            wait_until(lambda: opening(server) == 1)
            server.signal(signal.SIGTERM)
            wait_until(lambda: "draining" in server.log)
            assert server.get("/ready") == (503, {"ready": False, "reason": "draining"})
            slow.send(
                b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Version: 13\r\n\r\n"
            )
            assert slow.response().status == 101
            slow.closed(1012)
            slow.send_close(1012)
        assert server.process.wait(20) == 0


def test_an_attempt_that_never_finishes_does_not_keep_the_drain_waiting(tmp_path: Path) -> None:
    settings = {**NO_BOUNDS, "server": {"handshake_timeout": 0.5}}
    with host(tmp_path, settings) as machine:
        server = machine.start()
        with Raw(machine.port) as stuck:
            stuck.send(b"GET /ws HTTP/1.1\r\n")
            wait_until(lambda: opening(server) == 1)
            server.signal(signal.SIGTERM)
            assert server.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_what_waits_in_the_queue_to_the_next_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    settings = {**NO_BOUNDS, "drain": {"on_sigterm": False}}
    with host(tmp_path, settings) as machine:
        first = machine.start()
        first.signal(signal.SIGSTOP)
        with Raw(machine.port) as waiting:
            waiting.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
            machine.start()
            assert waiting.response().status == 200
        first.signal(signal.SIGCONT)
        first.signal(number)
        assert first.process.wait(20) == 0
        with Raw(machine.port) as client:
            client.open()
