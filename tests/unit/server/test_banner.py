from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.settings import Settings
from tidegate.server.banner import facts, origin
from tidegate.server.config import load

SECRET = "0123456789abcdef0123456789abcdef"
ADMIN = [("127.0.0.1", 8001)]


def told(*addresses: tuple[str, int], **sections: Any) -> dict[str, str]:
    return facts(Settings.from_mapping(sections), addresses or [("127.0.0.1", 8000)], ADMIN)


def test_the_defaults() -> None:
    assert told() == {
        "websocket": "ws://127.0.0.1:8000/ws",
        "protocols": "tidegate.v1.json, tidegate.v1.msgpack, tidegate.v1.proto",
        "health": "http://127.0.0.1:8000/health, /ready",
        "admin": "http://127.0.0.1:8001/metrics, /stats, /connections",
        "dashboard": "http://127.0.0.1:8001/",
        "try": "http://127.0.0.1:8001/try",
        "limits": "10,000 connections, 2,000 new ones a second, 100 per IP, 10 per user, "
        "10,000 per room, 100 rooms per connection",
        "clients": "anonymous; tokens are not accepted",
    }


def test_where_haproxy_asks() -> None:
    agents = [("::1", 8002), ("unix:/run/agent", 0)]
    told = facts(Settings(), [("127.0.0.1", 8000)], ADMIN, None, agents)
    assert told["agent"] == "[::1]:8002, unix:/run/agent, for HAProxy"


@pytest.mark.parametrize(
    ("pacing", "limits"),
    [
        ({"rate": 0.5}, "10,000 connections, 0.5 new ones a second, 100 per IP"),
        ({"rate": 1_000_000}, "10,000 connections, 1,000,000 new ones a second, 100 per IP"),
        ({"enabled": False}, "10,000 connections, 100 per IP"),
    ],
)
def test_the_pace(pacing: dict[str, Any], limits: str) -> None:
    assert told(pacing=pacing)["limits"].startswith(limits)


def test_the_real_addresses() -> None:
    found = told(("0.0.0.0", 9000), ("::1", 9001), server={"path": ""})
    assert found["websocket"] == "ws://0.0.0.0:9000 ws://[::1]:9001"


def test_several_addresses_and_unix_sockets() -> None:
    public = [("::1", 8000), ("unix:/run/t.sock", 0)]
    found = facts(Settings(), public, [("127.0.0.1", 8001), ("unix:/run/a.sock", 0)])
    assert found["websocket"] == "ws://[::1]:8000/ws unix:/run/t.sock /ws"
    assert found["health"] == "http://[::1]:8000/health unix:/run/t.sock /health, /ready"
    assert found["admin"] == (
        "http://127.0.0.1:8001/metrics unix:/run/a.sock /metrics, /stats, /connections"
    )


def test_tls() -> None:
    found = told(tls={"certificate": "a.pem", "key": "b.pem"})
    assert found["websocket"].startswith("wss://")
    assert found["health"].startswith("https://")
    assert found["admin"].startswith("http://")


def test_no_admin_listener() -> None:
    assert facts(Settings(), [], [])["admin"] == "off"


def test_tiers() -> None:
    tiers = {
        "free": {"per_user": 2},
        "pro": {"connections": 50, "reserved": 0.25},
        "plain": {},
    }
    assert told(tiers=tiers)["tiers"] == (
        "free: 2 per user; pro: 50 connections, 25% of the server reserved; "
        "plain: the limits of all"
    )


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({"secret": SECRET}, "with a token (HS256), or anonymous"),
        ({"secret": SECRET, "anonymous": False}, "with a token (HS256) only"),
        (
            {"public_key": "key.pem", "algorithms": ["ES256", "EdDSA"], "anonymous": False},
            "with a token (ES256, EdDSA) only",
        ),
        (
            {"keys": [{"algorithm": name, "public_key": "k"} for name in ("ES256", "EdDSA")] * 2},
            "with a token (ES256, EdDSA), or anonymous",
        ),
        (
            {"secret": SECRET, "keys": [{"algorithm": "ES256", "public_key": "k"}]},
            "with a token (HS256, ES256), or anonymous",
        ),
    ],
)
def test_who_may_connect(auth: dict[str, Any], expected: str) -> None:
    found = told(auth=auth)
    assert found["clients"] == expected
    assert SECRET not in str(found)


def test_where_settings_come_from_and_what_is_ignored() -> None:
    assert origin(load()).told == {"settings": "no file"}
    environment = {"TIDEGATE_LIMITS_PER_IP": "5", "TIDEGATE_PORT": "tcp://10.96.0.7:8000"}
    assert origin(load(None, environment)).told == {
        "settings": "no file, TIDEGATE_LIMITS_PER_IP",
        "ignored": "TIDEGATE_PORT (of Kubernetes or Docker)",
    }
