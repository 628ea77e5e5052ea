"""Sessions: what a client needs to come back as if it had not been away.

A session has the id of its first connection, and a secret that only its client was told. With each
resumption the secret changes, so one that was used is worth nothing. Direct messages of a session
are numbered from 1 and kept for a while, so that a client which says the last number it has seen
gets those that were lost on the way.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections import deque
from hashlib import sha256
from typing import Final, Generic, NamedTuple, TypeVar

__all__ = ["DirectLog", "Shown", "read_session", "session_secret"]

OVERHEAD: Final = 256
"""What a kept message takes in memory beside its data, in bytes."""
_MAC_BYTES: Final = 16  # 128 bits, as much as a random name has
_MOST: Final = 2**53

M = TypeVar("M")


class Shown(NamedTuple):
    """What a client that wants to resume has shown."""

    id: str
    """The id of the connection."""
    generation: int
    """How often the session was resumed before."""
    mac: str
    seq: int
    """The number of the last direct message that it has seen."""
    node: str | None = None
    """The node that has the session, in a fleet."""


def session_secret(key: bytes, id: str, generation: int, node: str = "") -> str:  # noqa: A002
    """Return what a client shows to resume: `ID.GENERATION.MAC`.

    In a fleet it is `ID.GENERATION.NODE.MAC`, so that other nodes know which one has it.
    """
    shown = f"{id}.{generation}.{node}" if node else f"{id}.{generation}"
    return f"{shown}.{_mac(key, shown)}"


def read_session(key: bytes, text: str) -> Shown | None:
    """Return what `SECRET.SEQ` says, or None for what we have not given out."""
    parts = text.split(".")
    if len(parts) not in (4, 5) or not text.isascii():
        return None
    *named, mac, seq = parts
    if not (named[1].isdecimal() and seq.isdecimal()) or len(named[1]) > 16 or len(seq) > 16:
        return None
    node = named[2] if len(named) == 3 else None
    shown = Shown(named[0], int(named[1]), mac, min(int(seq), _MOST), node)
    return shown if hmac.compare_digest(mac, _mac(key, ".".join(named))) else None


def _mac(key: bytes, shown: str) -> str:
    digest = hmac.digest(key, shown.encode(), sha256)
    return urlsafe_b64encode(digest[:_MAC_BYTES]).rstrip(b"=").decode()


class _Kept(NamedTuple, Generic[M]):
    seq: int
    message: M
    size: int
    ends: float


class DirectLog(Generic[M]):
    """The last direct messages of one session, numbered, for some seconds and of some bytes."""

    __slots__ = ("_kept", "seq", "size")

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq
        """The number of the last message."""
        self.size = 0
        """Bytes that are kept."""
        self._kept: deque[_Kept[M]] = deque()

    def add(self, message: M, size: int, max_bytes: int, now: float, ttl: float) -> int:
        """Keep a message of so many bytes for `ttl` seconds; return its number."""
        self.seq += 1
        taken = OVERHEAD + size
        self._kept.append(_Kept(self.seq, message, taken, now + ttl))
        self.size += taken
        while self._kept and (self.size > max_bytes or self._kept[0].ends <= now):
            self._drop()
        return self.seq

    def since(self, seq: int) -> list[tuple[int, M]] | None:
        """Return the messages after a number; None when some of them are gone, or never were."""
        oldest = self._kept[0].seq if self._kept else self.seq + 1
        if not oldest - 1 <= seq <= self.seq:
            return None
        return [(one.seq, one.message) for one in self._kept if one.seq > seq]

    def expire(self, now: float) -> None:
        """Drop what has been kept for long enough."""
        while self._kept and self._kept[0].ends <= now:
            self._drop()

    def clear(self) -> int:
        """Drop everything, and return how many bytes it had. The numbers go on."""
        size, self.size = self.size, 0
        self._kept.clear()
        return size

    def skip(self) -> int:
        """Drop everything and leave a number out, as for a message that was lost; return bytes."""
        self.seq += 1
        return self.clear()

    def _drop(self) -> None:
        self.size -= self._kept.popleft().size
