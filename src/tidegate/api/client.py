"""The two clients: the same calls, sent by threads or by tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from tidegate.api import calls, lists
from tidegate.api.answers import result
from tidegate.api.place import Place, answer_of, no_answer
from tidegate.api.values import Answer, Call, NoAnswer, Pages

if TYPE_CHECKING:
    import ssl


__all__ = ["AsyncServerApi", "ServerApi"]

P = ParamSpec("P")
R = TypeVar("R")
Page = TypeVar("Page")


def _now(build: Callable[P, Call[R]]) -> Callable[Concatenate[ServerApi, P], R]:
    @wraps(build)
    def method(api: ServerApi, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return api.send(build(*args, **kwargs))

    return method


def _each(build: Callable[P, Pages[Page, R]]) -> Callable[Concatenate[ServerApi, P], Iterator[R]]:
    @wraps(build)
    def method(api: ServerApi, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        pages = build(*args, **kwargs)
        call: Call[Page] | None = pages.first
        while call is not None:
            page = api.send(call)
            yield from pages.rows(page)
            call = pages.following(page)

    return method


def _later(
    build: Callable[P, Call[R]],
) -> Callable[Concatenate[AsyncServerApi, P], Coroutine[Any, Any, R]]:
    @wraps(build)
    async def method(api: AsyncServerApi, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await api.send(build(*args, **kwargs))

    return method


def _each_later(
    build: Callable[P, Pages[Page, R]],
) -> Callable[Concatenate[AsyncServerApi, P], AsyncIterator[R]]:
    @wraps(build)
    async def method(api: AsyncServerApi, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        pages = build(*args, **kwargs)
        call: Call[Page] | None = pages.first
        while call is not None:
            page = await api.send(call)
            for row in pages.rows(page):
                yield row
            call = pages.following(page)

    return method


class ServerApi:
    """The server API, for threads; one may be shared by several.

    It keeps connections open for the next calls; `close` or a `with` block ends them.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8001",
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._place = place = Place(url, token, timeout, retries, tls)
        transport = httpx2.HTTPTransport(**place.transport())
        self._http = httpx2.Client(transport=transport, **place.options())

    def send(self, call: Call[R]) -> R:
        """Send a call, again where that is safe, and return its result.

        Raises:
            ApiError: it was not done.
        """
        for number in count():
            answer = self._exchange(call)
            pause = self._place.again(call, answer, number)
            if pause is None:
                return result(call, answer, self._place.url)
            time.sleep(pause)
        raise AssertionError

    def _exchange(self, call: Call[Any]) -> Answer | NoAnswer:
        try:
            return answer_of(self._http.request(**self._place.request(call)))
        except httpx2.HTTPError as error:
            return no_answer(error)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ServerApi({self._place.url!r})"

    publish = _now(calls.publish)
    publish_to_user = _now(calls.publish_to_user)
    publish_to_all = _now(calls.publish_to_all)
    publish_batch = _now(calls.publish_batch)
    rooms = _now(lists.rooms)
    each_room = _each(lists.each_room)
    join = _now(calls.join)
    leave = _now(calls.leave)
    presence = _now(calls.presence)
    history = _now(calls.history)
    users = _now(lists.users)
    each_user = _each(lists.each_user)
    ping = _now(calls.ping)
    connections = _now(lists.connections)
    each_connection = _each(lists.each_connection)
    disconnect = _now(calls.disconnect)
    revoke = _now(calls.revoke)
    explain = _now(calls.explain)
    explain_room = _now(calls.explain_room)
    refusals = _now(calls.refusals)
    settings = _now(calls.settings)
    change_settings = _now(calls.change_settings)
    drain = _now(calls.drain)
    drain_progress = _now(calls.drain_progress)
    rebalance = _now(calls.rebalance)
    rebalanced = _now(calls.rebalanced)
    stats = _now(calls.stats)
    nodes = _now(calls.nodes)
    timeline = _now(calls.timeline)
    metrics = _now(calls.metrics)
    health = _now(calls.health)
    ready = _now(calls.ready)
    openapi = _now(calls.openapi)


class AsyncServerApi:
    """The server API, for asyncio; it belongs to one event loop.

    It keeps connections open for the next calls; `close` or an `async with` block ends them.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8001",
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._place = place = Place(url, token, timeout, retries, tls)
        transport = httpx2.AsyncHTTPTransport(**place.transport())
        self._http = httpx2.AsyncClient(transport=transport, **place.options())

    async def send(self, call: Call[R]) -> R:
        """Send a call, again where that is safe, and return its result.

        Raises:
            ApiError: it was not done.
        """
        for number in count():
            answer = await self._exchange(call)
            pause = self._place.again(call, answer, number)
            if pause is None:
                return result(call, answer, self._place.url)
            await asyncio.sleep(pause)
        raise AssertionError

    async def _exchange(self, call: Call[Any]) -> Answer | NoAnswer:
        try:
            return answer_of(await self._http.request(**self._place.request(call)))
        except httpx2.HTTPError as error:
            return no_answer(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncServerApi({self._place.url!r})"

    publish = _later(calls.publish)
    publish_to_user = _later(calls.publish_to_user)
    publish_to_all = _later(calls.publish_to_all)
    publish_batch = _later(calls.publish_batch)
    rooms = _later(lists.rooms)
    each_room = _each_later(lists.each_room)
    join = _later(calls.join)
    leave = _later(calls.leave)
    presence = _later(calls.presence)
    history = _later(calls.history)
    users = _later(lists.users)
    each_user = _each_later(lists.each_user)
    ping = _later(calls.ping)
    connections = _later(lists.connections)
    each_connection = _each_later(lists.each_connection)
    disconnect = _later(calls.disconnect)
    revoke = _later(calls.revoke)
    explain = _later(calls.explain)
    explain_room = _later(calls.explain_room)
    refusals = _later(calls.refusals)
    settings = _later(calls.settings)
    change_settings = _later(calls.change_settings)
    drain = _later(calls.drain)
    drain_progress = _later(calls.drain_progress)
    rebalance = _later(calls.rebalance)
    rebalanced = _later(calls.rebalanced)
    stats = _later(calls.stats)
    nodes = _later(calls.nodes)
    timeline = _later(calls.timeline)
    metrics = _later(calls.metrics)
    health = _later(calls.health)
    ready = _later(calls.ready)
    openapi = _later(calls.openapi)
