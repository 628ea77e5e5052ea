"""Plans for `tidegate deploy`, as tests need them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.net import free_port
from tidegate.core.settings import Settings
from tidegate.deploy import TARGETS, File, Node, Plan

__all__ = ["NODES", "SECRETS", "SETTINGS", "files", "here", "plan"]

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


def here(text: str, port: int, statistics: int, folder: Path, *, tls: bool = False) -> str:
    """Change in the file of a proxy what depends on the machine: where it listens, who it is."""
    changed = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "bind :80": f"bind 127.0.0.1:{free_port() if tls else port}",
        "listen 80 ": f"listen 127.0.0.1:{port} ",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "127.0.0.1:8404": f"127.0.0.1:{statistics}",
        "127.0.0.1:8405": f"127.0.0.1:{statistics}",
        "user haproxy": "" if os.getuid() else "user haproxy",
        "group haproxy": "" if os.getuid() else "group haproxy",
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "http {\n": "http {\n"
        + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in _TEMPORARY),
    }
    for before, after in changed.items():
        text = text.replace(before, after)
    return text


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
