"""Settings that change while the server runs: new ones from changes, and what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from tidegate.core.settings.fields import Section, SettingError, settings_of, shown
from tidegate.core.settings.settings import Settings

__all__ = ["Changes", "differences", "merged", "only", "values_of"]

Changes = Mapping[str, Mapping[str, object]]
"""Sections with the settings that are to change, nested as in a settings file."""

_TIERS: Final = "tiers"


def merged(settings: Settings, changes: Changes) -> Settings:
    """Return the settings with some of them changed; tiers that are named are changed or added.

    Raises:
        SettingError: a value is wrong, or a name does not exist, as `Settings.from_mapping` says.
    """
    values: dict[str, Any] = values_of(settings)
    tiers = values[_TIERS]
    for section, given in changes.items():
        if section != _TIERS:
            values[section] = _over(values.get(section), given)
        elif isinstance(given, Mapping):
            for name, own in given.items():
                tiers[name] = _over(tiers.get(name), own)
        else:
            raise SettingError(_TIERS, "must be a section of tiers", shown(given))
    return Settings.from_mapping(values)


def values_of(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return all settings as sections of plain values, as `merged` takes them."""
    values: dict[str, dict[str, Any]] = {
        own.name: _plain(getattr(settings, own.name))
        for own in fields(settings)
        if own.name != _TIERS
    }
    values[_TIERS] = {name: _plain(tier) for name, tier in settings.tiers.items()}
    return values


def differences(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Return the full names that differ: those that can change live, those that need a restart.

    A tier that is added or removed needs a restart; it is named `tiers.NAME`, without its
    settings.
    """
    live: list[str] = []
    restart: list[str] = []
    for prefix, before, after in _pairs(old, new):
        if before is None or after is None:
            restart.append(prefix)
            continue
        for known in settings_of(type(before)):
            if getattr(before, known.key) != getattr(after, known.key):
                (live if known.live else restart).append(f"{prefix}.{known.key}")
    return live, restart


def only(changes: Changes, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the changes of the settings with these full names, and no others."""
    kept: dict[str, dict[str, Any]] = {}
    for section, given in changes.items():
        if section != _TIERS:
            own = {key: value for key, value in given.items() if f"{section}.{key}" in names}
        else:
            own = {
                tier: some
                for tier, values in given.items()
                if isinstance(values, Mapping)
                and (
                    some := {
                        key: value
                        for key, value in values.items()
                        if f"{_TIERS}.{tier}.{key}" in names
                    }
                )
            }
        if own:
            kept[section] = own
    return kept


def _pairs(old: Settings, new: Settings) -> Iterator[tuple[str, Section | None, Section | None]]:
    """Yield the name and both versions of every section, and of every tier that either has."""
    for own in fields(old):
        if own.name != _TIERS:
            yield own.name, getattr(old, own.name), getattr(new, own.name)
            continue
        for name in {**old.tiers, **new.tiers}:
            yield f"{_TIERS}.{name}", old.tiers.get(name), new.tiers.get(name)


def _plain(section: Section) -> dict[str, Any]:
    return {known.key: getattr(section, known.key) for known in settings_of(type(section))}


def _over(values: dict[str, Any] | None, given: object) -> object:
    """The values with those given over them; what is no section is left for the check to name."""
    return {**(values or {}), **given} if isinstance(given, Mapping) else given
