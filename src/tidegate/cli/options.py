"""The options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidegate.server.config import Loaded, load

__all__ = ["Assignments", "ConfigFile", "load_settings"]

ConfigFile = Annotated[
    Path | None,
    Parameter(name=["--config", "-c"], help="TOML file with settings. [env: TIDEGATE_CONFIG]"),
]
Assignments = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        help="One setting, as section.key=value; may be given several times.",
        negative=(),
        show_default=False,
    ),
]


def load_settings(
    config: Path | None,
    assignments: Sequence[str] = (),
    shortcuts: Sequence[tuple[str, str]] = (),
) -> Loaded:
    """The settings for a command; `shortcuts` are options that stand for one setting each."""
    options = [("--set", assignment) for assignment in assignments]
    return load(config, os.environ, [*options, *shortcuts])
