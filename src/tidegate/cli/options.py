"""The options that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidegate.core.settings.quantities import examples, seconds
from tidegate.errors import UsageError
from tidegate.server.config import Loaded, find_file, load

__all__ = [
    "AdminUrl",
    "Assignments",
    "ConfigFile",
    "OfFleet",
    "Time",
    "load_settings",
    "parse_seconds",
    "read_token",
]

_TOKEN_BYTES = 16_384

ConfigFile = Annotated[
    Path | None,
    Parameter(
        name=["--config", "-c"],
        metavar="FILE",
        help="TOML file with settings. [default: TIDEGATE_CONFIG, or ./tidegate.toml if it exists]",
    ),
]
Assignments = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        metavar="NAME=VALUE",
        help="One setting, as section.key=value; may be given several times.",
        negative=(),
        show_default=False,
    ),
]
AdminUrl = Annotated[
    str | None,
    Parameter(
        name="--admin",
        metavar="URL",
        help="Where the admin API is: 127.0.0.1:8001, a URL, or unix:/path. "
        "[default: from admin.host and admin.port]",
    ),
]
OfFleet = Annotated[
    bool,
    Parameter(
        name="--fleet", negative=(), help="List those of all nodes, and say on which they are."
    ),
]
# A hyphen in front is for a negative number, which the command refuses with the reason.
Time = Parameter(metavar="TIME", allow_leading_hyphen=True)


def load_settings(
    config: Path | None,
    assignments: Sequence[str] = (),
    shortcuts: Sequence[tuple[str, str]] = (),
) -> Loaded:
    """The settings for a command; `shortcuts` are options that stand for one setting each."""
    options = [("--set", assignment) for assignment in assignments]
    return load(find_file(config, os.environ), os.environ, [*options, *shortcuts])


def parse_seconds(option: str, text: str, low: float, high: float) -> float:
    """The seconds that the value of an option stands for, such as 90, 90s or 15m.

    Raises:
        UsageError: it is no time, or not from `low` to `high` seconds.
    """
    value = seconds(text)
    if value is None or not low <= value <= high:
        raise UsageError(
            f"{option} {text}: must be a number from {low:,.0f} to {high:,.0f} {examples('s')}"
        )
    return value


def read_token(file: Path) -> str:
    """The token in a file; - is standard input.

    Raises:
        UsageError: there is none.
    """
    try:
        text = sys.stdin.read(_TOKEN_BYTES) if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {file}: {error}") from None
    token = text.strip()
    if not token or len(token) >= _TOKEN_BYTES or not token.isprintable() or not token.isascii():
        raise UsageError(f"--token-file {file}: has no token")
    return token
