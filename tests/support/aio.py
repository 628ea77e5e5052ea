"""Coroutines in tests that are not themselves async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_loop", "run"]

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
