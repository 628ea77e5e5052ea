"""`tidegate config`: what can be set, what is set, whether it is right, and a change of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tidegate.cli.options import AdminUrl, Assignments, ConfigFile, load_settings

__all__ = ["app"]

app = App(name="config", help="Show, check and apply settings.")


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
def check(
    file: Annotated[Path | None, Parameter(show_default=False)] = None,
    /,
    *,
    set_: Assignments = (),
) -> None:
    """Check the settings, those of the environment too, as `tidegate serve` reads them.

    Parameters
    ----------
    file
        The TOML file. [default: TIDEGATE_CONFIG, or ./tidegate.toml if it exists]
    """
    from tidegate.node.pressure.descriptors import raise_descriptor_limit
    from tidegate.server.checks import warnings
    from tidegate.server.config_text import in_force

    loaded = load_settings(file, set_)
    for warning in warnings(loaded.settings, raise_descriptor_limit()):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{file or in_force(loaded)}: the settings are valid")


@app.command
def apply(file: Path, /, *, admin: AdminUrl = None) -> int:
    """Change the settings of a running server to those of a file, without the environment.

    The server checks the whole file first: if one setting is wrong, nothing changes. The exit code
    is 0 when all of the file is in force, and 1 when a setting needs a restart.

    Parameters
    ----------
    file
        The TOML file. Settings that it does not set stay as they are. Without --admin the server
        is where TIDEGATE_CONFIG says, or else this file.
    """
    from tidegate.cli.admin import Admin
    from tidegate.server.config import load
    from tidegate.server.config_text import effective
    from tidegate.server.environment import CONFIG_VARIABLE

    loaded = load(file)
    where = load_settings(None if os.environ.get(CONFIG_VARIABLE) else file)
    done = Admin(where.settings.admin, admin).ask("/settings", "PATCH", loaded.given)
    values = {row.name: row.value for row in effective(loaded)}
    for name in done["applied"]:
        print(f"applied {name} = {values[name]}")
    for name in done["restart"]:
        print(f"needs a restart: {name}")
    if not done["applied"] and not done["restart"]:
        print("nothing to change")
    return 1 if done["restart"] else 0
