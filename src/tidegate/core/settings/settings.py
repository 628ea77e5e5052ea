"""All settings together, and how they are made from plain values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_type_hints

from tidegate.addresses import unix_path
from tidegate.core.settings.admission import BreakerSettings, PacingSettings, WaitingRoomSettings
from tidegate.core.settings.auth import AnonymousSettings, AuthSettings
from tidegate.core.settings.backplane import BackplaneSettings
from tidegate.core.settings.fields import (
    Section,
    Setting,
    SettingError,
    collecting,
    make,
    raise_all,
    settings_of,
    shown,
    unknown,
)
from tidegate.core.settings.fleet import FleetSettings
from tidegate.core.settings.hooks import HooksSettings
from tidegate.core.settings.ingest import IngestSettings
from tidegate.core.settings.lifetime import DrainSettings, HeartbeatSettings, RebalanceSettings
from tidegate.core.settings.limits import LimitsSettings, Tier
from tidegate.core.settings.log import LogSettings
from tidegate.core.settings.messages import (
    BuffersSettings,
    DeflateSettings,
    MessagesSettings,
    OutboxSettings,
)
from tidegate.core.settings.pressure import SheddingSettings, ZonesSettings
from tidegate.core.settings.rooms import RoomsSettings, SessionsSettings
from tidegate.core.settings.server import (
    AdminSettings,
    AgentCheckSettings,
    ProxiesSettings,
    ServerSettings,
    TlsSettings,
)
from tidegate.core.settings.servers import KAFKA
from tidegate.core.settings.telemetry import TelemetrySettings
from tidegate.core.settings.webhooks import WebhooksSettings

__all__ = ["Settings"]

_NO_HISTORY: Final = (
    "must be 0 with Kafka as backplane.url, as a room has no offsets of its own in a topic; "
    "Valkey, Redis and NATS keep histories"
)
_NO_PRESENCE: Final = (
    "must be off with Kafka as backplane.url, as nodes cannot ask each other over it who is there; "
    "over Valkey, Redis and NATS they can"
)
_TIER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a server; `Settings()` is the defaults."""

    server: ServerSettings = field(default_factory=ServerSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    agent_check: AgentCheckSettings = field(default_factory=AgentCheckSettings)
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
    rooms: RoomsSettings = field(default_factory=RoomsSettings)
    sessions: SessionsSettings = field(default_factory=SessionsSettings)
    backplane: BackplaneSettings = field(default_factory=BackplaneSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    buffers: BuffersSettings = field(default_factory=BuffersSettings)
    deflate: DeflateSettings = field(default_factory=DeflateSettings)
    proxies: ProxiesSettings = field(default_factory=ProxiesSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    anonymous: AnonymousSettings = field(default_factory=AnonymousSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)
    rebalance: RebalanceSettings = field(default_factory=RebalanceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    webhooks: WebhooksSettings = field(default_factory=WebhooksSettings)
    hooks: HooksSettings = field(default_factory=HooksSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)

    def __post_init__(self) -> None:
        for name in self.tiers:
            if not _TIER_NAME.fullmatch(name):
                problem = "a tier's name must be 1 to 64 letters, digits, _ or -"
                raise SettingError(f"tiers.{shown(name)}", problem)
        # Rounded once: added one by one, shares that are meant to be 1 together may pass it.
        total = math.fsum(tier.reserved for tier in self.tiers.values())
        if total > 1:
            raise SettingError("tiers.*.reserved", f"must be 1 at most together, not {total:g}")
        url = self.backplane.url
        if url is not None and KAFKA.match(url):
            _check_rules(self.rooms)
        server, admin, proxies = self.server, self.admin, self.proxies
        if proxies.protocol and not proxies.trusted and not any(map(unix_path, server.host)):
            raise proxies.error("protocol", "needs proxies.trusted, the networks of the proxies")
        if admin.enabled:
            _check_apart(admin, server)
        if self.agent_check.enabled:
            _check_apart(self.agent_check, server)
            if admin.enabled:
                _check_apart(self.agent_check, admin)

    @property
    def most_kept(self) -> int:
        """`buffers.max_bytes` as it is in force: room for four messages of `max_size` at least."""
        return max(self.buffers.max_bytes, 4 * self.messages.max_size)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Mapping[str, object]]) -> Settings:
        """Build settings from plain nested mappings, as TOML has them; the rest are defaults.

        Lists may stand for tuples, whole numbers for fractions, and texts such as "30s" or "64KB"
        for seconds or bytes; nothing else is converted.

        Raises:
            SettingError: a value is wrong, or a name does not exist; the text has the nearest
                names that do.
            SettingErrors: this is so of several.
        """
        made: dict[str, Any] = {}
        errors: list[SettingError] = []
        for name, values in data.items():
            with collecting(errors):
                if name == "tiers":
                    made[name] = _tiers(values)
                elif name in _SECTIONS:
                    made[name] = make(_SECTIONS[name], name, values)
                else:
                    raise unknown(name, "section", [*_SECTIONS, "tiers"])
        raise_all(errors)
        return cls(**made)

    def items(self) -> Iterator[tuple[str, Setting, Any]]:
        """Every setting with its full name and its value, secrets too, tiers at the end."""
        for known in Settings.fields():
            if known.section != Tier.section:
                yield known.name, known, getattr(getattr(self, known.section), known.key)
        for name, tier in self.tiers.items():
            for known in settings_of(Tier):
                yield f"tiers.{name}.{known.key}", known, getattr(tier, known.key)

    @staticmethod
    def fields() -> Iterator[Setting]:
        """Every setting there is, by section; the section of a tier's settings is `tiers.*`."""
        for section in (*_SECTIONS.values(), Tier):
            yield from settings_of(section)


def _check_rules(rooms: RoomsSettings) -> None:
    """Raise SettingError for what rooms cannot do over Kafka."""
    if any(rule.history_size for rule in rooms.rules):
        raise SettingError("rooms.rules.history_size", _NO_HISTORY)
    if any(rule.presence != "off" for rule in rooms.rules):
        raise SettingError("rooms.rules.presence", _NO_PRESENCE)


def _check_apart(
    one: AdminSettings | AgentCheckSettings, other: ServerSettings | AdminSettings
) -> None:
    """Check that two listeners have no address in common."""
    for host in one.host:
        if host not in other.host:
            continue
        if unix_path(host) is not None:
            raise one.error("host", f"must not be {other.section}.host as well")
        if one.port and one.port == other.port:
            raise one.error("port", f"must not be {other.section}.port as well")


def _tiers(values: object) -> dict[str, Tier]:
    if not isinstance(values, Mapping):
        raise SettingError("tiers", "must be a section of tiers", shown(values))
    tiers: dict[str, Tier] = {}
    errors: list[SettingError] = []
    for name, given in values.items():
        with collecting(errors):
            tiers[name] = make(Tier, f"tiers.{name}", given)
    raise_all(errors)
    return tiers


_SECTIONS: Final[Mapping[str, type[Section]]] = {
    name: section for name, section in get_type_hints(Settings).items() if name != "tiers"
}
