"""Settings from a TOML file, the environment and the command line, in that rising order.

Every name derives from `core.settings`: `limits.per_ip` is `per_ip` of `[limits]` in the file,
`TIDEGATE_LIMITS_PER_IP` in the environment and `--set limits.per_ip=5` on the command line.
An error names the setting, its value (never that of a secret), where it comes from and what is
allowed.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tidegate.core.settings import Settings
from tidegate.core.settings.fields import Setting, SettingError, shown
from tidegate.errors import ConfigError

__all__ = ["CONFIG_VARIABLE", "Loaded", "environment_name", "load"]

CONFIG_VARIABLE = "TIDEGATE_CONFIG"
"""The environment variable that names the file, where the command line names none."""

_PREFIX = "TIDEGATE_"
_TIERS = "tiers"
_KNOWN: Mapping[str, Setting] = {known.name: known for known in Settings.fields()}
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, which of them were given, and where each of these comes from."""

    settings: Settings
    given: Mapping[str, Mapping[str, object]] = field(repr=False)
    """What is set, as plain values by section; secrets too."""
    sources: Mapping[str, str]
    """By full name: `tidegate.toml:12`, a variable of the environment, or an option."""


def load(
    path: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Sequence[tuple[str, str]] = (),
) -> Loaded:
    """Read the settings from everywhere; what comes later wins.

    Args:
        path: a TOML file, by default the one that `TIDEGATE_CONFIG` of the environment names.
        options: pairs of an option of the command line and its `section.key=value`.

    Raises:
        ConfigError: a setting is wrong or does not exist, or the file cannot be read.
    """
    environment = environment or {}
    path = path or environment.get(CONFIG_VARIABLE)
    layers = _Layers()
    try:
        if path:
            layers.add_file(Path(path))
        layers.add_environment(environment)
        for option, assignment in options:
            layers.add_option(option, assignment)
        settings = Settings.from_mapping(layers.data)
    except SettingError as error:
        raise ConfigError(_with_source(error, layers.sources)) from None
    return Loaded(settings, layers.data, layers.sources)


def environment_name(name: str) -> str:
    """The variable of the environment for a setting: `TIDEGATE_LIMITS_PER_IP`."""
    return _PREFIX + name.replace(".", "_").upper()


class _Layers:
    """Gathers values from one source after the other, and remembers where each came from."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.sources: dict[str, str] = {}

    def add_file(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
            self.data = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(f"{path}: the file cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: the file is not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: this is not TOML: {error}") from None
        lines = _lines(text)
        for name in _names(self.data):
            line = lines.get(name)
            self.sources[name] = f"{path}:{line}" if line else str(path)

    def add_environment(self, environment: Mapping[str, str]) -> None:
        # Hosting platforms say where to listen with PORT; our own name is more explicit.
        if environment.get("PORT"):
            self._put("server.port", environment["PORT"], "PORT")
        for variable in sorted(environment):
            if variable.startswith(_PREFIX) and variable != CONFIG_VARIABLE:
                self._put(_name_of(variable), environment[variable], variable)

    def add_option(self, option: str, assignment: str) -> None:
        name, found, text = assignment.partition("=")
        name = name.strip()
        if not (found and name):
            raise ConfigError(f"{option} {assignment}: must be section.key=value")
        if _known(name) is None:
            near = _nearest(name, (known.replace("*", "NAME") for known in _KNOWN))
            raise ConfigError(f"{option} {name}: {_no_such(near)}")
        self._put(name, text.strip(), option)

    def _put(self, name: str, text: str, source: str) -> None:
        known = _known(name)
        assert known is not None
        self.sources[name] = source
        *path, key = name.split(".")
        section = self.data
        for depth, part in enumerate(path, 1):
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                name = ".".join(path[:depth])
                raise SettingError(name, "must be a section with settings in it", shown(section))
        section[key] = _value(known, name, text)


def _known(name: str) -> Setting | None:
    """The setting of this name; every tier has the same ones."""
    section, _, rest = name.partition(".")
    if section == _TIERS and rest.count(".") == 1:
        return _KNOWN.get(f"{_TIERS}.*.{rest.partition('.')[2]}")
    return _KNOWN.get(name) if "*" not in name else None


def _name_of(variable: str) -> str:
    """The setting that a variable of the environment stands for."""
    names = {environment_name(name): name for name in _KNOWN if "*" not in name}
    if variable in names:
        return names[variable]
    for known in _KNOWN.values():
        pattern = environment_name(f"{_TIERS}.*.{known.key}").replace("*", "(.+)")
        if known.section == f"{_TIERS}.*" and (match := re.fullmatch(pattern, variable)):
            return f"{_TIERS}.{match[1].lower()}.{known.key}"
    near = _nearest(variable.removeprefix(_PREFIX), (name.removeprefix(_PREFIX) for name in names))
    raise ConfigError(f"{variable}: {_no_such(_PREFIX + name for name in near)}")


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names that may have been meant by one that does not exist, at most three."""
    names = list(names)
    without_section = [known for known in names if known.endswith((f".{name}", f"_{name}"))]
    return (without_section or difflib.get_close_matches(name, names, cutoff=0.7))[:3]


def _no_such(near: Iterable[str]) -> str:
    hint = " or ".join(near)
    hint = f"did you mean {hint}?" if hint else "`tidegate config default` lists all"
    return f"there is no such setting; {hint}"


def _value(known: Setting, name: str, text: str) -> Any:
    """The value that a text stands for.

    Raises:
        SettingError: it stands for none.
    """
    try:
        if known.many:
            items = _items(text)
            return items[0] if known.alone and len(items) == 1 else items
        if known.optional and not text:
            return None
        if known.kind is bool:
            return _truth(text)
        return known.kind(text)
    except ValueError:
        seen = None if known.secret else shown(text)
        raise SettingError(name, f"must be {known.allowed}", seen) from None


def _items(text: str) -> list[Any]:
    """A list, as JSON or TOML write one, or with commas between the items."""
    if text.startswith("["):
        with contextlib.suppress(ValueError):  # it may also be an IPv6 address in brackets
            items = json.loads(text)
            assert isinstance(items, list)
            return items
    return [item.strip() for item in text.split(",") if item.strip()]


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError


def _names(data: Mapping[str, Any]) -> Iterator[str]:
    """The full names of all values in nested mappings."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{name}" for name in _names(value))
        else:
            yield key


_TABLE = re.compile(r"\s*\[\s*([\w.\-\"' ]+?)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


def _lines(text: str) -> dict[str, int]:
    """The line of every assignment in a TOML text, from 1, as far as a look at each line tells."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = match[1] + "."
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
