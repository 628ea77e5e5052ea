"""Every limit and every default, once.

The command line, the environment, TOML files and the reference page derive from these classes.
All are frozen and check themselves: a ConfigError names the setting, its value (never that of a
secret) and what is allowed. Durations are in seconds, sizes in bytes. A setting says whether it
can change while the server runs (`Setting.live`); `changes` has what differs and merges changes.
"""

from __future__ import annotations

from tidegate.core.settings.admission import BreakerSettings, PacingSettings, WaitingRoomSettings
from tidegate.core.settings.auth import ALGORITHMS, AuthKey, AuthSettings
from tidegate.core.settings.fields import Setting, SettingError, SettingErrors
from tidegate.core.settings.lifetime import DrainSettings, HeartbeatSettings
from tidegate.core.settings.limits import POLICIES, LimitsSettings, Tier
from tidegate.core.settings.log import LogSettings
from tidegate.core.settings.messages import (
    BuffersSettings,
    DeflateSettings,
    MessagesSettings,
    OutboxSettings,
)
from tidegate.core.settings.pressure import SheddingSettings, ZonesSettings
from tidegate.core.settings.server import (
    AdminSettings,
    ProxiesSettings,
    ServerSettings,
    TlsSettings,
)
from tidegate.core.settings.settings import Settings

__all__ = [
    "ALGORITHMS",
    "POLICIES",
    "AdminSettings",
    "AuthKey",
    "AuthSettings",
    "BreakerSettings",
    "BuffersSettings",
    "DeflateSettings",
    "DrainSettings",
    "HeartbeatSettings",
    "LimitsSettings",
    "LogSettings",
    "MessagesSettings",
    "OutboxSettings",
    "PacingSettings",
    "ProxiesSettings",
    "ServerSettings",
    "Setting",
    "SettingError",
    "SettingErrors",
    "Settings",
    "SheddingSettings",
    "Tier",
    "TlsSettings",
    "WaitingRoomSettings",
    "ZonesSettings",
]
