"""`tidegate serve` as a program: where settings come from, what it says, how it fails."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.net import free_port
from tests.support.process import ROOT, get

TOKEN = "an-admin-token-for-tests"
TIDEGATE = Path(sys.executable).with_name("tidegate")


def fails(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run `tidegate serve`, which must end by itself; its exit code and what it said."""
    done = subprocess.run(
        [TIDEGATE, "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_it_says_where_it_listens_and_what_the_limits_are(serve: Start) -> None:
    server = serve({"limits": {"connections": 1234, "per_ip": 56}})
    assert f"ws://127.0.0.1:{server.port}/ws" in server.log
    assert f"http://127.0.0.1:{server.admin_port}" in server.log
    assert "1,234" in server.log
    assert "56" in server.log
    assert "warning" not in server.log


def test_the_environment_overrides_the_file(serve: Start) -> None:
    server = serve(
        {"limits": {"per_ip": 50}}, environment={"TIDEGATE_LIMITS_PER_IP": "1"}, admin=True
    )
    with server.connect() as one, server.connect() as two:
        one.open()
        assert two.ask().headers["x-ratelimit-limit"] == "1"


def test_the_port_that_a_platform_gives(serve: Start) -> None:
    port = free_port()
    server = serve(environment={"PORT": str(port)}, port=port)
    assert f"ws://127.0.0.1:{port}/ws" in server.log


def test_a_port_in_use(serve: Start) -> None:
    server = serve()
    other = f"admin.port={free_port()}"
    code, said = fails("--set", f"server.port={server.port}", "--set", other)
    assert code == 1
    assert str(server.port) in said
    assert said.count("\n") == 1
    code, said = fails("--set", f"admin.port={server.admin_port}", "--set", "server.port=0")
    assert code == 1
    assert str(server.admin_port) in said


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("limits.per_ip=many", ["limits.per_ip", "many", "--set", "whole number"]),
        ("limits.per_ipp=5", ["limits.per_ipp", "limits.per_ip"]),
        ("auth.secret=too-short", ["auth.secret", "32"]),
        ("admin.host=0.0.0.0", ["admin.token", "0.0.0.0"]),
        ("tls.certificate=/nowhere.pem", ["tls.key"]),
    ],
)
def test_a_wrong_setting(assignment: str, words: list[str]) -> None:
    code, said = fails("--set", assignment)
    assert code == 2
    for word in words:
        assert word in said
    assert "too-short" not in said, "secrets are not shown"


def test_a_certificate_that_is_not_there() -> None:
    code, said = fails(
        "--set", "tls.certificate=/nowhere.pem", "--set", "tls.key=/nowhere.pem", "--set",
        "server.port=0", "--set", "admin.port=0",
    )  # fmt: skip
    assert code in (1, 2)
    assert "/nowhere.pem" in said


def test_the_soft_limit_on_open_files_is_raised(serve: Start) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))

    server = serve(prepare=lower)
    soft, _ = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert soft == 1024
    warnings = [line for line in server.log.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "1024" in warnings[0]
    assert "limits.connections" in warnings[0]


def test_anonymous_clients_on_a_public_address(serve: Start) -> None:
    server = serve({"server": {"host": "0.0.0.0"}})
    assert "anonymous" in next(line for line in server.log.splitlines() if "warning" in line)


def test_the_admin_token(serve: Start) -> None:
    server = serve({"admin": {"token": TOKEN, "host": "0.0.0.0"}})
    for path in ("/stats", "/connections", "/metrics"):
        assert server.get(path)[0] == 401
        assert server.get(path, "x" * 20)[0] == 401
        assert server.get(path, TOKEN)[0] == 200
    assert server.get("/health")[0] == 200
    assert TOKEN not in server.log


def test_the_public_listener_has_nothing_of_the_admin(serve: Start) -> None:
    server = serve()
    for path in ("/stats", "/connections", "/metrics"):
        assert get(server.port, path)[0] == 404


def test_connections_by_pages_and_filters(serve: Start) -> None:
    server = serve()
    raws = [server.connect(source=f"127.0.3.{n % 2 + 1}") for n in range(25)]
    for raw in raws:
        raw.open()
    numbers = []
    query = "limit=10"
    while query:
        status, body = server.get(f"/connections?{query}")
        assert status == 200
        assert len(body["connections"]) <= 10
        numbers += [row["number"] for row in body["connections"]]
        query = f"limit=10&after={body['next']}" if body["next"] else ""
    assert len(numbers) == 25
    assert numbers == sorted(set(numbers))
    assert len(server.connections("ip=127.0.3.1")) == 13
    assert server.get("/connections?colour=red")[0] == 400
    for raw in raws:
        raw.close()
