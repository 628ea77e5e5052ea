"""Settings as text: the defaults as a commented TOML file, and the effective ones with sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tidegate.core.settings import Settings, Tier
from tidegate.core.settings.fields import Setting
from tidegate.server.config import Loaded

__all__ = ["Shown", "default_toml", "effective", "section_doc", "toml_value"]

_MASK = '"********"'


class Shown(NamedTuple):
    """One effective setting."""

    name: str
    value: str
    """As in TOML; a secret is masked, and "not set" stands for no value."""
    source: str


def default_toml() -> str:
    """Every setting with what it is for and its default, as a file that loads as it is."""
    lines = [
        "# Every setting of Tidegate with its default; those that begin with # are not set.",
        "# The environment goes before this file: TIDEGATE_LIMITS_PER_IP=5 for per_ip of [limits].",
    ]
    section = ""
    for known in Settings.fields():
        tier = known.section == Tier.section
        if known.section != section:
            section = known.section
            header = "# [tiers.free]" if tier else f"[{section}]"
            lines += ["", f"# {section_doc(section)}", header]
        unit = f" [{known.unit}]" if known.unit else ""
        unset = known.default is None
        assignment = f"{known.key} =" if unset else f"{known.key} = {toml_value(known.default)}"
        lines += [f"# {known.doc}{unit}", f"# {assignment}" if tier or unset else assignment]
    return "\n".join(lines) + "\n"


def effective(loaded: Loaded) -> Iterator[Shown]:
    """All settings as they are in force, in the order of the reference."""
    settings = loaded.settings
    for known in Settings.fields():
        if known.section != Tier.section:
            section = getattr(settings, known.section)
            yield _shown(known, known.name, getattr(section, known.key), loaded)
    for name, tier in settings.tiers.items():
        for known in Settings.fields():
            if known.section == Tier.section:
                full = f"tiers.{name}.{known.key}"
                yield _shown(known, full, getattr(tier, known.key), loaded)


def section_doc(section: str) -> str:
    """What a section of the settings is about, in one sentence."""
    owner = Tier if section == Tier.section else type(getattr(Settings(), section))
    return " ".join((owner.__doc__ or "").split()).replace("``", "`")


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def _shown(known: Setting, name: str, value: Any, loaded: Loaded) -> Shown:
    if value is None:
        text = "not set"
    elif known.secret:
        text = _MASK
    else:
        text = toml_value(value)
    return Shown(name, text, loaded.sources.get(name, "default"))
