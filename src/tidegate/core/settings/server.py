"""Where the server listens for clients and for operators, and which proxies are in front."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from tidegate.addresses import is_local
from tidegate.core.hosts import Hosts
from tidegate.core.origins import normal_origin
from tidegate.core.settings.fields import Section, SettingError, setting, shown

__all__ = [
    "AdminSettings",
    "AgentCheckSettings",
    "ProxiesSettings",
    "ServerSettings",
    "TlsSettings",
]

_DAY: Final = 86_400.0

# A name or an IPv4 address, an IPv6 address (RFC 4007 11 for the zone), or a Unix socket.
_HOST: Final = (
    r"((?![/:,\[\]])[!-~])+"
    r"|(?P<open>\[)?[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?(?(open)\])"
    r"|unix:/[^\x00-\x1f\x7f\ud800-\udfff]+"
)


def _hosts(doc: str) -> Any:
    return setting(
        ("127.0.0.1",),
        f"{doc}: one or several of a name, an IPv4 or IPv6 address, `unix:/path/of/a.sock`.",
        pattern=_HOST,
        wording="a host name, an address without a port, or unix:/path",
        alone=True,
    )


def _file(doc: str) -> Any:
    return setting(None, doc, wording="the path of a PEM file")


@dataclass(frozen=True, slots=True)
class ServerSettings(Section):
    """The public listener."""

    section: ClassVar[str] = "server"
    host: tuple[str, ...] = _hosts("Addresses that clients connect to")
    port: int = setting(
        8000, "Port that clients connect to; 0 takes a free one.", low=0, high=65535
    )
    path: str = setting(
        "/ws",
        "Path at which WebSockets are opened; empty for any path.",
        pattern=r"(/[!-~]*)?",
        wording="empty, or a path that begins with / and has no spaces",
    )
    workers: int = setting(
        1,
        "Worker processes that share the port; 0 for one for each core. "
        "With more than 1 a supervisor starts them, and each has one core.",
        low=0,
        high=256,
    )
    route: str = setting(
        "",
        "Name by which balancers bring a client back to this node, as `--node NAME=HOST:PORT` of "
        "`tidegate deploy` has it. Clients see it. Empty for none.",
        pattern=r"[A-Za-z0-9_-]{0,64}",
        wording="empty, or up to 64 letters, digits, _ or -",
    )
    sse: str = setting(
        "",
        "Path of the fallback for networks that break WebSockets, such as `/sse`: server-sent "
        "events, and messages by POST. Empty for none.",
        pattern=r"(/[!-~]*)?",
        wording="empty, or a path that begins with / and has no spaces",
    )
    page: bool = setting(
        True, "Whether `GET /` is answered by a page that says what this is and how to connect."
    )
    origins: tuple[str, ...] = setting(
        (),
        'Web origins that may connect, or "*" for all; empty for the same origin only. '
        'In an origin, "*" stands for one label of the host or for the port.',
        pattern=r"[^\s\"]+",
        wording='an origin such as "https://example.com", or "*"',
        live=True,
    )
    hosts: tuple[str, ...] = setting(
        (),
        "Host names whose pages are of the same origin, and that the admin listener may have "
        'without a token; "*" for all. Empty for names of this machine only, where `server.host` '
        "cannot be reached from another, and for all elsewhere.",
        pattern=r"[^\s\"/@?#]+",
        wording='a host name such as "chat.example.com", or an IP address, without a port',
    )
    refuse: str = setting(
        "in-band",
        "How clients are refused that offer a subprotocol spoken here: by a close frame "
        "(a browser shows its page nothing else), or by an HTTP status.",
        choices=("in-band", "http"),
    )
    backlog: int = setting(
        4096, "Connections that the kernel queues until they are accepted.", low=1, high=1_000_000
    )
    handshake_timeout: float = setting(
        5.0,
        "Time in which a client must send its request, TLS included.",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )
    max_pending: int = setting(
        1000,
        "Attempts that may wait for a slow decision, such as one that needs a database.",
        low=0,
        high=1_000_000,
    )
    close_timeout: float = setting(
        5.0,
        "Time in which a peer must answer a close frame.",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )
    shutdown_timeout: float = setting(
        10.0,
        "Time in which connections must end in a stop, and HTTP responses in a drain too.",
        unit="s",
        low=0,
        high=_DAY,
        live=True,
    )

    def _check(self) -> None:
        if not self.host:
            raise self.error("host", "must have an address")
        if self.sse and self.sse == self.path:
            raise self.error("sse", "must be another path than server.path")
        for origin in self.origins:
            try:
                normal_origin(origin)
            except ValueError as error:
                raise self.error("origins", f"{shown(origin)} is no origin: {error}") from None
        for host in self.hosts:
            try:
                Hosts([host])
            except ValueError as error:
                raise self.error("hosts", f"{shown(host)} is no host: {error}") from None


@dataclass(frozen=True, slots=True)
class AdminSettings(Section):
    """The listener for operators: metrics, stats and connections."""

    section: ClassVar[str] = "admin"
    enabled: bool = setting(True, "Whether there is an admin listener.")
    dashboard: bool = setting(True, "Whether the admin listener has the dashboard, at `/`.")
    host: tuple[str, ...] = _hosts("Addresses of the admin listener")
    port: int = setting(8001, "Port of the admin listener; 0 takes a free one.", low=0, high=65535)
    token: str | None = setting(
        None,
        "Bearer token for the admin listener; required when it is not on loopback.",
        pattern=r"[!-~]{16,}",
        wording="at least 16 printable ASCII characters without spaces",
        secret=True,
    )

    def _check(self) -> None:
        if not self.host:
            raise self.error("host", "must have an address")
        if self.enabled and self.token is None:
            for host in self.host:
                if not is_local(host):
                    problem = f"must be set, because admin.host = {shown(host)} is not loopback"
                    raise self.error("token", problem)


@dataclass(frozen=True, slots=True)
class AgentCheckSettings(Section):
    """The listener for HAProxy's agent-check: which share of new connections a node should get."""

    section: ClassVar[str] = "agent_check"
    enabled: bool = setting(
        False, "Whether HAProxy can ask here; of use with several nodes behind it."
    )
    host: tuple[str, ...] = _hosts("Addresses that HAProxy asks at")
    port: int = setting(8002, "Port that HAProxy asks at; 0 takes a free one.", low=0, high=65535)

    def _check(self) -> None:
        if not self.host:
            raise self.error("host", "must have an address")


@dataclass(frozen=True, slots=True)
class TlsSettings(Section):
    """TLS on the public listener."""

    section: ClassVar[str] = "tls"
    certificate: str | None = _file("File with the certificate chain.")
    key: str | None = _file("File with the private key of the certificate.")
    key_password: str | None = setting(
        None, "Password of the private key, where it is encrypted.", secret=True
    )

    def _check(self) -> None:
        if (self.certificate is None) != (self.key is None):
            missing, present = (
                ("key", "certificate") if self.certificate else ("certificate", "key")
            )
            raise SettingError(f"tls.{missing}", f"must be set too, because tls.{present} is set")


@dataclass(frozen=True, slots=True)
class ProxiesSettings(Section):
    """The proxies in front of the server, and how they pass on the client's address."""

    section: ClassVar[str] = "proxies"
    trusted: tuple[str, ...] = setting(
        (),
        "Networks of the proxies that are trusted to name the client's address.",
        wording='a network such as "10.0.0.0/8" or an address',
    )
    header: str = setting(
        "x-forwarded-for",
        "Header that names the client's address.",
        choices=("x-forwarded-for", "forwarded"),
    )
    protocol: bool = setting(
        False, "Whether connections begin with a PROXY protocol header, version 1 or 2."
    )

    def _check(self) -> None:
        for network in self.trusted:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise self.error("trusted", str(error)) from None
