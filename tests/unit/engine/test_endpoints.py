"""Addresses become listening sockets: names, IPv4, IPv6, several of them, and Unix sockets."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tidegate.engine import endpoints
from tidegate.engine.endpoints import Endpoint, listen
from tidegate.errors import ConfigError

BACKLOG = 10


@contextmanager
def listening(*hosts: str, port: int = 0, mode: int = 0o660) -> Iterator[list[Endpoint]]:
    opened = listen("server", hosts, port, BACKLOG, mode=mode)
    try:
        yield opened
    finally:
        for endpoint in opened:
            endpoint.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def reach(host: str, port: int) -> None:
    socket.create_connection((host, port), 5).close()


# TCP.


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("127.0.0.1",), ["127.0.0.1"]),
        pytest.param(("::1",), ["::1"], marks=needs_ipv6),
        pytest.param(("[::1]",), ["::1"], marks=needs_ipv6),
        pytest.param(("127.0.0.1", "::1"), ["127.0.0.1", "::1"], marks=needs_ipv6),
        pytest.param(("::1", "[::1]"), ["::1"], marks=needs_ipv6),
        (("127.0.0.1", "127.0.0.1"), ["127.0.0.1"]),
    ],
)
def test_listen_takes_every_address_once_at_one_port(
    hosts: Sequence[str], expected: list[str]
) -> None:
    with listening(*hosts) as opened:
        assert [endpoint.address[0] for endpoint in opened] == expected
        (port,) = {endpoint.address[1] for endpoint in opened}
        for host in expected:
            reach(host, port)
        assert not any(endpoint.sock.getblocking() for endpoint in opened)


def test_a_server_that_speaks_first_takes_connections_at_once() -> None:
    with listening("127.0.0.1") as (endpoint,):
        endpoint.accept_at_once()
        with socket.create_connection(endpoint.address):
            ready, _, _ = select.select([endpoint.sock], [], [], 30)
            assert ready
            if sys.platform == "linux":
                deferred = endpoint.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
                assert deferred == 0


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "[::]"])
def test_listen_on_all_of_ipv6_takes_ipv4_too(host: str) -> None:
    with listening(host) as (endpoint,):
        reach("127.0.0.1", endpoint.address[1])
        reach("::1", endpoint.address[1])


@needs_ipv6
@pytest.mark.parametrize(
    "hosts", [("::", "0.0.0.0"), ("0.0.0.0", "::"), ("::", "127.0.0.1"), ("127.0.0.1", "::")]
)
def test_listen_on_all_of_ipv6_leaves_ipv4_to_an_address_beside_it(hosts: Sequence[str]) -> None:
    with listening(*hosts) as opened:
        (port,) = {endpoint.address[1] for endpoint in opened}
        reach("127.0.0.1", port)
        reach("::1", port)


def resolver(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name has these addresses."""
    found = [
        (socket.AF_INET6, 1, 6, "", (address, 0, 0, 0))
        if ":" in address
        else (socket.AF_INET, 1, 6, "", (address, 0))
        for address in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@needs_ipv6
def test_listen_takes_all_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, "::1", "127.0.0.1")
    with listening("gate.example") as opened:
        assert [endpoint.address[0] for endpoint in opened] == ["::1", "127.0.0.1"]
        (port,) = {endpoint.address[1] for endpoint in opened}
    reach_nobody(port)


@needs_ipv6
@pytest.mark.parametrize("host", ["localhost", "LocalHost"])
def test_listen_on_localhost_takes_both_families(host: str) -> None:
    with listening(host) as opened:
        assert [endpoint.address[0] for endpoint in opened] == ["127.0.0.1", "::1"]


def reach_nobody(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        reach("127.0.0.1", port)


def test_listen_on_a_name_leaves_out_an_address_that_this_machine_does_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver(monkeypatch, "2001:db8::1", "127.0.0.1")
    with listening("gate.example") as opened:
        assert [endpoint.address[0] for endpoint in opened] == ["127.0.0.1"]


def test_listen_on_a_name_without_an_address_of_this_machine_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver(monkeypatch, "192.0.2.1", "198.51.100.1")
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1 port 0: .*server\.host"):
        listen("server", ["gate.example"], 0, BACKLOG, mode=0)


@pytest.mark.parametrize("section", ["server", "admin"])
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "this machine has no such address"),
        ("nowhere.invalid", r"\.host = 'nowhere.invalid': "),
        ("a" * 64 + ".example", r"\.host = 'aaa"),
    ],
)
def test_listen_on_an_address_that_cannot_be_used_names_the_setting(
    section: str, host: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as failed:
        listen(section, ["127.0.0.1", host], 0, BACKLOG, mode=0)
    assert f"{section}.host" in str(failed.value)


def test_listen_at_a_port_that_is_taken_says_so_and_keeps_nothing_open() -> None:
    # A port that no other program has at either address.
    with listening("127.0.0.1", "127.0.0.2") as (taken, free):
        port = taken.address[1]
        free.close()
        said = rf"cannot listen on 127.0.0.1 port {port}: Address already in use \(admin.host, "
        with pytest.raises(ConfigError, match=said):
            listen("admin", ["127.0.0.2", "127.0.0.1"], port, BACKLOG, mode=0)
        with listening("127.0.0.2", port=port):
            pass


def test_listen_at_a_free_port_tries_another_one_if_it_is_taken_at_the_second_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[Any, ...]] = []
    real = endpoints._tcp_socket

    def once_in_use(family: int, address: Any, backlog: int, **options: Any) -> socket.socket:
        tried.append(address)
        if len(tried) == 2:
            raise OSError(errno.EADDRINUSE, "")
        return real(family, address, backlog, **options)

    monkeypatch.setattr(endpoints, "_tcp_socket", once_in_use)
    with listening("127.0.0.1", "127.0.0.2") as opened:
        assert len({endpoint.address[1] for endpoint in opened}) == 1
    # Other programs of the machine may have taken the next free port as well.
    assert len(tried) >= 4
    assert [address[0] for address in tried[:2]] == ["127.0.0.1", "127.0.0.2"]


def test_listen_at_a_low_port_without_the_capability_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(*_: Any, **__: Any) -> socket.socket:
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr(endpoints, "_tcp_socket", denied)
    with pytest.raises(ConfigError, match=r"port 80: Permission denied; .*CAP_NET_BIND_SERVICE"):
        listen("server", ["127.0.0.1"], 80, BACKLOG, mode=0)


# Unix sockets.


@pytest.mark.parametrize("mode", [0o660, 0o600])
def test_listen_on_a_unix_socket_gives_its_file_the_mode_and_removes_it(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "t.sock"
    before = os.umask(0o027)
    try:
        with listening(f"unix:{path}", mode=mode) as (endpoint,):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert endpoint.address == (f"unix:{path}", 0)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    finally:
        os.umask(before)
    assert not path.exists()


def test_listen_replaces_a_unix_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("full", [False, True])
def test_listen_leaves_a_unix_socket_that_somebody_listens_on(tmp_path: Path, full: bool) -> None:
    path = str(tmp_path / "t.sock")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(0)
        if full:
            waiting.connect(path)
        with pytest.raises(ConfigError, match=f"unix:{path}: Address already in use"):
            listen("server", [f"unix:{path}"], 0, BACKLOG, mode=0o660)
        other.setblocking(False)
        other.accept()[0].close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain.txt", "File exists"),
        ("none/t.sock", "No such file or directory"),
        ("long" * 40, "too long"),
    ],
)
def test_listen_on_a_path_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, said: str
) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("mine")
    with pytest.raises(ConfigError, match=rf"{said} \(admin\.host\)"):
        listen("admin", [f"unix:{tmp_path / name}"], 0, BACKLOG, mode=0o600)
    assert plain.read_text() == "mine"


def test_close_leaves_the_file_of_another_process_that_took_the_path_over(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with listening(f"unix:{path}"):
        path.rename(tmp_path / "old.sock")
        with listening(f"unix:{path}") as (second,):
            first_gone = path.stat().st_ino
            assert second.address == (f"unix:{path}", 0)
            second.sock.close()
            assert path.stat().st_ino == first_gone


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_listen_on_several_addresses_opens_all_or_none(tmp_path: Path, host: str) -> None:
    path = tmp_path / "t.sock"
    try:
        with listening(host, f"unix:{path}") as opened:
            assert len(opened) == 2
    except ConfigError:
        assert host == "192.0.2.1"
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="a namespace of Linux only")
def test_address_of_an_abstract_socket_is_shown_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0tidegate-test-{os.getpid()}")
        endpoint = Endpoint(sock, passed=True)
        assert endpoint.address == (f"unix:@tidegate-test-{os.getpid()}", 0)
