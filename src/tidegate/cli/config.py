"""`tidegate config`: what can be set, what is set, and whether it is right."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from tidegate.cli.options import Assignments, ConfigFile, load_settings

__all__ = ["app"]

app = App(name="config", help="Show and check the settings.")


@app.command
def default() -> None:
    """Print every setting with its default, as a commented TOML file to start from."""
    from tidegate.server.config_text import default_toml

    sys.stdout.write(default_toml())


@app.command
def show(*, config: ConfigFile = None, set_: Assignments = ()) -> None:
    """Print the settings that `tidegate serve` would use here, and where each comes from."""
    from rich.console import Console
    from rich.text import Text

    from tidegate.server.config_text import effective

    rows = list(effective(load_settings(config, set_)))
    name_width = max(len(row.name) for row in rows)
    value_width = max(len(row.value) for row in rows if len(row.value) <= 40)
    console = Console(highlight=False, soft_wrap=True)
    for row in rows:
        quiet = "dim" if row.source == "default" else ""
        line = Text(f"{row.name:<{name_width}}  ", style=quiet)
        line.append(f"{row.value:<{value_width}}  ", style=quiet or "bold")
        line.append(row.source, style=quiet or "green")
        console.print(line)


@app.command
def check(file: Path, /) -> None:
    """Check a file, together with the environment, as `tidegate serve` would read it.

    Parameters
    ----------
    file
        The TOML file.
    """
    from tidegate.node.pressure.descriptors import raise_descriptor_limit
    from tidegate.server.checks import warnings

    loaded = load_settings(file)
    for warning in warnings(loaded.settings, raise_descriptor_limit()):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{file}: the settings are valid")
