"""One setting: how it is declared, what it may be, and what is said when it is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from tidegate.core.settings.quantities import examples, quantity
from tidegate.errors import ConfigError

__all__ = [
    "Section",
    "Setting",
    "SettingError",
    "SettingErrors",
    "collecting",
    "make",
    "raise_all",
    "setting",
    "settings_of",
    "shown",
    "unknown",
]

_S = TypeVar("_S", bound="Section")


class SettingError(ConfigError):
    """One setting is wrong; the text is its name, its value and what is allowed.

    Args:
        key: the full name, such as "limits.per_ip".
        problem: what is allowed.
        value: how the value is shown; None when there is none to show, or it is a secret.
    """

    def __init__(self, key: str, problem: str, value: str | None = None) -> None:
        super().__init__(f"{key}: {problem}" if value is None else f"{key} = {value}: {problem}")
        self.key = key
        self.problem = problem
        self.value = value

    @property
    def errors(self) -> tuple[SettingError, ...]:
        """This error alone; `SettingErrors` has several."""
        return (self,)


class SettingErrors(ConfigError):  # noqa: N818 - it holds several
    """Several settings are wrong; the text has a line for each."""

    def __init__(self, errors: Iterable[SettingError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


@contextmanager
def collecting(errors: list[SettingError]) -> Iterator[None]:
    """Collect the errors of the settings that the context raises, and go on after it."""
    try:
        yield
    except (SettingError, SettingErrors) as error:
        errors.extend(error.errors)


def raise_all(errors: Sequence[SettingError]) -> None:
    """Raise what was collected, if it is anything.

    Raises:
        SettingError: there is one.
        SettingErrors: there are several.
    """
    if errors:
        raise errors[0] if len(errors) == 1 else SettingErrors(errors)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting; the configuration loader and the reference derive from it."""

    section: str
    key: str
    type: Any
    """The type as written, for example `int`, `str | None` or `tuple[str, ...]`."""
    default: Any
    doc: str
    unit: str
    secret: bool
    low: float
    high: float
    pattern: str
    choices: tuple[str, ...]
    wording: str
    length: int
    """How many values a list has that is not empty; 0 for any number."""
    live: bool
    """Whether it can change while the server runs."""
    alone: bool
    """Whether a value of its own may stand for a list with that one value."""

    @property
    def name(self) -> str:
        """The full name, `section.key`."""
        return f"{self.section}.{self.key}"

    @property
    def kind(self) -> Any:
        """The type without None and without the tuple around it.

        It is bool, int, float or str, or a `Section`: then the value is a list of sections.
        """
        plain = [arm for arm in typing.get_args(self.type) if arm is not types.NoneType]
        return plain[0] if plain else self.type

    @property
    def many(self) -> bool:
        """Whether the value is a list."""
        return typing.get_origin(self.type) is tuple

    @property
    def sections(self) -> bool:
        """Whether the value is a list of sections, such as `[[auth.keys]]`."""
        return issubclass(self.kind, Section)

    @property
    def optional(self) -> bool:
        """Whether the value may be left out (None)."""
        return types.NoneType in typing.get_args(self.type)

    @property
    def allowed(self) -> str:
        """What the value must be, in words that follow "must be"."""
        if self.wording:
            one = self.wording
        elif self.choices:
            one = "one of " + ", ".join(map(shown, self.choices))
        elif self.kind is bool:
            one = "true or false"
        elif self.kind is str:
            one = "a text of one line, not empty"
        else:
            one = "a whole number" if self.kind is int else "a number"
            one += f" from {_number(self.low)} to {_number(self.high)}"
        if not self.many:
            return one
        if self.alone:
            return f"{one}, or a list of these"
        size = f"empty, or a list of {self.length}" if self.length else "a list"
        return f"{size}, each {one}"

    def check(self, value: Any) -> Any:
        """Return the value as the type that the setting has.

        A whole number may stand for a float, a list for a tuple, and a text such as "30s" or
        "64KB" for a number of seconds or bytes.

        Raises:
            SettingError: the value is not what the setting allows.
        """
        if value is None and self.optional:
            return None
        if not self.many:
            return self._one(value, value)
        if self.alone and isinstance(value, self.kind):
            return (self._one(value, value),)
        if not isinstance(value, list | tuple):
            raise self.error(value)
        if self.length and len(value) not in (0, self.length):
            raise self.error(value)
        if self.sections:
            return self._parts(value)
        return tuple(self._one(item, value) for item in value)

    def error(self, value: Any, problem: str = "") -> SettingError:
        """The error that says that this value is wrong; a secret is not shown."""
        hidden = self.secret or (value is None and self.optional)
        seen = None if hidden else shown(value)
        if not problem:
            unit = examples(self.unit)
            problem = f"must be {self.allowed}" + (f" {unit}" if unit else "")
        return SettingError(self.name, problem, seen)

    def _parts(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """A list of sections, from their plain values. An error names its section by number."""
        parts: list[Any] = []
        errors: list[SettingError] = []
        for number, item in enumerate(items, 1):
            if not isinstance(item, self.kind | Mapping):
                raise self.error(items)
            wrong: list[SettingError] = []
            with collecting(wrong):
                parts.append(
                    item if isinstance(item, self.kind) else make(self.kind, self.name, item)
                )
            for one in wrong:
                own = str(one).removeprefix(f"{self.name}.")
                errors.append(SettingError(self.name, f"number {number}: {own}"))
        raise_all(errors)
        return tuple(parts)

    def _one(self, item: Any, whole: Any) -> Any:
        kind = self.kind
        if isinstance(item, str) and kind in (int, float):
            number = quantity(item, self.unit)
            if number is not None:
                item = int(number) if number.is_integer() else number
        # A bool is an int to Python, but "per_ip = true" is a mistake.
        good = isinstance(item, kind) and (kind is bool or not isinstance(item, bool))
        if kind is float and isinstance(item, int) and not isinstance(item, bool):
            good = True
        if good and kind in (int, float):
            good = self.low <= item <= self.high
        elif good and self.choices:
            good = item in self.choices
        elif good and kind is str:
            good = re.fullmatch(self.pattern, item) is not None
        if not good:
            raise self.error(whole)
        return float(item) if kind is float else item


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    low: float = 0.0,
    high: float = 0.0,
    pattern: str = r"[^\x00-\x1f\x7f\ud800-\udfff]+",
    choices: tuple[str, ...] = (),
    wording: str = "",
    secret: bool = False,
    length: int = 0,
    live: bool = False,
    alone: bool = False,
) -> Any:
    """Declare one field of a section. Numbers need `low` and `high`, both allowed.

    A `live` setting can change while the server runs: the policy that it belongs to takes it over
    in its `apply`. A list that takes a value `alone` may be written without its brackets.
    """
    known = {
        "doc": doc,
        "unit": unit,
        "low": low,
        "high": high,
        "pattern": pattern,
        "choices": choices,
        "wording": wording,
        "secret": secret,
        "length": length,
        "live": live,
        "alone": alone,
    }
    return dataclasses.field(default=default, repr=not secret, metadata=known)


class Section:
    """A frozen dataclass of settings that checks itself when it is made."""

    __slots__ = ()
    section: ClassVar[str]

    def __post_init__(self) -> None:
        errors: list[SettingError] = []
        for known in settings_of(type(self)):
            with collecting(errors):
                value = getattr(self, known.key)
                checked = known.check(value)
                if checked is not value:
                    object.__setattr__(self, known.key, checked)
        raise_all(errors)
        self._check()

    def _check(self) -> None:
        """Check the rules between several settings.

        Raises:
            SettingError: a rule is broken.
        """

    def error(self, key: str, problem: str) -> SettingError:
        """The error for the present value of one key of this section."""
        known = next(s for s in settings_of(type(self)) if s.key == key)
        return known.error(getattr(self, key), problem)


_settings: dict[type[Section], tuple[Setting, ...]] = {}


def settings_of(section: type[Section]) -> tuple[Setting, ...]:
    """The settings of one section, in the order in which they are written."""
    if section not in _settings:
        hints = typing.get_type_hints(section)
        _settings[section] = tuple(
            Setting(section.section, field.name, hints[field.name], field.default, **field.metadata)
            for field in dataclasses.fields(typing.cast(Any, section))
        )
    return _settings[section]


def make(section: type[_S], prefix: str, values: object) -> _S:
    """Make a section from plain values; `prefix` is its name in errors.

    Raises:
        SettingError: a value is wrong, or the section does not have such a name.
        SettingErrors: this is so of several.
    """
    if not isinstance(values, Mapping):
        raise SettingError(prefix, "must be a section with settings in it", shown(values))
    keys = [known.key for known in settings_of(section)]
    names = [f"{prefix}.{key}" for key in keys]
    errors = [unknown(f"{prefix}.{key}", "setting", names) for key in values if key not in keys]
    try:
        made = section(**{key: value for key, value in values.items() if key in keys})
    except (SettingError, SettingErrors) as error:
        errors += [
            SettingError(one.key.replace(section.section, prefix, 1), one.problem, one.value)
            for one in error.errors
        ]
    raise_all(errors)
    return made


def unknown(name: str, kind: str, names: Sequence[str]) -> SettingError:
    """The error for a name that does not exist: the nearest ones that do, or else all."""
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    return SettingError(name, f"there is no such {kind}; {hint}")


def shown(value: Any) -> str:
    """Return a value as it is written in TOML, cut to a length that fits in a line."""
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(map(shown, value)) + "]"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=not value.isprintable())
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.floor(value) == value else f"{value:g}"
