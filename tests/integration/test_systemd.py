"""systemd: sockets that it passes, and what it is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw

SERVE = [str(Path(sys.executable).with_name("tidegate")), "serve"]
TOKEN = "a-token-of-the-operator"


class Manager:
    """What listens on NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def listen(self) -> list[dict[str, str]]:
        """All that was said so far."""
        while True:
            try:
                said = self.sock.recv(65536).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in said.split("\n")))

    def heard_of(self, key: str) -> list[str]:
        """All values of one variable so far."""
        return [said[key] for said in self.listen() if key in said]


@pytest.fixture(params=["a file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    path = str(tmp_path / "notify")
    shown = path
    if request.param == "abstract":
        if sys.platform != "linux":
            pytest.skip("a namespace of Linux only")
        shown = f"@tidegate-test-{os.getpid()}"
        path = "\0" + shown[1:]
    found = Manager(path)
    with found.sock:
        yield found, shown


def test_serve_tells_systemd_how_it_goes(serve: Start, manager: tuple[Manager, str]) -> None:
    heard, address = manager
    server = serve(
        {"drain": {"window": 2}},
        environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"},
    )
    wait_until(lambda: heard.heard_of("READY") == ["1"], what="READY=1")
    assert heard.heard[0]["READY"] == "1"
    assert heard.heard[0]["STATUS"] == "serving: 0 connections"
    with server.connect() as client:
        client.open()
        wait_until(lambda: heard.heard_of("STATUS")[-1] == "serving: 1 connections")
        wait_until(lambda: len(heard.heard_of("WATCHDOG")) >= 5)
        assert heard.heard_of("STOPPING") == []
        server.signal(signal.SIGTERM)
        wait_until(lambda: heard.heard_of("STOPPING") == ["1"])
        wait_until(lambda: "1 of 1 connections" in heard.heard_of("STATUS")[-1])
        before = len(heard.heard_of("WATCHDOG"))
        wait_until(lambda: len(heard.heard_of("WATCHDOG")) >= before + 2)
        assert "15000000" in heard.heard_of("EXTEND_TIMEOUT_USEC")
        client.closed(1012)
        client.send_close(1012)
    assert server.process.wait(10) == 0
    assert heard.heard_of("STATUS")[-1] == "stopped"
    assert heard.heard_of("READY") == heard.heard_of("STOPPING") == ["1"]


@pytest.mark.parametrize("manager", ["a file"], indirect=True)
def test_serve_tells_systemd_that_it_reloads(serve: Start, manager: tuple[Manager, str]) -> None:
    heard, address = manager
    server = serve(environment={"NOTIFY_SOCKET": address})
    wait_until(lambda: heard.heard_of("READY") == ["1"], what="READY=1")
    server.signal(signal.SIGHUP)
    wait_until(lambda: heard.heard_of("READY") == ["1", "1"], what="READY=1 again")
    reloading = next(said for said in heard.heard if "RELOADING" in said)
    assert reloading["RELOADING"] == "1"
    assert 0 < int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("manager", ["a file"], indirect=True)
def test_the_watchdog_hears_nothing_from_a_loop_that_stands_still(
    program: Start, manager: tuple[Manager, str]
) -> None:
    heard, address = manager
    server = program(
        "-m tests.support.handlers",
        environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"},
    )
    wait_until(lambda: len(heard.heard_of("WATCHDOG")) >= 3)
    with server.connect() as client:
        client.open()
        client.send_frame(TEXT, "block 2")
        time.sleep(0.5)  # what it said before it read that
        before = len(heard.heard_of("WATCHDOG"))
        client.send_frame(TEXT, "done")
        assert client.message() == "done"
        # A process that is suspended as a whole is as silent; 15 pings would be usual here.
        assert len(heard.heard_of("WATCHDOG")) <= before + 2
        wait_until(lambda: len(heard.heard_of("WATCHDOG")) > before + 2)


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}])
@pytest.mark.parametrize("manager", ["a file"], indirect=True)
def test_without_a_watchdog_of_ours_there_is_no_ping(
    serve: Start, manager: tuple[Manager, str], environment: Mapping[str, str]
) -> None:
    heard, address = manager
    serve(environment={"NOTIFY_SOCKET": address, **environment})
    wait_until(lambda: heard.heard_of("READY"))
    time.sleep(0.2)
    assert heard.heard_of("WATCHDOG") == []


def test_a_manager_that_is_gone_troubles_nobody(serve: Start, tmp_path: Path) -> None:
    server = serve(environment={"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000"})
    with server.connect() as client:
        client.open()


# Sockets.


@contextmanager
def activated(
    command: list[str], folder: Path, port: int, settings: Any = None
) -> Iterator[Process]:
    """A server behind systemd-socket-activate, which starts it at the first connection."""
    process = Process([*command, "-E", "TIDEGATE_CONFIG", *SERVE], folder, settings, port=port)
    try:
        wait_until(lambda: "Listening on" in process.log)
        yield process
    finally:
        process.kill()


def test_systemd_passes_the_public_socket(tool: Callable[[str], str], tmp_path: Path) -> None:
    port = free_port()
    command = [tool("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", "--fdname=public"]
    # The port in the settings is another one; the socket goes before.
    with activated(command, tmp_path, port, {"server": {"port": free_port()}}) as server:
        with Raw(port) as client:
            client.open()
            wait_until(lambda: f"ws://127.0.0.1:{port}/ws" in server.log)
            assert server.stats()["connections"]["current"] == 1
            server.signal(signal.SIGTERM)
            client.closed(1012)
            client.send_close(1012)
        assert server.process.wait(40) == 0


def test_systemd_passes_both_sockets_by_name(tool: Callable[[str], str], tmp_path: Path) -> None:
    port, admin = free_port(), tmp_path / "admin.sock"
    command = [
        *(tool("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", "-l", str(admin)),
        "--fdname=public:admin",
    ]
    with activated(command, tmp_path, port) as server:
        with Raw(port) as client, Raw(str(admin)) as operator:
            client.open()
            operator.send(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            response = operator.response()
            assert (response.status, b'"current":1' in response.body) == (200, True)
        wait_until(lambda: f"unix:{admin} /metrics" in server.log)
        assert server.stop() == 0
    assert admin.exists(), "the socket is systemd's to remove"


@pytest.mark.parametrize("options", [[], ["--fdname=tidegate.socket"]])
def test_systemd_passes_a_socket_without_a_name_of_ours(
    tool: Callable[[str], str], tmp_path: Path, options: list[str]
) -> None:
    port = free_port()
    command = [tool("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", *options]
    with activated(command, tmp_path, port) as server, Raw(port) as client:
        client.open()
        client.sock.close()
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("options", "listen", "code", "said"),
    [
        (["--fdname=web"], "127.0.0.1", 2, "a socket named 'web' was passed (LISTEN_FDNAMES)"),
        (["--datagram"], "127.0.0.1", 2, "descriptor 3 must be a TCP or Unix stream socket"),
        (["--fdname=admin"], "0.0.0.0", 2, 'admin.token: must be set, because admin.host = "0.0'),
    ],
)
def test_a_socket_that_cannot_be_used_is_named(
    tool: Callable[[str], str],
    tmp_path: Path,
    options: list[str],
    listen: str,
    code: int,
    said: str,
) -> None:
    port = free_port()
    command = [tool("systemd-socket-activate"), "-l", f"{listen}:{port}", *options]
    with activated(command, tmp_path, port) as server:
        kind = socket.SOCK_DGRAM if "--datagram" in options else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as client:
            client.connect(("127.0.0.1", port))
            client.send(b"x")
            assert server.process.wait(20) == code
    assert said in server.log
    assert "Traceback" not in server.log


def test_sockets_for_another_process_are_left_alone_with_a_warning(serve: Start) -> None:
    server = serve(environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert "the sockets in LISTEN_FDS are not used: they are for process 1" in server.log
    with server.connect() as client:
        client.open()


@pytest.mark.parametrize(
    ("count", "said"),
    [("one", "LISTEN_FDS: must be a number"), ("1", "descriptor 3 of LISTEN_FDS: ")],
)
def test_sockets_that_are_not_there_are_an_error(tmp_path: Path, count: str, said: str) -> None:
    script = f'exec env LISTEN_PID=$$ LISTEN_FDS={count} "$@" 3<&-'
    server = Process(["bash", "-c", script, "bash", *SERVE], tmp_path)
    try:
        assert server.process.wait(20) == 2
        assert said in server.log
    finally:
        server.kill()
