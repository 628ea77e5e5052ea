"""The streams of events of one node, by the keys with which their clients post messages."""

from __future__ import annotations

import secrets
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter

    from tidegate.engine.events import EventStream

__all__ = ["EventStreams"]

_SECRET_BYTES: Final = 18


class EventStreams:
    """Gives out keys, and finds the stream that a key belongs to, as long as it is open.

    A key is `NODE-NUMBER.SECRET`. What stands before the point says which stream of which node it
    is, for proxies that send what is posted to the right node. The rest is known to the client
    only.

    Args:
        node: the name of the node, unique among nodes and restarts.
        posts: counts the requests that post messages, by what became of them.
    """

    def __init__(self, node: str, posts: Counter[str]) -> None:
        self.posts = posts
        self._node = node
        self._count = 0
        self._streams: dict[str, EventStream] = {}

    def new_key(self) -> str:
        """Return a key that no other stream has."""
        self._count += 1
        return f"{self._node}-{self._count:x}.{secrets.token_urlsafe(_SECRET_BYTES)}"

    def add(self, stream: EventStream) -> None:
        """A stream with a key is open."""
        self._streams[_name(stream.key)] = stream

    def remove(self, stream: EventStream) -> None:
        """A stream has ended: its key is worth nothing."""
        self._streams.pop(_name(stream.key), None)

    def find(self, key: str) -> EventStream | None:
        """Return the open stream that a key belongs to, or None."""
        stream = self._streams.get(_name(key))
        if stream is None or not stream.open:
            return None
        return stream if compare_digest(stream.key.encode(), key.encode()) else None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._streams)


def _name(key: str) -> str:
    return key.partition(".")[0]
