"""`tidegate run --reload`: the server in a process of its own, begun anew when a file changes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import ConfigError

__all__ = ["reload_on_change"]

_OPTIONS = ("--reload", "--reload-dir")


def reload_on_change(arguments: Sequence[str], directories: Sequence[str]) -> None:
    """Run `tidegate` with these arguments, without those of reloading, until Ctrl-C or SIGTERM.

    Args:
        directories: whose Python files are watched, with all below them.

    Raises:
        ConfigError: `watchfiles` is not installed, or there is no such directory.
    """
    try:
        from watchfiles import PythonFilter, run_process
    except ImportError:
        raise ConfigError("--reload needs watchfiles: pip install 'tidegate[asgi]'") from None
    for directory in directories:
        if not Path(directory).is_dir():
            raise ConfigError(f"--reload-dir {directory}: there is no such directory")
    command = [sys.executable, "-m", "tidegate", *_without_reload(arguments)]
    run_process(
        *directories,
        target=shlex.join(command),
        target_type="command",
        watch_filter=PythonFilter(),
        sigint_timeout=10,
    )


def _without_reload(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in _OPTIONS:
            skip = name == "--reload-dir" and not equals
        else:
            kept.append(argument)
    return kept
