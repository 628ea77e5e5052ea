"""Settings as text: the defaults as a commented TOML file, and the effective ones with sources."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

from tidegate.core.settings import Settings, Tier
from tidegate.core.settings.fields import Setting
from tidegate.server.config import Loaded

__all__ = [
    "Shown",
    "default_toml",
    "effective",
    "in_force",
    "section_doc",
    "starting_toml",
    "toml_value",
]

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
        assignment = f"{known.key} ="
        if known.default is not None:
            assignment += f" {toml_value(known.default)}"
        # A list of sections is written further down, and must not be set here then.
        aside = tier or known.default is None or known.sections
        lines += [f"# {known.doc}{unit}", f"# {assignment}" if aside else assignment]
    return "\n".join(lines) + "\n"


def starting_toml() -> str:
    """A short file to start from, with fresh secrets: clients and operators need tokens."""
    return f"""\
# Settings of Tidegate. `tidegate config default` prints all of them.
# This file holds secrets: keep it out of version control.

[server]
host = "127.0.0.1"  # "0.0.0.0" is for clients on other machines
port = 8000
origins = []  # web pages that may connect, such as "https://app.example.com"; the same host always

[auth]
secret = "{secrets.token_urlsafe(32)}"  # signs tokens: tidegate token create ann
anonymous = false  # true: clients may connect without a token

[admin]
token = "{secrets.token_urlsafe(32)}"  # for metrics, stats and commands

[limits]
connections = 10000
per_ip = 100
"""


def effective(loaded: Loaded) -> Iterator[Shown]:
    """All settings as they are in force, in the order of the reference."""
    for name, known, value in loaded.settings.items():
        yield _shown(known, name, value, loaded)


def in_force(loaded: Loaded) -> str:
    """The file, the variables and the options that settings come from, in one line."""
    file = str(loaded.file)
    told = ["no file" if loaded.file is None else str(loaded.file.absolute())]
    for name, source in loaded.sources.items():
        if source == "--set":
            told.append(f"--set {name}")
        elif loaded.file is None or not (source == file or source.startswith(f"{file}:")):
            told.append(source)
    return ", ".join(told)


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
    elif known.secret and value:
        text = _MASK
    else:
        text = toml_value(value)
    return Shown(name, text, loaded.sources.get(name, "default"))
