"""What the server runs in one step. Each script is a file, and says what it takes and returns."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

__all__ = ["SCRIPTS", "SHARDED", "Script"]


class Script(NamedTuple):
    """A script, by its text and by what the server calls it."""

    text: bytes
    sha: str


def _read(text: bytes) -> Script:
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


SCRIPTS: Final = {
    file.name.removesuffix(".lua"): _read(file.read_bytes())
    for file in files(__name__).iterdir()
    if file.name.endswith(".lua")
}
"""All of them, by the names of their files without the suffix."""

SHARDED: Final = {
    script: _read(script.text.replace(b"'PUBLISH'", b"'SPUBLISH'")) for script in SCRIPTS.values()
}
"""The same for a cluster, whose channels are sharded."""
