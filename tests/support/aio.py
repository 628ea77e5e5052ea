"""Coroutines in tests that are not themselves async."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result], seconds: float = 60) -> Result:
    """Run a coroutine in a loop of its own; fail when it is not done in time."""

    async def bounded() -> Result:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(bounded())
