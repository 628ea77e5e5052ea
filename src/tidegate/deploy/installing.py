"""Writing files: what would change, and changing it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tidegate.deploy.plan import File
from tidegate.errors import TidegateError

__all__ = ["Change", "changes", "install"]

_KEPT: Final = ".before-tidegate"
_MODE: Final = 0o644


class Change(NamedTuple):
    """A file that has another content, or is not there."""

    path: Path
    text: str
    exists: bool

    @property
    def kept(self) -> Path:
        """Where what was there is kept."""
        return self.path.with_name(self.path.name + _KEPT)

    def __str__(self) -> str:
        if self.exists:
            return f"{self.path} (what is there now goes to {self.kept.name})"
        return str(self.path)


def changes(files: Sequence[File], folder: Path | None) -> list[Change]:
    """What writing these files would change.

    Args:
        folder: where they go, by their names; None for where they belong on this machine.

    Raises:
        TidegateError: a path is no file, or cannot be read.
    """
    found = []
    for file in files:
        path = Path(file.path) if folder is None else folder / file.name
        try:
            same = path.exists() and path.read_text(encoding="utf-8", errors="replace") == file.text
            if not same:
                found.append(Change(path, file.text, os.path.lexists(path)))
        except OSError as error:
            raise TidegateError(f"{path} cannot be read: {error.strerror}") from None
    return found


def install(change: Change, *, keep: bool) -> None:
    """Write one file: the whole of it or nothing.

    Args:
        keep: whether what is there is kept beside it. What was kept first stays: that is what was
            there before Tidegate.

    Raises:
        TidegateError: it cannot be written.
    """
    path = change.path
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(change.text, encoding="utf-8")
        new.chmod(_MODE)
        if keep and change.exists and not os.path.lexists(change.kept):
            os.link(path, change.kept, follow_symlinks=False)
        os.replace(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise TidegateError(f"{path} cannot be written: {error.strerror}") from None
