"""What all lists have in common: of which nodes they are, and how long a page is at most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, TypeVar

from msgspec import json

__all__ = ["LOOKS", "MOST", "Scope", "fitting"]

MOST: Final = 1000
"""The most rows of a page."""
LOOKS: Final = 1000
"""How many are looked at before the loop gets its turn."""
_PAGE_BYTES: Final = 256 * 1024
# All nodes answer at once, over one connection: Valkey closes one on which 32 MiB wait.
_ANSWER_BYTES: Final = 64 * 1024

Scope: TypeAlias = Literal["node", "fleet"]
"""Whose they are: those of the node that is asked, or of all nodes."""

_R = TypeVar("_R")


def fitting(rows: Iterable[_R], limit: int = MOST, *, answer: bool = False) -> list[_R]:
    """Return the first rows: `limit` at most, and 256 KiB as JSON, but one at least.

    Where not all are returned, one more was taken from an iterator.

    Args:
        answer: whether they are the answer of one node of many, which has 64 KiB at most.
    """
    found: list[_R] = []
    size, most = 0, _ANSWER_BYTES if answer else _PAGE_BYTES
    for row in rows:
        size += len(json.encode(row))
        if len(found) == limit or (found and size > most):
            break
        found.append(row)
    return found
