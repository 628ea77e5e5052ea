"""Who may have how many HTTP connections, and which of them make room.

They share the descriptors with WebSockets, and an idle one costs its client nothing. So one address
may have `limits.http_per_ip`, but no more than a third of all descriptors for connections. When
those are used up, one more connection, of whatever kind, ends some HTTP connections that have no
request under way: their clients expect that they may end (RFC 9112 9.5). Trusted proxies are not
counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from tidegate.addresses import network

if TYPE_CHECKING:
    from tidegate.core.settings import LimitsSettings

__all__ = ["Streams"]

_PART: Final = 3
_LEAST_OF_ONE: Final = 4
_LOOKS: Final = 64  # when some have to make room
_ENDED_PART: Final = 8


class HttpConnection(Protocol):
    """What is counted: a `Stream`."""

    @property
    def idle(self) -> bool:
        """Whether it has no request under way."""

    def abort(self) -> None:
        """End it."""


class Streams:
    """The HTTP connections of one process, the one that was looked at longest ago first."""

    __slots__ = ("_counts", "_keys", "_limits", "_part", "of_one")

    of_one: int
    """The most of one address."""

    def __init__(self, most: int, limits: LimitsSettings) -> None:
        self._counts: dict[str, int] = {}  # by address, and IPv6 by network
        self._keys: dict[HttpConnection, str] = {}
        self.share(most, limits)

    def share(self, most: int, limits: LimitsSettings) -> None:
        """Take over another number of descriptors. Connections that are there stay."""
        self._part = max(_LEAST_OF_ONE, most // _PART)
        self.apply(limits)

    def apply(self, limits: LimitsSettings) -> None:
        """Take over other limits. Connections that are there stay."""
        self._limits = limits
        self.of_one = min(limits.http_per_ip, self._part)

    def full(self, address: str | None) -> bool:
        """Whether an address has as many as it may have; None is a trusted proxy's. HOT."""
        return address is not None and self._counts.get(self._key(address), 0) >= self.of_one

    def add(self, stream: HttpConnection, address: str | None) -> None:
        """Count one more. HOT."""
        key = "" if address is None else self._key(address)
        self._keys[stream] = key
        if key:
            self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, stream: HttpConnection) -> None:
        """One has ended, or has become something else; twice does nothing. HOT."""
        key = self._keys.pop(stream, "")
        if key:
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]

    def make_room(self) -> bool:
        """End some that have no request under way; False when none of those looked at is idle.

        Some and not one: the next socket gets the number of the first that was closed, so its
        number would not show that all are in use.
        """
        keys, ended = self._keys, 0
        most = 1 + len(keys) // _ENDED_PART
        for _ in range(min(_LOOKS, len(keys))):
            stream = next(iter(keys))
            if not stream.idle:
                keys[stream] = keys.pop(stream)  # the next look is at others
                continue
            stream.abort()
            self.remove(stream)
            ended += 1
            if ended == most:
                break
        return ended > 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._keys)

    def _key(self, address: str) -> str:
        return network(address, self._limits.ipv6_prefix)
