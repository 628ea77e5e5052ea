"""Settings from a TOML file, the environment and the command line, in that rising order.

Every name derives from `core.settings`: `limits.per_ip` is `per_ip` of `[limits]` in the file,
`TIDEGATE_LIMITS_PER_IP` in the environment and `--set limits.per_ip=5` on the command line.
An error names the setting, its value (never that of a secret), where it comes from and what is
allowed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from tidegate.core.settings import Settings
from tidegate.core.settings.fields import Setting, SettingError, SettingErrors
from tidegate.errors import ConfigError
from tidegate.server.environment import (
    CONFIG_VARIABLE,
    NO_SETTINGS,
    PREFIX,
    is_injected,
    nearest,
    no_such,
    setting_of,
    unknown_variable,
)

__all__ = ["FILE", "Loaded", "find_file", "load"]

FILE: Final = "tidegate.toml"
"""The file that is read in the working directory, where neither an option nor the environment
names one."""

# What is larger is no file of settings; a device may have no end.
_LARGEST_FILE: Final = 1 << 20
_TIERS: Final = "tiers"
_KNOWN: Final[Mapping[str, Setting]] = {known.name: known for known in Settings.fields()}
_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, which of them were given, and where each of these comes from."""

    settings: Settings
    given: Mapping[str, Mapping[str, object]] = field(repr=False)
    """What is set, as plain values by section; secrets too."""
    sources: Mapping[str, str]
    """By full name: `tidegate.toml:12`, a variable of the environment, or an option."""
    file: Path | None = None
    """The file that was read."""
    injected: tuple[str, ...] = ()
    """Variables that Kubernetes or Docker made for a service whose name begins as ours."""


def find_file(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file to read: the one given, that of `TIDEGATE_CONFIG`, or `./tidegate.toml`."""
    named = path or _named(environment)
    # A link that leads nowhere is a mistake, which reading it tells.
    there = os.path.lexists(FILE) and not os.path.isdir(FILE)
    return named or (Path(FILE) if there else None)


def _named(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_VARIABLE, "").strip()
    return Path(named) if named else None


def load(
    path: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Sequence[tuple[str, str]] = (),
) -> Loaded:
    """Read the settings from everywhere; what comes later wins before an earlier value is read.

    Args:
        path: a TOML file, by default the one that `TIDEGATE_CONFIG` names.
        environment: its variables; an empty one is not set.
        options: pairs of an option of the command line and its `section.key=value`.

    Raises:
        ConfigError: a setting is wrong or does not exist, or the file cannot be read. The text
            has a line for each mistake.
    """
    environment = environment or {}
    file = _named(environment) if path is None else Path(path)
    layers = _Layers()
    if file is not None:
        layers.add_file(file)
    layers.add_environment(environment)
    for option, assignment in options:
        layers.add_option(option, assignment)
    data = layers.merged()
    problems = layers.problems
    try:
        settings = Settings.from_mapping(data)
    except (SettingError, SettingErrors) as error:
        problems += [_with_source(one, layers.sources) for one in error.errors]
    if problems:
        raise ConfigError("\n".join(problems))
    return Loaded(settings, data, layers.sources, file, tuple(layers.injected))


class _Layers:
    """Gathers values from one source after the other, and remembers where each came from."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        """Names that do not exist."""
        self.injected: list[str] = []
        self._file: dict[str, Any] = {}
        self._texts: dict[str, str] = {}

    def add_file(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            text = content.decode("utf-8-sig")
            if len(content) > _LARGEST_FILE:
                raise ConfigError(f"{path}: the file is larger than {_LARGEST_FILE >> 20} MiB")
            self._file = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(f"{path}: the file cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: the file is not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: this is not TOML: {error}") from None
        lines = _lines(text)
        for name in _names(self._file):
            line = lines.get(name)
            self.sources[name] = f"{path}:{line}" if line else str(path)

    def add_environment(self, environment: Mapping[str, str]) -> None:
        # Hosting platforms say where to listen with PORT; our own name is more explicit.
        if environment.get("PORT", "").strip():
            self._put("server.port", environment["PORT"], "PORT")
        for variable in sorted(environment):
            if not variable.startswith(PREFIX) or variable in NO_SETTINGS:
                continue
            text = environment[variable]
            if is_injected(variable, text):
                self.injected.append(variable)
                continue
            name = setting_of(variable)
            if name is None:
                self.problems.append(unknown_variable(variable))
            elif text.strip():
                self._put(name, text, variable)

    def add_option(self, option: str, assignment: str) -> None:
        name, found, text = assignment.partition("=")
        name = name.strip()
        if not (found and name):
            self.problems.append(f"{option} {assignment}: must be section.key=value")
        elif _known(name) is None:
            near = nearest(name, (known.replace("*", "NAME") for known in _KNOWN))
            self.problems.append(f"{option} {name}: {no_such(near)}")
        else:
            self._put(name, text.strip(), option)

    def merged(self) -> dict[str, Any]:
        """All values, by section."""
        data = self._file
        for name, text in self._texts.items():
            *path, key = name.split(".")
            section: Any = data
            for part in path:
                section = section.setdefault(part, {})
                if not isinstance(section, dict):
                    break  # the settings say that it must be a section
            else:
                known = _known(name)
                assert known is not None
                section[key] = _value(known, text)
        return data

    def _put(self, name: str, text: str, source: str) -> None:
        self.sources[name] = source
        self._texts[name] = text


def _known(name: str) -> Setting | None:
    """The setting of this name; every tier has the same ones."""
    section, _, rest = name.partition(".")
    if section == _TIERS and rest.count(".") == 1:
        return _KNOWN.get(f"{_TIERS}.*.{rest.partition('.')[2]}")
    return _KNOWN.get(name) if "*" not in name else None


def _value(known: Setting, text: str) -> Any:
    """The value that a text stands for; the text itself, for the check to refuse, if it is none."""
    if not known.many:
        return None if known.optional and not text else _one(known, text)
    items = [_one(known, item) for item in _items(text)]
    return items[0] if known.alone and len(items) == 1 else items


def _one(known: Setting, item: Any) -> Any:
    if not isinstance(item, str) or known.sections:
        return item
    if known.kind is bool:
        word = item.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else item
    try:
        return known.kind(item)
    except ValueError:
        return item


def _items(text: str) -> list[Any]:
    """A list, as JSON or TOML write one, or with commas between the items."""
    if text.startswith("["):
        with contextlib.suppress(ValueError):  # it may also be an IPv6 address in brackets
            items = json.loads(text)
            assert isinstance(items, list)
            return items
    return [item.strip() for item in text.split(",") if item.strip()]


def _names(data: Mapping[str, Any]) -> Iterator[str]:
    """The full names of all values in nested mappings."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{name}" for name in _names(value))
        else:
            yield key


_TABLE = re.compile(r"\s*\[\[?\s*([\w.\-\"' ]+?)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


def _lines(text: str) -> dict[str, int]:
    """The line of every assignment in a TOML text, from 1, as far as a look at each line tells."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = match[1] + "."
            found.setdefault(re.sub(r"[\"' ]", "", match[1]), number)  # of a list of sections
        elif match := _ASSIGNMENT.match(line):
            name = re.sub(r"[\"' ]", "", table + match[1])
            found.setdefault(name, number)
    return found


def _with_source(error: SettingError, sources: Mapping[str, str]) -> str:
    """The text of the error, with where the value came from."""
    subject = error.key if error.value is None else f"{error.key} = {error.value}"
    own = [source for name, source in sources.items() if fnmatchcase(name, error.key)]
    own = own or [sources[name] for name in sources if name.startswith(f"{error.key}.")][:1]
    where = f" ({', '.join(own)})" if own else ""
    # A rule between settings blames one and names the other.
    others = [
        f"{name} is from {sources[name]}"
        for name in re.findall(r"[a-z]+\.[a-z_]+", error.problem)
        if name in sources and _known(error.key)
    ]
    return f"{subject}{where}: {error.problem}" + "".join(f"; {other}" for other in others)
