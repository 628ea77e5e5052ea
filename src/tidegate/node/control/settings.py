"""The settings of a node as data, and what a change of them did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from tidegate.core.settings import Settings, Tier

if TYPE_CHECKING:
    from tidegate.core.settings import Setting

__all__ = ["MASK", "Applied", "EffectiveSetting", "SettingsView", "effective", "settings_view"]

MASK: Final = "********"
"""Stands for a secret that is set."""

SettingValue: TypeAlias = bool | int | float | str | tuple[bool | int | float | str, ...] | None


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


def effective(settings: Settings) -> Iterator[tuple[str, Setting, Any]]:
    """Yield the full name, the declaration and the value of every setting. Nothing is masked."""
    for known in Settings.fields():
        if known.section != Tier.section:
            yield known.name, known, getattr(getattr(settings, known.section), known.key)
    for name, tier in settings.tiers.items():
        for known in Settings.fields():
            if known.section == Tier.section:
                yield f"tiers.{name}.{known.key}", known, getattr(tier, known.key)


def settings_view(settings: Settings) -> SettingsView:
    """Return all settings as data."""
    return SettingsView(
        {
            name: EffectiveSetting(MASK if known.secret and value else value, known.live)
            for name, known, value in effective(settings)
        }
    )
