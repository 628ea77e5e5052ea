"""Settings of a gate in an application: a mapping, and the few limits that all set."""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.core.settings import Settings
from tidegate.core.settings.changes import merged

__all__ = ["settings_of"]


def settings_of(
    settings: Settings | Mapping[str, Mapping[str, object]] | None,
    backplane: str | None = None,
    **limits: int | None,
) -> Settings:
    """Return the settings, with what is not None in place of theirs.

    Args:
        settings: a `Settings`, or a mapping of sections as in a settings file.
        backplane: what `backplane.url` is.
        limits: limits of connections, by their names.

    Raises:
        ConfigError: a setting is wrong; the text names it.
    """
    if settings is None:
        settings = Settings()
    elif not isinstance(settings, Settings):
        settings = Settings.from_mapping(settings)
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if backplane is not None:
        settings = merged(settings, {"backplane": {"url": backplane}})
    return merged(settings, {"limits": given}) if given else settings
