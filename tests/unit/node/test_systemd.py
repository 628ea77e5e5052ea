"""Sockets that a supervisor passes: their names, and the settings that they stand for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.core.settings import Settings
from tidegate.core.settings.fields import SettingError
from tidegate.engine.endpoints import adopt
from tidegate.errors import ConfigError
from tidegate.node.systemd import Notifier, Passed, passed_sockets

# In a process of its own: it is about the descriptors from 3 on.
TAKE = """
import os, socket, sys
count, names = int(sys.argv[1]), sys.argv[2]
for number in range(3, 3 + count):
    sock = socket.create_server(("127.0.0.1", 0))
    os.dup2(sock.fileno(), number) if sock.fileno() != number else None
    sock.detach()
environment = {"LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
from tidegate.errors import ConfigError
from tidegate.node.systemd import passed_sockets
try:
    passed = passed_sockets(environment)
except ConfigError as error:
    print("refused", str(error).partition(" (")[0])
else:
    print(len(passed.public), len(passed.admin), environment, passed_sockets(environment)[0])
"""


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ("", "1 0 {} ()"),
        ("public", "1 0 {} ()"),
        ("admin", "0 1 {} ()"),
        ("admin:public", "1 1 {} ()"),
        ("public:admin:public", "2 1 {} ()"),
        ("tidegate.socket", "1 0 {} ()"),
        ("tidegate.socket:tidegate.socket", "2 0 {} ()"),
        ("unknown:unknown", "2 0 {} ()"),
        ("tidegate.socket:admin", "1 1 {} ()"),
        ("web", "refused a socket named 'web' was passed"),
        ("public:tidegate.socket", "refused a socket named 'tidegate.socket' was passed"),
        ("a.socket:b.socket", "refused a socket named 'a.socket' was passed"),
    ],
)
def test_sockets_are_taken_once_and_by_name(names: str, taken: str) -> None:
    count = names.count(":") + 1
    done = subprocess.run(
        [sys.executable, "-c", TAKE, str(count), names], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout.strip(), done.stderr) == (taken, "")


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1"}, {"LISTEN_FDNAMES": "public"}],
)
def test_without_all_variables_nothing_was_passed(environment: dict[str, str]) -> None:
    assert passed_sockets(environment) == Passed()


def test_the_settings_have_the_addresses_of_the_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with socket.create_server(("127.0.0.1", 0)) as public, socket.socket(socket.AF_UNIX) as admin:
        admin.bind(path)
        passed = Passed([adopt(public)], [adopt(admin)])
        settings = passed.located(Settings.from_mapping({"server": {"path": "/x"}}))
        assert settings.server.host == ("127.0.0.1",)
        assert settings.server.port == public.getsockname()[1]
        assert settings.server.path == "/x"
        assert settings.admin.host == (f"unix:{path}",)
    unchanged = Settings()
    assert Passed().located(unchanged) == unchanged


def test_an_admin_socket_that_others_reach_needs_a_token() -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        passed = Passed([], [adopt(sock)])
        with pytest.raises(SettingError, match=r"admin\.token: must be set"):
            passed.located(Settings())
        passed.located(Settings.from_mapping({"admin": {"token": "0123456789abcdef"}}))


def test_a_socket_that_cannot_accept_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ConfigError, match="TCP"):
        adopt(sock)
    with socket.socket() as sock, pytest.raises(ConfigError, match="has no address"):
        adopt(sock)
    if sys.platform == "linux":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"\0tidegate-test-{os.getpid()}")
            with pytest.raises(ConfigError, match="abstract"):
                adopt(sock)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_time_of_the_watchdog(
    tmp_path: Path, environment: dict[str, str], seconds: float | None
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), **environment})
    assert notifier.watchdog == seconds
    notifier.send("READY=1")  # nobody listens, and that is no trouble
    notifier.close()
    assert not Notifier(environment).wanted
