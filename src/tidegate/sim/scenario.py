"""A scenario: what there is and what happens to it, read from TOML and checked.

    settings = "tidegate.toml"        the gate's own settings, those of production
    [set]                             some of them, changed for this scenario
    [run] [fleet] [balancer] ...      one of each
    [[clients]] [[happenings]]        as many as there are

An error names the field, its value and what is allowed, as those of the settings do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from tidegate.core.settings import Settings
from tidegate.core.settings.fields import (
    Section,
    SettingError,
    collecting,
    make,
    raise_all,
    shown,
    unknown,
)
from tidegate.costs import MEASURED, Costs
from tidegate.errors import ConfigError
from tidegate.sim.arrivals import Curve
from tidegate.sim.sections import (
    AutoscaleSection,
    BalancerSection,
    ClientsSection,
    CostsSection,
    FleetSection,
    Happening,
    LivenessSection,
    LoadSection,
    NetworkSection,
    RunSection,
)

__all__ = ["OFF", "Scenario", "load", "parse", "ready"]

S = TypeVar("S", bound=Section)

_PER_NODE: Final = 100
_LARGEST: Final = 1 << 20
_SECTIONS: Final[Mapping[str, type[Section]]] = {
    each.section: each
    for each in (
        RunSection,
        FleetSection,
        BalancerSection,
        LivenessSection,
        AutoscaleSection,
        LoadSection,
        NetworkSection,
        CostsSection,
    )
}
_LISTS: Final[Mapping[str, type[Section]]] = {
    each.section: each for each in (ClientsSection, Happening)
}
_TEXTS: Final = ("name", "about", "settings")

OFF: Final[Mapping[str, object]] = {
    "limits.connections": 10_000_000,
    "limits.per_ip": 10_000_000,
    "pacing.enabled": False,
    "waiting_room.enabled": False,
    "shedding.enabled": False,
    "breaker.enabled": False,
    "drain.window": 0,
    "fleet.connections": None,
    "fleet.limits": False,
}
"""The settings that switch every policy off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What there is and what happens to it."""

    name: str
    about: str
    settings: Settings
    given: Mapping[str, Any]
    """What the settings were made of, as plain values by section."""
    costs: Costs
    run: RunSection
    fleet: FleetSection
    balancer: BalancerSection
    liveness: LivenessSection
    autoscale: AutoscaleSection
    load: LoadSection
    network: NetworkSection
    own_costs: CostsSection
    clients: tuple[ClientsSection, ...]
    happenings: tuple[Happening, ...]

    @property
    def crowd(self) -> int:
        """The most clients that there are at a time."""
        count = sum(each.count + self._arriving(each) for each in self.clients)
        for happening in self.happenings:
            if happening.kind == "flash-crowd":
                count += int((happening.factor - 1) * sum(each.count for each in self.clients))
        return count

    def _arriving(self, kind: ClientsSection) -> int:
        """The most of those that come over time that are there at once (by Little's law)."""
        if not kind.arrive:
            return 0
        curve, stay = Curve(kind.arrive), self.load.stay
        total = curve.total(self.run.duration)
        return int(min(total, curve.most * stay) if stay else total)

    @property
    def weight(self) -> int:
        """How many clients one object stands for: one, unless there are very many."""
        if self.crowd <= self.run.exact:
            return 1
        # A node's policies need some dozens of objects to be told from noise.
        return -(-self.crowd // max(self.run.objects, _PER_NODE * self.fleet.nodes))

    def with_settings(self, changes: Mapping[str, object], name: str | None = None) -> Scenario:
        """The same with other settings of the gate, by full name.

        Raises:
            SettingError: a value is wrong, or there is no such setting.
        """
        given = _merged(self.given, changes)
        settings = Settings.from_mapping(given)
        return replace(self, given=given, settings=settings, name=name or self.name)


def ready() -> dict[str, str]:
    """The scenarios that come with Tidegate: what each is about, by its name."""
    found = {}
    for file in sorted(files(__package__).joinpath("ready").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            found[file.name.removesuffix(".toml")] = str(
                tomllib.loads(file.read_text(encoding="utf-8"))["about"]
            )
    return found


def load(
    name: str, changes: Mapping[str, object] | None = None, settings: Path | None = None
) -> Scenario:
    """Read a scenario: one that comes with Tidegate, by name, or a file.

    Args:
        name: of a ready scenario, or the path of a file.
        changes: settings of the gate that are to be others, by full name.
        settings: the settings file, in place of the one that the scenario names.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
    """
    names = ready()
    if name in names:
        text = files(__package__).joinpath("ready", f"{name}.toml").read_text(encoding="utf-8")
        return parse(text, name, Path(), changes, settings)
    path = Path(name)
    if not path.suffix and not path.exists():
        raise ConfigError(
            f"{name}: there is no such file, and no such scenario: {', '.join(names)}"
        )
    return parse(_read(path), path.stem, path.parent, changes, settings)


def parse(
    text: str,
    name: str,
    directory: Path,
    changes: Mapping[str, object] | None = None,
    settings: Path | None = None,
) -> Scenario:
    """Make a scenario of its text; `name` stands in errors, and is its name if it has no other.

    Raises:
        ConfigError: something in it is wrong.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: this is not TOML: {error}") from None
    errors: list[SettingError] = []
    made: dict[str, Any] = {}
    names = (*_TEXTS, "set", *_SECTIONS, *_LISTS)
    for key, value in data.items():
        with collecting(errors):
            if key in _SECTIONS:
                made[key] = make(_SECTIONS[key], key, value)
            elif key in _LISTS:
                made[key] = _each(_LISTS[key], key, value)
            elif key in _TEXTS:
                if not isinstance(value, str):
                    raise SettingError(key, "must be a text", shown(value))
            elif key != "set":
                raise unknown(key, "section", names)
    raise_all(errors)
    file = settings or (directory / data["settings"] if "settings" in data else None)
    given = {} if file is None else _toml(file)
    given = _merged(given, _flat(data.get("set", {})) | dict(changes or {}))
    zones = made.get("fleet", FleetSection()).zones
    for number, each in enumerate(made.get("happenings", ()), 1):
        if each.kind == "zone-outage" and each.zone > zones:
            problem = f"must be one of the {zones} of fleet.zones"
            raise SettingError(f"happenings[{number}].zone", problem, str(each.zone))
    sections: dict[str, Any] = {
        key: made.get(key) or section() for key, section in _SECTIONS.items()
    }
    costs = sections.pop("costs")
    return Scenario(
        name=data.get("name", name),
        about=data.get("about", ""),
        settings=Settings.from_mapping(given),
        given=given,
        costs=_costs(costs, directory),
        own_costs=costs,
        **sections,
        clients=made.get("clients", (ClientsSection(),)),
        happenings=made.get("happenings", ()),
    )


def _each(section: type[S], key: str, values: object) -> tuple[S, ...]:
    if not isinstance(values, list):
        raise SettingError(key, f"must be a list of sections, [[{key}]]", shown(values))
    errors: list[SettingError] = []
    made = []
    for number, value in enumerate(values, 1):
        with collecting(errors):
            made.append(make(section, f"{key}[{number}]", value))
    raise_all(errors)
    return tuple(made)


def _costs(section: CostsSection, directory: Path) -> Costs:
    costs = MEASURED
    if section.file is not None:
        text = _read(directory / section.file)
        try:
            costs = msgspec.json.decode(text, type=Costs)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"costs.file {section.file}: {error}") from None
        if costs.cpu_per_tls_handshake is None:
            costs = msgspec.structs.replace(
                costs, cpu_per_tls_handshake=MEASURED.cpu_per_tls_handshake
            )
    own = {
        name: value
        for name in Costs.__struct_fields__
        if (value := getattr(section, name, None)) is not None
    }
    return msgspec.structs.replace(costs, **own)


def _merged(given: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Plain values by section, with some changed; those that are no sections stay as they are."""
    merged = {
        name: dict(section) if isinstance(section, Mapping) else section
        for name, section in given.items()
    }
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        *above, last = section.split(".")
        place: Any = merged
        for part in (*above, last):
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise SettingError(name, "must be section.key")
        place[key] = value
    return merged


def _flat(values: object, prefix: str = "") -> dict[str, object]:
    """`[set]` by full name: `"pacing.rate" = 5` and `pacing.rate = 5` are the same."""
    if not isinstance(values, Mapping):
        raise SettingError("set", "must be a section of settings", shown(values))
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: this is not TOML: {error}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path}: the file is larger than {_LARGEST >> 20} MiB")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the file is not UTF-8") from None
