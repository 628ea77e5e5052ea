"""What a source of records is, for the pump that publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

__all__ = ["Record", "Source", "SourceError"]


class SourceError(Exception):
    """A source cannot be read at present. The text has no secrets."""


class Record(NamedTuple):
    """One message of a topic."""

    topic: str
    key: str | None
    headers: Mapping[str, str]
    value: bytes
    place: str
    """Where it stands in its topic, for the log."""
    token: Any
    """What the source knows it by."""


class Source(Protocol):
    """Reads records. What was read and is not done comes again, here or at another consumer."""

    async def open(self) -> None:
        """Connect, and join the group.

        Raises:
            Exception: that cannot be done.
        """

    async def read(self, most: int) -> list[Record]:
        """Return the next records, at most so many; wait half a second for the first.

        Raises:
            Exception: the source cannot be read any more.
        """

    def done(self, record: Record) -> None:
        """Remember that a record needs not come again."""

    async def commit(self) -> None:
        """Tell the server what is done.

        Raises:
            Exception: that cannot be told.
        """

    async def lag(self) -> int:
        """Return how many records of its share wait, those on their way included.

        Raises:
            Exception: that cannot be known.
        """

    async def close(self) -> None:
        """Leave the group and end the connection."""
