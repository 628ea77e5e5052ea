"""The npm package `ws` as a client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.certificates import make_certificate
from tests.support.process import Process
from tests.support.tokens import SECRET, token

HANDLERS = "-m tests.support.handlers"
NATIVE = ["tidegate.v1.json"]
Play = Callable[..., Any]


@pytest.fixture
def play(node: Callable[..., str]) -> Play:
    def run(scene: str, server: Process, **options: Any) -> Any:
        return json.loads(node("client.mjs", scene, server.url, json.dumps(options)))

    return run


def check_echo(result: dict[str, Any]) -> None:
    assert result["fragments"] == "fragments"
    assert result["pong"] == "now"
    assert result["close"]["code"] == 4001


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_echo(program: Start, play: Play, deflate: bool) -> None:
    server = program(
        HANDLERS,
        {
            "deflate": {"enabled": deflate, "max_ratio": 2000},
            "messages": {"max_size": 2 << 20},
            "outbox": {"max_bytes": 4 << 20},
        },
    )
    result = play("echo", server, perMessageDeflate={"threshold": 0} if deflate else False)
    check_echo(result)
    assert result["extensions"].startswith("permessage-deflate" if deflate else "")
    assert bool(result["extensions"]) == deflate
    server.wait_open(0)


def test_echo_over_tls(program: Start, play: Play, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = program(
        HANDLERS,
        {
            "tls": {"certificate": str(certificate), "key": str(key)},
            "messages": {"max_size": 2 << 20},
            "outbox": {"max_bytes": 4 << 20},
        },
    )
    check_echo(play("echo", server, ca=certificate.read_text()))


def test_closed_by_the_server(program: Start, play: Play) -> None:
    server = program(HANDLERS)
    assert play("closedByServer", server) == {"code": 4000, "reason": "so long"}


def test_refused_over_http(serve: Start, play: Play) -> None:
    server = serve({"limits": {"per_ip": 0}})
    result = play("refused", server)
    assert result["status"] == 429
    assert result["headers"]["retry-after"] == "10"
    assert result["headers"]["x-rejection-reason"] == "ip_limit"
    assert result["body"]["error"] == "ip_limit"
    assert result["body"]["retryAfter"] == 10


def test_refused_in_band(serve: Start, play: Play) -> None:
    server = serve({"limits": {"connections": 0}})
    result = play("refusedInBand", server, protocols=NATIVE)
    assert result["protocol"] == "tidegate.v1.json"
    assert result["code"] == 1013
    assert json.loads(result["reason"]) == {"error": "server_limit", "retryAfter": 5}


def test_room(serve: Start, play: Play) -> None:
    server = serve({"auth": {"secret": SECRET}})
    result = play("room", server, protocols=[*NATIVE, f"tidegate.token.{token('ann')}"])
    assert result["welcome"]["userId"] == "ann"
    assert [ack["members"] for ack in result["acks"]] == [1, 2]
    assert result["heard"]["data"] == {"n": 1}
    assert result["heard"]["from"] == "ann"
    server.wait_open(0)


def test_heartbeat(serve: Start, play: Play) -> None:
    server = serve({"heartbeat": {"interval": 0.3, "timeout": 0.5}})
    result = play("stay", server)
    assert result["open"]
    assert result["pings"] >= 3
    server.wait_open(0)
