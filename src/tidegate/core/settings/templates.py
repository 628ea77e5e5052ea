"""Names of rooms that are made from what a record has: `"orders:{key}"`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["RoomTemplate"]

_PART: Final = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = re.compile(r"key|topic|(?:header|field)\.[^{}]+")
_WORDING: Final = "must have {key}, {topic}, {header.NAME} or {field.NAME} in its braces"


class RoomTemplate:
    """A template, read once.

    Args:
        text: the name, with parts in braces.

    Raises:
        ValueError: a part is not known, or a brace has no other one.
    """

    __slots__ = ("_parts", "needs_fields")

    def __init__(self, text: str) -> None:
        pieces = _PART.split(text)
        parts = pieces[1::2]
        if any("{" in piece or "}" in piece for piece in pieces[::2]) or not text:
            raise ValueError(_WORDING)
        for part in parts:
            if not _KNOWN.fullmatch(part):
                raise ValueError(f"{_WORDING}, not {{{part}}}")
        self._parts = pieces
        self.needs_fields = any(part.startswith("field.") for part in parts)
        """Whether a record must be read to know its room."""

    def fill(self, value: Callable[[str], str | None]) -> str | None:
        """Return the name; None where a part is missing.

        Args:
            value: returns what a record has for a part, such as `key` or `header.NAME`.
        """
        made = []
        for number, piece in enumerate(self._parts):
            found = piece if number % 2 == 0 else value(piece)
            if found is None:
                return None
            made.append(found)
        return "".join(made)
