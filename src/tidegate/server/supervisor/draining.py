"""How far the drain of all workers is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import convert, json

from tidegate.node.control import DrainProgress
from tidegate.server.supervisor.asking import Question, ask_all
from tidegate.server.supervisor.figures import drains

if TYPE_CHECKING:
    from tidegate.server.supervisor.supervisor import Supervisor

__all__ = ["progress"]

_TRIES: Final = 40
_PAUSE_SECONDS: Final = 0.05
_NOTHING: Final = DrainProgress(
    draining=True, over=False, total=0, told=0, closed=0, open=0, window=0, elapsed=0, left=0
)


async def progress(supervisor: Supervisor) -> DrainProgress:
    """Return how far the drain is. At its beginning it waits until all workers have begun."""
    supervisor.watch_drain()
    for _ in range(_TRIES):
        answers = await ask_all(supervisor.workers(), Question("/drain"))
        found = [json.decode(answer.body) for _, answer in answers if answer.good]
        if all(one["draining"] for one in found):
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    parts = [convert(one, DrainProgress) for one in found if one["draining"]]
    lasts = [worker.last for worker in supervisor.drained if worker.last is not None]
    parts += [last.drain for last in lasts if last.drain is not None]
    over = not any(keeper.workers for keeper in supervisor.keepers)
    return drains(parts or [_NOTHING], over)
