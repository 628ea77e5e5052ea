"""The settings of a node as data, and what a change of them did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import UNSET, Struct, UnsetType

if TYPE_CHECKING:
    from tidegate.core.settings import Settings

__all__ = ["MASK", "Applied", "EffectiveSetting", "SettingsView", "settings_view"]

MASK: Final = "********"
"""Stands for a secret that is set."""

SettingValue: TypeAlias = (
    bool | int | float | str | tuple[bool | int | float | str | dict[str, Any], ...] | None
)


class EffectiveSetting(Struct, frozen=True, rename="camel"):
    """One setting: its value, and whether it can change while the server runs."""

    value: SettingValue
    """A secret that is set is masked; None is no value."""
    live: bool


class SettingsView(Struct, frozen=True, rename="camel"):
    """All settings as they are in force, by full name, in the order of the reference."""

    settings: dict[str, EffectiveSetting]


class Applied(Struct, frozen=True, rename="camel"):
    """The full names of settings that have changed, and of those that need a restart to change."""

    applied: list[str]
    restart: list[str]
    complete: bool | UnsetType = UNSET
    """Whether all nodes have done the same; left out where only this one was asked."""


def settings_view(settings: Settings) -> SettingsView:
    """Return all settings as data."""
    return SettingsView(
        {
            name: EffectiveSetting(MASK if known.secret and value else value, known.live)
            for name, known, value in settings.items()
        }
    )
