"""One Linux machine: kernel settings, limits of users, and units of systemd."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from tidegate.addresses import authority, parse, unbracketed, unix_path
from tidegate.deploy.plan import File, Plan, variable
from tidegate.deploy.rendering import render
from tidegate.errors import UsageError

__all__ = ["limits", "sysctl", "systemd"]

_NR_OPEN: Final = 1 << 20  # the kernel's default for fs.nr_open
_LEAST_CONNTRACK: Final = 262_144
_LEAST_ENDED: Final = 262_144  # the kernel's default on a large machine, and cheap on a small one
_CONFIG: Final = "/etc/tidegate/tidegate.toml"


def sysctl(plan: Plan) -> list[File]:
    """Kernel settings."""
    # Two sockets for each client where a proxy is on the same machine.
    sockets = 2 * plan.connections
    values = {
        "connections": f"{plan.connections:,}",
        "backlog": max(4096, plan.backlog),
        "nr_open": max(_NR_OPEN, plan.descriptors),
        "conntrack": max(_LEAST_CONNTRACK, 2 * sockets),
        "ended": max(_LEAST_ENDED, sockets),
    }
    text = render("sysctl.conf", values)
    return [File("60-tidegate.conf", text, "/etc/sysctl.d/60-tidegate.conf")]


def limits(plan: Plan) -> list[File]:
    """Limits of users who log in, for `tidegate serve` in a shell."""
    values = {"connections": f"{plan.limit:,}", "descriptors": plan.descriptors}
    text = render("limits.conf", values)
    return [File("60-tidegate.conf", text, "/etc/security/limits.d/60-tidegate.conf")]


def systemd(plan: Plan) -> list[File]:
    """A socket that is always open, and two processes that take turns behind it."""
    server = plan.settings.server
    listens = [
        f"ListenStream={unix_path(host) or authority(host, server.port)}"
        for host in _socket_addresses(server.host)
    ]
    if any(map(unix_path, server.host)):
        listens.append("SocketMode=0660")
    if "0.0.0.0" in server.host:
        listens.append("BindIPv6Only=ipv6-only")
    values = {
        "connections": f"{plan.connections:,}",
        "listen": "\n".join(listens),
        "backlog": plan.backlog,
        "program": plan.program,
        "config": _CONFIG,
        "environment": "\n".join(_environment(plan)),
        "credentials": "\n".join(_credentials(plan)),
        "home": "read-only" if PurePath(plan.program).is_relative_to("/home") else "yes",
        "descriptors": plan.descriptors,
        "memory": plan.memory * 3 // 2,
        "stop": plan.drain_seconds,
    }
    return [
        File(name, render(name, values), f"/etc/systemd/system/{name}")
        for name in ("tidegate.socket", "tidegate@.service", "tidegate.service")
    ]


def _socket_addresses(hosts: tuple[str, ...]) -> list[str]:
    """The addresses of a listener; systemd looks no names up.

    Raises:
        UsageError: one is another name than `localhost`.
    """
    addresses: list[str] = []
    for host in hosts:
        if host == "localhost":
            addresses += ("127.0.0.1", "::1")
        elif unix_path(host) is None and parse(unbracketed(host)) is None:
            raise UsageError(f"server.host {host!r}: a socket of systemd needs an address")
        else:
            addresses.append(host)
    return addresses


def _environment(plan: Plan) -> list[str]:
    tls = plan.settings.tls
    lines = [f"Environment={variable('admin.port')}={plan.two_admin_ports}%i"]
    if tls.certificate:
        lines.append(f"Environment={variable('tls.certificate')}=%d/certificate")
        lines.append(f"Environment={variable('tls.key')}=%d/key")
    return lines


def _credentials(plan: Plan) -> list[str]:
    tls = plan.settings.tls
    if not tls.certificate:
        return []
    return [
        f"LoadCredential=certificate:{tls.certificate}",
        f"LoadCredential=key:{tls.key or tls.certificate}",
    ]
