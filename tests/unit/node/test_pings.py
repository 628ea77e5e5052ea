from __future__ import annotations

import asyncio
from typing import Any

from tidegate.node.pings import Pings


class Client:
    """A connection that only counts how often it is pinged."""

    def __init__(self, *, open: bool = True) -> None:  # noqa: A002
        self.open = open
        self.pinged = 0

    def ping_now(self) -> None:
        self.pinged += 1


def test_the_first_answer_is_for_all_who_wait() -> None:
    async def run() -> None:
        pings: Any = Pings()
        one, two = Client(), Client()
        waiting = [asyncio.ensure_future(pings.ping([one, two], 30)) for _ in range(3)]
        await asyncio.sleep(0)
        pings.measured(two, 0.25)
        pings.measured(one, 0.5)
        assert await asyncio.gather(*waiting) == [0.25] * 3
        assert (one.pinged, two.pinged) == (1, 1)
        assert not pings._waiting

    asyncio.run(run())


def test_no_answer_is_none_and_leaves_nothing() -> None:
    async def run() -> None:
        pings: Any = Pings()
        silent = Client()
        assert await pings.ping([silent], 0.001) is None
        assert not pings._waiting
        pings.measured(silent, 1.0)  # too late
        assert await pings.ping([], 30) is None
        assert await pings.ping([Client(open=False)], 30) is None

    asyncio.run(run())
