"""Every limit and every default, once.

The command line, the environment, TOML files and the reference page derive from these classes.
All are frozen and check themselves: a ConfigError names the setting, its value (never that of a
secret) and what is allowed. Durations are in seconds, sizes in bytes. A setting says whether it
can change while the server runs (`Setting.live`); `changes` has what differs and merges changes.
"""

from __future__ import annotations

from tidegate.core.settings.admission import BreakerSettings, PacingSettings, WaitingRoomSettings
from tidegate.core.settings.auth import AuthSettings
from tidegate.core.settings.auth_keys import ALGORITHMS, AuthKey
from tidegate.core.settings.backplane import BackplaneSettings
from tidegate.core.settings.fields import Setting, SettingError, SettingErrors
from tidegate.core.settings.fleet import FleetSettings
from tidegate.core.settings.ingest import IngestSettings, IngestSource
from tidegate.core.settings.issuers import AuthIssuer
from tidegate.core.settings.lifetime import DrainSettings, HeartbeatSettings, RebalanceSettings
from tidegate.core.settings.limits import POLICIES, LimitsSettings, Tier
from tidegate.core.settings.log import LogSettings
from tidegate.core.settings.messages import (
    BuffersSettings,
    DeflateSettings,
    MessagesSettings,
    OutboxSettings,
)
from tidegate.core.settings.pressure import SheddingSettings, ZonesSettings
from tidegate.core.settings.rooms import RoomRule, RoomsSettings, SessionsSettings
from tidegate.core.settings.server import (
    AdminSettings,
    AgentCheckSettings,
    ProxiesSettings,
    ServerSettings,
    TlsSettings,
)
from tidegate.core.settings.settings import Settings
from tidegate.core.settings.telemetry import TelemetrySettings
from tidegate.core.settings.webhooks import WebhooksSettings

__all__ = [
    "ALGORITHMS",
    "POLICIES",
    "AdminSettings",
    "AgentCheckSettings",
    "AuthIssuer",
    "AuthKey",
    "AuthSettings",
    "BackplaneSettings",
    "BreakerSettings",
    "BuffersSettings",
    "DeflateSettings",
    "DrainSettings",
    "FleetSettings",
    "HeartbeatSettings",
    "IngestSettings",
    "IngestSource",
    "LimitsSettings",
    "LogSettings",
    "MessagesSettings",
    "OutboxSettings",
    "PacingSettings",
    "ProxiesSettings",
    "RebalanceSettings",
    "RoomRule",
    "RoomsSettings",
    "ServerSettings",
    "SessionsSettings",
    "Setting",
    "SettingError",
    "SettingErrors",
    "Settings",
    "SheddingSettings",
    "TelemetrySettings",
    "Tier",
    "TlsSettings",
    "WaitingRoomSettings",
    "WebhooksSettings",
    "ZonesSettings",
]
