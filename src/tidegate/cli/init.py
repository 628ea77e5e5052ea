"""`tidegate init`: a file of settings to start from, with fresh secrets."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.errors import TidegateError
from tidegate.server.config import FILE

__all__ = ["init"]


def init(file: Path = Path(FILE), /, *, force: bool = False) -> None:
    """Write a short file of settings with fresh secrets, which only you can read.

    `tidegate serve` reads ./tidegate.toml by itself. With these settings clients need a token, and
    so do requests to the admin API; the commands of tidegate find both secrets in the file.

    Parameters
    ----------
    file
        The file to write.
    force
        Replace a file that is there, and the secrets in it.
    """
    from tidegate.server.config_text import starting_toml

    _write(file, starting_toml().encode(), force)
    option = "" if file == Path(FILE) else f" --config {file}"
    print(f"wrote {file}; it holds secrets, so keep it out of version control")
    print(f"next: tidegate serve{option}")
    print(f"      tidegate token create{option} ann")


def _write(file: Path, content: bytes, force: bool) -> None:
    """Write a file that only its owner can read: the whole of it or nothing.

    Raises:
        TidegateError: it is there already, or cannot be written.
    """
    replaced = force and os.path.lexists(file)
    if replaced and not (file.is_file() or file.is_symlink()):
        raise TidegateError(f"{file} is not a file")
    target = file.with_name(f".{file.name}.new") if replaced else file
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as written:
                written.write(content)
            os.replace(target, file)
        except OSError:
            os.unlink(target)
            raise
    except FileExistsError:
        hint = "; --force replaces it and its secrets" if target == file else ""
        raise TidegateError(f"{target} exists already{hint}") from None
    except OSError as error:
        raise TidegateError(f"{file} cannot be written: {error.strerror}") from None
