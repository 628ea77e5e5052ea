"""Where the listeners listen: both families, several addresses, Unix sockets behind proxies."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.raw import Raw

TOKEN = "a-token-of-the-operator"


def ask_admin(host: str, port: int | str) -> int:
    """The status of a plain request to the admin API."""
    with Raw(port, host=host) as client:
        client.send(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.response().status


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("host", ["localhost", "::", ["[::1]", "127.0.0.1"], ["::", "0.0.0.0"]])
def test_serve_follows_one_rule_of_addresses_for_both_listeners(
    serve: Start, host: str | list[str]
) -> None:
    # A token is needed on all addresses; on loopback the API works without one.
    unsafe = "::" in host
    admin = {"host": host, **({"token": TOKEN} if unsafe else {})}
    server = serve({"server": {"host": host}, "admin": admin})
    for own in ("127.0.0.1", "::1"):
        with Raw(server.port, host=own) as client:
            client.open()
        assert ask_admin(own, server.admin_port) == (401 if unsafe else 200)


@pytest.fixture
def sockets(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "public.sock", tmp_path / "admin.sock"


@contextmanager
def on_unix(folder: Path, public: Path, admin: Path) -> Iterator[Process]:
    """A server that listens on Unix sockets only."""
    settings = {"server": {"host": f"unix:{public}"}, "admin": {"host": f"unix:{admin}"}}
    command = [str(Path(sys.executable).with_name("tidegate")), "serve"]
    server = Process(command, folder, settings)
    try:
        wait_until(lambda: "Press Ctrl-C" in server.log or server.process.poll() is not None, 20)
        yield server
    finally:
        server.kill()


def test_serve_on_unix_sockets_lets_only_its_own_user_and_group_in(
    tmp_path: Path, sockets: tuple[Path, Path]
) -> None:
    public, admin = sockets
    with on_unix(tmp_path, public, admin) as server:
        assert stat.S_IMODE(public.stat().st_mode) == 0o660
        assert stat.S_IMODE(admin.stat().st_mode) == 0o600
        assert f"unix:{public} /ws" in server.log
        assert f"unix:{admin} /metrics" in server.log
        with Raw(str(public)) as client, Raw(str(public)) as behind:
            client.open()
            behind.open(headers=[("X-Forwarded-For", "198.51.100.7")])
            seen = connections_of(admin)
            assert sorted(row["address"] for row in seen["connections"]) == ["198.51.100.7", "unix"]
            (only,) = connections_of(admin, "?ip=unix")["connections"]
            assert only["address"] == "unix"
        assert ask_admin("", str(admin)) == 200
        assert server.stop() == 0
    assert not public.exists()
    assert not admin.exists()


def connections_of(admin: Path, query: str = "") -> dict[str, list[dict[str, str]]]:
    request = f"GET /connections{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with Raw(str(admin)) as client:
        client.send(request.encode())
        found: dict[str, list[dict[str, str]]] = json.loads(client.response().body)
        return found


def test_serve_replaces_the_sockets_of_a_killed_server_and_not_those_of_a_living_one(
    tmp_path: Path, sockets: tuple[Path, Path]
) -> None:
    with on_unix(tmp_path / "first", *sockets) as first:
        with on_unix(tmp_path / "second", *sockets) as second:
            assert second.process.wait(20) == 1
            assert f"unix:{sockets[1]}: Address already in use (admin.host)" in second.log
        first.kill()
        assert sockets[0].exists()
        with on_unix(tmp_path / "third", *sockets) as third, Raw(str(sockets[0])) as client:
            client.open()
            assert third.stop() == 0


@pytest.mark.parametrize("given", [True, False])
def test_commands_find_the_admin_api_on_a_unix_socket(
    tmp_path: Path, sockets: tuple[Path, Path], given: bool
) -> None:
    command = [str(Path(sys.executable).with_name("tidegate")), "drain", "--window", "0"]
    address = f"unix:{sockets[1]}"
    environment = {} if given else {"TIDEGATE_ADMIN_HOST": address}
    with on_unix(tmp_path, *sockets) as server:
        done = subprocess.run(
            [*command, *(["--admin", address] if given else [])],
            capture_output=True,
            text=True,
            timeout=20,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert server.process.wait(10) == 0
    gone = subprocess.run(
        [*command, "--admin", address], capture_output=True, text=True, timeout=20, cwd=tmp_path
    )
    assert gone.returncode == 1
    assert f"{address} does not answer: No such file or directory" in gone.stderr


# Real proxies in front of a Unix socket.


@contextmanager
def proxy(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: reachable(port) or process.poll() is not None, 10, "the proxy listens")
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def seen_through(server: Process, admin: Path, port: int) -> list[str]:
    with Raw(port, source="127.0.0.9") as client:
        client.open()
        found = [row["address"] for row in connections_of(admin)["connections"]]
    assert server.process.poll() is None
    return found


NGINX = """\
daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://unix:{public};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""


@pytest.mark.usefixtures("many_addresses")
def test_nginx_reaches_a_unix_socket_and_its_clients_are_counted(
    tool: Callable[[str], str], tmp_path: Path, sockets: tuple[Path, Path]
) -> None:
    nginx, port = tool("nginx"), free_port()
    config = tmp_path / "nginx.conf"
    user = "" if os.getuid() else "user root;\n"  # who may connect to the socket
    config.write_text(user + NGINX.format(folder=tmp_path, port=port, public=sockets[0]))
    with (
        on_unix(tmp_path, *sockets) as server,
        proxy([nginx, "-c", str(config), "-e", "stderr"], port),
    ):
        assert seen_through(server, sockets[1], port) == ["127.0.0.9"]


HAPROXY = """\
defaults
  mode {mode}
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend all
  bind 127.0.0.1:{port}
  default_backend tidegate
backend tidegate
  {options}
  server one unix@{public} {check}
"""


@pytest.mark.usefixtures("many_addresses")
def test_haproxy_reaches_a_unix_socket_and_its_clients_are_counted(
    tool: Callable[[str], str], tmp_path: Path, sockets: tuple[Path, Path]
) -> None:
    haproxy, port = tool("haproxy"), free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        HAPROXY.format(
            mode="http", port=port, options="option forwardfor", public=sockets[0], check="check"
        )
    )
    with on_unix(tmp_path, *sockets) as server, proxy([haproxy, "-db", "-f", str(config)], port):
        assert seen_through(server, sockets[1], port) == ["127.0.0.9"]
