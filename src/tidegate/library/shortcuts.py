"""Common settings as keyword arguments of `Server`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from tidegate.core.settings import Settings
from tidegate.core.settings.changes import merged
from tidegate.library.arguments import check_type

__all__ = ["SHORTCUTS", "Shortcuts", "settings_of"]


class Shortcuts(TypedDict, total=False):
    """What `Server` takes; None leaves a setting as it is."""

    host: str | Sequence[str] | None
    port: int | None
    path: str | None
    connections: int | None
    per_ip: int | None
    per_user: int | None
    per_room: int | None
    messages_per_second: float | None
    max_message_size: int | None


SHORTCUTS: Final = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "path": ("server", "path"),
    "connections": ("limits", "connections"),
    "per_ip": ("limits", "per_ip"),
    "per_user": ("limits", "per_user"),
    "per_room": ("limits", "per_room"),
    "messages_per_second": ("messages", "per_second"),
    "max_message_size": ("messages", "max_size"),
}
"""The setting that each stands for."""


def settings_of(
    settings: Settings | Mapping[str, Mapping[str, object]] | None,
    shortcuts: Mapping[str, object],
) -> Settings:
    """Return the settings with those of the shortcuts that are not None in place of theirs.

    Raises:
        ConfigError: a setting is wrong.
        TypeError: there is no such shortcut.
    """
    if settings is None:
        settings = Settings()
    elif not isinstance(settings, Settings):
        check_type("settings", settings, Settings, Mapping)
        settings = Settings.from_mapping(settings)
    changes: dict[str, dict[str, object]] = {}
    for name, value in shortcuts.items():
        if name not in SHORTCUTS:
            raise TypeError(f"there is no setting {name!r} here; there are {', '.join(SHORTCUTS)}")
        if value is not None:
            section, key = SHORTCUTS[name]
            changes.setdefault(section, {})[key] = value
    return merged(settings, changes) if changes else settings
