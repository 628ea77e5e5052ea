"""Settings into a TOML file that a person keeps: comments, order and all other values stay."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tidegate.errors import ConfigError, UsageError

__all__ = ["write"]


def write(path: Path, values: Mapping[str, int | float]) -> None:
    """Put settings into a file, or make it.

    Args:
        path: the file.
        values: by full name, such as `limits.connections`.

    Raises:
        UsageError: tomlkit is not installed.
        ConfigError: the file is not TOML, or cannot be read or written; it is as it was then.
    """
    try:
        import tomlkit
        from tomlkit.exceptions import ParseError
    except ImportError:
        problem = "--write needs tomlkit: pip install 'tidegate[capacity]'"
        raise UsageError(problem) from None
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        document = tomlkit.parse(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: the file cannot be read: {why}") from None
    except ParseError as error:
        raise ConfigError(f"{path}: this is not TOML: {error}") from None
    for name, value in values.items():
        section, _, key = name.partition(".")
        if section not in document:
            document[section] = tomlkit.table()
        table = document[section]
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section} must be a section")
        table[key] = value
    try:
        _replace(path, tomlkit.dumps(document))
    except OSError as error:
        raise ConfigError(f"{path}: the file cannot be written: {error.strerror}") from None


def _replace(path: Path, text: str) -> None:
    """Write a file whole, or not at all: a full disk leaves the old one."""
    real = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if real.exists():
            os.chmod(temporary, real.stat().st_mode & 0o7777)
        os.replace(temporary, real)
    except BaseException:
        os.unlink(temporary)
        raise
