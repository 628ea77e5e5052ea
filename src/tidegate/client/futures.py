"""A result that may come too late."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["settle"]

T = TypeVar("T")


def settle(future: asyncio.Future[T], result: T) -> None:
    """Set the result, unless there is one already or nobody waits any more."""
    if not future.done():
        future.set_result(result)
