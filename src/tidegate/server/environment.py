"""Variables of the environment: which settings they are, and which only look like settings.

Kubernetes and Docker give a container variables about the services and containers around it. Where
one of these is called `tidegate`, or `tidegate-` and more, they begin as ours do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from tidegate.addresses import parse
from tidegate.core.settings import Settings
from tidegate.core.settings.fields import Setting

__all__ = [
    "CONFIG_VARIABLE",
    "NO_SETTINGS",
    "PREFIX",
    "TOKEN_VARIABLE",
    "URL_VARIABLE",
    "environment_name",
    "is_injected",
    "nearest",
    "no_such",
    "setting_of",
    "unknown_variable",
]

CONFIG_VARIABLE: Final = "TIDEGATE_CONFIG"
URL_VARIABLE: Final = "TIDEGATE_URL"
"""Where `tidegate listen` and `tidegate say` connect."""
TOKEN_VARIABLE: Final = "TIDEGATE_TOKEN"  # noqa: S105 - a name, not a secret
"""The token that they show."""
NO_SETTINGS: Final = frozenset({CONFIG_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE})
"""Variables of ours that are no settings."""
"""The environment variable that names the file, where the command line names none."""

PREFIX: Final = "TIDEGATE_"
_KNOWN: Final[Mapping[str, Setting]] = {known.name: known for known in Settings.fields()}


def environment_name(name: str) -> str:
    """The variable of the environment for a setting: `TIDEGATE_LIMITS_PER_IP`."""
    return PREFIX + name.replace(".", "_").upper()


_VARIABLES: Final = {environment_name(name): name for name in _KNOWN if "*" not in name}
_OF_TIERS: Final = {
    known.key: re.compile(environment_name(f"tiers.*.{known.key}").replace("*", "(.+)"))
    for known in _KNOWN.values()
    if known.section == "tiers.*"
}


def setting_of(variable: str) -> str | None:
    """The full name of the setting that a variable stands for; None if it is none."""
    if variable in _VARIABLES:
        return _VARIABLES[variable]
    for key, pattern in _OF_TIERS.items():
        if match := pattern.fullmatch(variable):
            return f"tiers.{match[1].lower()}.{key}"
    return None


# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
# https://docs.docker.com/engine/network/links/#environment-variables
# A name behind TIDEGATE_, and what its value looks like. The first part is the rest of the name
# of a service such as tidegate-admin.
_URL: Final = r"(tcp|udp|sctp)://.+"
_INJECTED: Final = tuple(
    (re.compile(rf"(?:[A-Z0-9_]+_)?{name}"), re.compile(value, re.DOTALL))
    for name, value in (
        ("SERVICE_PORT(_[A-Z0-9_]+)?", r"\d+"),
        ("PORT", _URL),
        (r"PORT_\d+_(TCP|UDP|SCTP)", _URL),
        (r"PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)", ".*"),
        # Docker: a range of ports.
        (r"PORT(_\d+_(TCP|UDP|SCTP))?_(PORT_)?(START|END)", ".*"),
        # Docker: the name of the link, and the variables of the other container.
        ("NAME", "/.+"),
        ("ENV_.+", ".*"),
    )
)
_SERVICE_HOST: Final = re.compile(r"(?:[A-Z0-9_]+_)?SERVICE_HOST")


def is_injected(variable: str, value: str) -> bool:
    """Whether Kubernetes or Docker made a variable, for a service whose name begins as ours.

    A setting of this name stays one: only the port of a service such as tidegate-admin has the
    name of a setting, and its value is a URL, never a number.
    """
    if setting_of(variable) is not None:
        return variable.endswith("_PORT") and re.fullmatch(_URL, value) is not None
    name = variable.removeprefix(PREFIX)
    if _SERVICE_HOST.fullmatch(name):
        # To listen on all addresses was meant for TIDEGATE_SERVER_HOST; no service has these.
        address = parse(value)
        return address is not None and not (address.is_unspecified or address.is_loopback)
    return any(known.fullmatch(name) and like.fullmatch(value) for known, like in _INJECTED)


def unknown_variable(variable: str) -> str:
    """What is said of a variable that is no setting, with the names that may have been meant."""
    names = (name.removeprefix(PREFIX) for name in _VARIABLES)
    near = nearest(variable.removeprefix(PREFIX), names)
    return f"{variable}: {no_such(PREFIX + name for name in near)}"


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names that may have been meant by one that does not exist, at most three."""
    names = list(names)
    for without_section in (f".{name}", f"_{name}"):  # as settings and as variables have it
        if found := [known for known in names if known.endswith(without_section)]:
            return found[:3]
    return difflib.get_close_matches(name, names, cutoff=0.7)[:3]


def no_such(near: Iterable[str]) -> str:
    """What is said of a name that does not exist."""
    hint = " or ".join(near)
    hint = f"did you mean {hint}?" if hint else "`tidegate config default` lists all"
    return f"there is no such setting; {hint}"
