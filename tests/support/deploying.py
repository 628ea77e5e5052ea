"""Plans for `tidegate deploy`, as tests need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.core.settings import Settings
from tidegate.deploy import TARGETS, File, Node, Plan

__all__ = ["NODES", "SECRETS", "SETTINGS", "files", "plan"]

NODES = (Node("10.0.0.5", 8000), Node("10.0.0.6", 8000))

SECRETS: Mapping[str, Mapping[str, Any]] = {
    "admin": {"token": "the-token-of-the-operator"},
    "auth": {"secret": "a-secret-of-32-bytes-that-signs-tokens"},
    "waiting_room": {"enabled": True, "secret": "a-secret-of-32-bytes-that-signs-tickets"},
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "the defaults": {},
    "trusted proxies": {"proxies": {"trusted": ["10.0.0.0/8"]}, "server": {"refuse": "http"}},
    "the PROXY protocol": {"proxies": {"trusted": ["10.0.0.0/8"], "protocol": True}},
    "Forwarded": {"proxies": {"trusted": ["10.0.0.0/8", "fd00::/8"], "header": "forwarded"}},
    "secrets": SECRETS,
    "odd values": {
        "server": {"host": ["0.0.0.0", "::"], "port": 8012, "origins": ["https://*.example.com"]},
        "limits": {"connections": 100_000, "dry_run": ["pacing"]},
        "zones": {"ping_interval": []},
        "drain": {"window": 0.5},
        "tiers": {"free": {"connections": 5}},
    },
    "agent-check": {
        "agent_check": {"enabled": True, "host": ["0.0.0.0"], "port": 8099},
        "proxies": {"trusted": ["10.0.0.0/8"]},
    },
    "workers": {"server": {"workers": 4}, "limits": {"connections": 5000}},
    "a backplane": {"backplane": {"url": "rediss://:hush@10.0.0.9:6380/1"}},
    "TLS": {"tls": {"certificate": "/etc/tls/chain.pem", "key": "/etc/tls/key.pem"}},
}
"""Settings that files are written for, by what is special about them."""


def plan(settings: Mapping[str, Any] | None = None, **changed: Any) -> Plan:
    """A plan of two nodes."""
    values = {"nodes": NODES, "version": "1.2.3", **changed}
    return Plan(Settings.from_mapping(settings or {}), **values)


def files(target: str, of: Plan) -> dict[str, str]:
    """The files of a target, by name."""
    written: list[File] = TARGETS[target].files(of)
    return {file.name: file.text for file in written}
