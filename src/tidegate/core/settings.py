"""Every limit and every default, once.

The command line, the environment, TOML files and the reference page derive from these classes.
All are frozen and check themselves: a ConfigError names the setting, its value (never that of a
secret) and what is allowed. Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, get_type_hints

from tidegate.core.fields import (
    Section,
    Setting,
    SettingError,
    make,
    setting,
    settings_of,
    shown,
    unknown,
)
from tidegate.core.load_settings import (
    POLICIES,
    BreakerSettings,
    DrainSettings,
    LimitsSettings,
    MessagesSettings,
    OutboxSettings,
    PacingSettings,
    SheddingSettings,
    Tier,
    WaitingRoomSettings,
    ZonesSettings,
)

__all__ = [
    "ALGORITHMS",
    "POLICIES",
    "AdminSettings",
    "AuthSettings",
    "BreakerSettings",
    "DeflateSettings",
    "DrainSettings",
    "HeartbeatSettings",
    "LimitsSettings",
    "MessagesSettings",
    "OutboxSettings",
    "PacingSettings",
    "ProxiesSettings",
    "ServerSettings",
    "Setting",
    "SettingError",
    "Settings",
    "SheddingSettings",
    "Tier",
    "TlsSettings",
    "WaitingRoomSettings",
    "ZonesSettings",
]

# RFC 7518 3.2: a key of the same size as the hash output or larger must be used.
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
ALGORITHMS: Final = (
    *_SECRET_BYTES,
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""The token algorithms that can be allowed (RFC 7518, RFC 8037); "none" is not among them."""

_GIB: Final = 1 << 30
_DAY: Final = 86_400.0


def _host(doc: str) -> Any:
    return setting("127.0.0.1", doc, pattern=r"[!-.0-~]+", wording="a host name or an address")


def _file(doc: str) -> Any:
    return setting(None, doc, wording="the path of a PEM file")


@dataclass(frozen=True, slots=True)
class ServerSettings(Section):
    """The public listener."""

    section: ClassVar[str] = "server"
    host: str = _host("Address that clients connect to.")
    port: int = setting(
        8000, "Port that clients connect to; 0 takes a free one.", low=0, high=65535
    )
    path: str = setting(
        "/ws",
        "Path at which WebSockets are opened; empty for any path.",
        pattern=r"(/[!-~]*)?",
        wording="empty, or a path that begins with / and has no spaces",
    )
    origins: tuple[str, ...] = setting(
        (),
        'Web origins that may connect, or "*" for all; empty for the same origin only.',
        pattern=r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#@]+",
        wording='an origin such as "https://example.com" (lower case, no path), or "*"',
    )
    backlog: int = setting(
        4096, "Connections that the kernel holds before they are accepted.", low=1, high=1_000_000
    )
    handshake_timeout: float = setting(
        5.0,
        "Time from the connection to the end of the request, TLS included.",
        unit="s",
        low=0.1,
        high=3600,
    )
    close_timeout: float = setting(
        5.0, "Time that a peer has to answer a close frame.", unit="s", low=0.1, high=3600
    )
    shutdown_timeout: float = setting(
        10.0,
        "Time for all connections to end when the server stops without a drain.",
        unit="s",
        low=0,
        high=_DAY,
    )


@dataclass(frozen=True, slots=True)
class AdminSettings(Section):
    """The listener for operators: metrics, stats, connections."""

    section: ClassVar[str] = "admin"
    enabled: bool = setting(True, "Whether there is an admin listener.")
    host: str = _host("Address of the admin listener.")
    port: int = setting(8001, "Port of the admin listener; 0 takes a free one.", low=0, high=65535)
    token: str | None = setting(
        None,
        "Bearer token that the admin listener asks for; needed when it is not on loopback.",
        pattern=r"[!-~]{16,}",
        wording="at least 16 printable ASCII characters without spaces",
        secret=True,
    )

    def _check(self) -> None:
        if self.enabled and self.token is None and not _loopback(self.host):
            problem = f"must be set, because admin.host = {shown(self.host)} is not loopback"
            raise self.error("token", problem)


@dataclass(frozen=True, slots=True)
class TlsSettings(Section):
    """TLS on the public listener."""

    section: ClassVar[str] = "tls"
    certificate: str | None = _file("File with the certificate chain.")
    key: str | None = _file("File with the private key of the certificate.")

    def _check(self) -> None:
        if (self.certificate is None) != (self.key is None):
            missing, present = (
                ("key", "certificate") if self.certificate else ("certificate", "key")
            )
            raise SettingError(f"tls.{missing}", f"must be set too, because tls.{present} is set")


@dataclass(frozen=True, slots=True)
class HeartbeatSettings(Section):
    """How dead and idle connections are found."""

    section: ClassVar[str] = "heartbeat"
    interval: float = setting(30.0, "Time between pings.", unit="s", low=0.1, high=_DAY)
    timeout: float = setting(
        10.0, "Time that a peer has to show life after a ping.", unit="s", low=0.1, high=3600
    )
    idle_timeout: float = setting(
        0.0,
        "Time without messages after which a connection is closed; 0 for never.",
        unit="s",
        low=0,
        high=30 * _DAY,
    )


@dataclass(frozen=True, slots=True)
class DeflateSettings(Section):
    """Compression of messages (permessage-deflate, RFC 7692)."""

    section: ClassVar[str] = "deflate"
    enabled: bool = setting(False, "Whether messages may be compressed.")
    context_takeover: bool = setting(
        False, "Whether to keep a window for each connection: smaller messages, far more memory."
    )
    # RFC 7692 7.1.2.1 allows 8 too, but zlib has no raw deflate with a window of 8 bits.
    window_bits: int = setting(12, "Window of the compressor.", unit="bits", low=9, high=15)
    min_size: int = setting(
        256, "Size below which a message is sent as it is.", unit="bytes", low=0, high=_GIB
    )


@dataclass(frozen=True, slots=True)
class ProxiesSettings(Section):
    """The proxies in front, and how they name the client's address."""

    section: ClassVar[str] = "proxies"
    trusted: tuple[str, ...] = setting(
        (),
        "Networks whose word about the client's address is taken.",
        wording='a network such as "10.0.0.0/8" or an address',
    )
    header: str = setting(
        "x-forwarded-for",
        "Header that names the client's address.",
        choices=("x-forwarded-for", "forwarded"),
    )
    protocol: bool = setting(
        False, "Whether connections begin with a PROXY protocol version 2 header."
    )

    def _check(self) -> None:
        for network in self.trusted:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise self.error("trusted", str(error)) from None
        if self.protocol and not self.trusted:
            raise self.error("protocol", "needs proxies.trusted, the networks of the proxies")


@dataclass(frozen=True, slots=True)
class AuthSettings(Section):
    """Who may connect. Tokens are accepted when there is a secret or a public key."""

    section: ClassVar[str] = "auth"
    anonymous: bool = setting(True, "Whether clients without a token may connect.")
    algorithms: tuple[str, ...] = setting(
        ("HS256",), "Algorithms that tokens may be signed with, of one family.", choices=ALGORITHMS
    )
    secret: str | None = setting(
        None, "Key of HS256, HS384 and HS512: at least 32, 48 or 64 bytes.", secret=True
    )
    public_key: str | None = setting(
        None,
        "Public key of the other algorithms: PEM text, or the path of a PEM file.",
        pattern=r"[^\x00]+",
        wording="PEM text, or the path of a PEM file",
    )
    issuer: str | None = setting(None, 'What the "iss" claim must be, when set.')
    audience: str | None = setting(None, 'What the "aud" claim must hold, when set.')
    query_token: bool = setting(
        False, "Whether a token may come in the query, where logs of proxies show it."
    )
    first_message: bool = setting(True, "Whether a token may come in a first auth message.")
    timeout: float = setting(
        5.0, "Time that the first auth message has to come.", unit="s", low=0.1, high=3600
    )
    leeway: float = setting(
        0.0, "Difference between clocks that is forgiven.", unit="s", low=0, high=300
    )

    def _check(self) -> None:
        if not self.algorithms:
            raise self.error("algorithms", "must name at least one algorithm")
        shared = [name for name in self.algorithms if name in _SECRET_BYTES]
        # RFC 8725 2.1: a verifier of both families can be made to use a public key as a secret.
        if 0 < len(shared) < len(self.algorithms):
            raise self.error("algorithms", "must not mix HS algorithms with the others")
        if shared and self.public_key is not None:
            raise self.error("algorithms", "must not be HS algorithms, which use no public key")
        if not shared and self.secret is not None:
            raise self.error("algorithms", "must be HS algorithms, because auth.secret is set")
        if self.secret is not None:
            longest = max(shared, key=_SECRET_BYTES.__getitem__)
            if len(self.secret.encode()) < _SECRET_BYTES[longest]:
                problem = f"must be at least {_SECRET_BYTES[longest]} bytes for {longest}"
                raise self.error("secret", problem)
        if not shared and self.public_key is None:
            raise self.error("algorithms", "needs auth.public_key")
        if not self.anonymous and self.secret is None and self.public_key is None:
            raise self.error("anonymous", "needs auth.secret or auth.public_key to let anyone in")


_TIER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a server; ``Settings()`` is the defaults."""

    server: ServerSettings = field(default_factory=ServerSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    pacing: PacingSettings = field(default_factory=PacingSettings)
    waiting_room: WaitingRoomSettings = field(default_factory=WaitingRoomSettings)
    shedding: SheddingSettings = field(default_factory=SheddingSettings)
    zones: ZonesSettings = field(default_factory=ZonesSettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    heartbeat: HeartbeatSettings = field(default_factory=HeartbeatSettings)
    messages: MessagesSettings = field(default_factory=MessagesSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    deflate: DeflateSettings = field(default_factory=DeflateSettings)
    proxies: ProxiesSettings = field(default_factory=ProxiesSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)

    def __post_init__(self) -> None:
        for name in self.tiers:
            if not _TIER_NAME.fullmatch(name):
                problem = "a tier's name must be 1 to 64 letters, digits, _ or -"
                raise SettingError(f"tiers.{shown(name)}", problem)
        # Rounded once: added one by one, shares that are meant to be 1 together may pass it.
        total = math.fsum(tier.reserved for tier in self.tiers.values())
        if total > 1:
            raise SettingError("tiers.*.reserved", f"must be 1 at most together, not {total:g}")
        server, admin = self.server, self.admin
        if admin.enabled and admin.port and (admin.host, admin.port) == (server.host, server.port):
            raise admin.error("port", "must not be server.port as well")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Mapping[str, object]]) -> Settings:
        """Build settings from plain nested mappings, as TOML has them; the rest are defaults.

        Lists may stand for tuples and whole numbers for fractions; nothing else is converted.
        Raises ConfigError for a wrong value and for a name that does not exist, with the nearest
        names that do.
        """
        made: dict[str, Any] = {}
        for name, values in data.items():
            if name == "tiers":
                if not isinstance(values, Mapping):
                    raise SettingError(name, "must be a section of tiers", shown(values))
                made[name] = {tier: make(Tier, f"tiers.{tier}", of) for tier, of in values.items()}
            elif name in _SECTIONS:
                made[name] = make(_SECTIONS[name], name, values)
            else:
                raise unknown(name, "section", [*_SECTIONS, "tiers"])
        return cls(**made)

    @staticmethod
    def fields() -> Iterator[Setting]:
        """Every setting there is, by section; the section of a tier's settings is ``tiers.*``."""
        for section in (*_SECTIONS.values(), Tier):
            yield from settings_of(section)


_SECTIONS: Final[Mapping[str, type[Section]]] = {
    name: section for name, section in get_type_hints(Settings).items() if name != "tiers"
}


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
