"""Coroutines in tests that are not themselves async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_loop", "run", "turns_during"]

Result = TypeVar("Result")
P = ParamSpec("P")


def run(work: Coroutine[Any, Any, Result], seconds: float = 60) -> Result:
    """Run a coroutine in a loop of its own; fail when it is not done in time."""

    async def bounded() -> Result:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(bounded())


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test one that pytest can call: it runs in a loop of its own."""

    @wraps(test)
    def sync(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return sync


async def turns_during(work: Any) -> int:
    """How many turns another task had while something was done."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    before = turns
    await work
    task.cancel()
    return turns - before
