"""Events for a loop."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tidegate.client import ClientError
from tidegate.client.emitter import Emitter
from tidegate.client.feed import Feed
from tidegate.errors import UsageError


async def drained(feed: Feed[int]) -> list[int]:
    return [item async for item in feed]


def test_feed_gives_what_waits_and_what_comes() -> None:
    async def run() -> list[int]:
        feed: Feed[int] = Feed()
        feed.put(1)
        task = asyncio.create_task(drained(feed))
        await asyncio.sleep(0)
        feed.put(2)
        await asyncio.sleep(0)
        feed.put(3)
        feed.end()
        feed.put(4)
        return await task

    assert asyncio.run(run()) == [1, 2, 3]


def test_feed_with_an_error_raises_it_once_behind_what_waits() -> None:
    async def run() -> None:
        feed: Feed[int] = Feed()
        feed.put(1)
        feed.end(ClientError("closed", "why"))
        assert not feed.ended
        assert await anext(feed) == 1
        with pytest.raises(ClientError, match="closed: why"):
            await anext(feed)
        assert feed.ended
        with pytest.raises(StopAsyncIteration):
            await anext(feed)

    asyncio.run(run())


def test_feed_that_is_not_read_is_bounded_and_says_so() -> None:
    async def run() -> None:
        feed: Feed[int] = Feed(3)
        for number in range(5):
            feed.put(number)
        with pytest.raises(ClientError, match="more than 3 events behind") as error:
            await anext(feed)
        assert error.value.code == "overflow"

    asyncio.run(run())


def test_feed_whose_reader_is_cancelled_loses_nothing() -> None:
    async def run() -> None:
        feed: Feed[int] = Feed()
        task = asyncio.create_task(drained(feed))
        await asyncio.sleep(0)
        feed.put(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await anext(feed) == 1

    asyncio.run(run())


def test_feed_with_two_readers_is_refused() -> None:
    async def run() -> None:
        feed: Feed[int] = Feed()
        task = asyncio.create_task(drained(feed))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="Another task reads"):
            await anext(feed)
        feed.end()
        await task

    asyncio.run(run())


class Told(Emitter):
    def tell(self, event: object) -> None:
        self._emit(event)


def test_listener_gets_its_type_until_it_ends() -> None:
    found: list[object] = []
    told = Told()
    end = told.on(int, found.append)
    told.on(str, found.append)
    told.tell(1)
    told.tell("a")
    end()
    end()
    told.tell(2)
    assert found == [1, "a"]


def test_listener_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    found: list[int] = []
    told = Told()
    told.on(int, lambda _: 1 / 0)
    told.on(int, found.append)
    told.tell(1)
    assert found == [1]
    assert "A listener of int failed" in caplog.text


def test_coroutine_function_is_no_listener() -> None:
    async def listener(_: int) -> None:
        """It would never be awaited."""

    with pytest.raises(TypeError, match="plain function"):
        Told().on(int, listener)


def test_events_go_to_each_feed_and_forgotten_feeds_are_dropped() -> None:
    async def run() -> None:
        told = Told()
        first, second = told.events(int), told.events(int, str)
        told.tell(1)
        del first
        gc.collect()
        told.tell("a")
        assert [await anext(second), await anext(second)] == [1, "a"]
        assert len(told._feeds) == 1

    asyncio.run(run())
