"""Who is told of events: listeners, and loops."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tidegate.client.errors import ClientError
from tidegate.client.feed import BUFFER, Feed

__all__ = ["Emitter"]

E = TypeVar("E")

_log = logging.getLogger("tidegate.client")


class Emitter:
    """Tells of events, each a value of a type of its own."""

    def __init__(self) -> None:
        """Nobody listens."""
        self._listeners: dict[int, tuple[type[Any], Callable[[Any], object]]] = {}
        self._next = 0
        # A loop that was left is forgotten with its feed.
        self._feeds: WeakKeyDictionary[Feed[Any], tuple[type[Any], ...]] = WeakKeyDictionary()

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call `listener` with each event of a type, at once as it happens.

        It must not block. What it raises is logged, and disturbs nothing.

        Returns:
            A function that ends this.

        Raises:
            TypeError: if it is a coroutine function, which would not be awaited.
        """
        if inspect.iscoroutinefunction(listener):
            raise TypeError(
                "A listener is a plain function; loop over `events()` to await something"
            )
        key, self._next = self._next, self._next + 1
        self._listeners[key] = (kind, listener)

        def end() -> None:
            self._listeners.pop(key, None)

        return end

    def events(self, *kinds: type[E], buffer: int = BUFFER) -> Feed[E]:
        """Return the events of these types from now on, for an `async for` loop.

        Args:
            kinds: types of events.
            buffer: how many may wait. When more wait the loop ends with the error `overflow`.
        """
        if not kinds:
            raise TypeError("events() takes one type of events at least")
        feed: Feed[E] = Feed(buffer)
        self._feeds[feed] = kinds
        return feed

    @property
    def _is_heard(self) -> bool:
        """Whether there is a listener, or a loop that is not forgotten."""
        return bool(self._listeners or self._feeds)

    def _listens(self, kind: type[Any]) -> bool:
        return any(issubclass(kind, of) for of, _ in self._listeners.values())

    def _emit(self, event: object) -> None:
        for kind, listener in tuple(self._listeners.values()):
            if isinstance(event, kind):
                try:
                    listener(event)
                except Exception:
                    _log.exception("A listener of %s failed", kind.__name__)
        for feed, kinds in tuple(self._feeds.items()):
            if isinstance(event, kinds):
                feed.put(event)

    def _end(self, error: ClientError | None) -> None:
        for feed in tuple(self._feeds):
            feed.end(error)
        self._feeds.clear()
