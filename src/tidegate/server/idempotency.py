"""Requests that come again because their answer was lost: the first answer is given once more."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final, NamedTuple

__all__ = ["MAX_KEY", "Answers", "Conflict"]

MAX_KEY: Final = 255
"""The longest key, in characters."""
_SECONDS: Final = 300.0
_MOST: Final = 10_000
_MOST_BYTES: Final = 16 << 20


class Conflict(Exception):  # noqa: N818 - says what it is
    """A key was used for another request."""


class _Answer(NamedTuple):
    digest: bytes
    status: int
    body: bytes
    ends: float


class Answers:
    """The answers of the last five minutes, by key (the draft of the header `Idempotency-Key`)."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._bytes = 0

    def find(self, key: str, request: bytes, now: float) -> tuple[int, bytes] | None:
        """Return the status and the body that a request was answered with before.

        Raises:
            Conflict: the key was used for another request.
        """
        self._expire(now)
        found = self._answers.get(key)
        if found is None:
            return None
        if found.digest != sha256(request).digest():
            raise Conflict
        return found.status, found.body

    def keep(self, key: str, request: bytes, status: int, body: bytes, now: float) -> None:
        """Keep an answer for five minutes."""
        self._drop(key)
        self._answers[key] = _Answer(sha256(request).digest(), status, body, now + _SECONDS)
        self._bytes += len(body)
        while len(self._answers) > _MOST or (self._bytes > _MOST_BYTES and len(self._answers) > 1):
            self._drop(next(iter(self._answers)))

    def _expire(self, now: float) -> None:
        while self._answers:
            key, first = next(iter(self._answers.items()))
            if first.ends > now:
                return
            self._drop(key)

    def _drop(self, key: str) -> None:
        found = self._answers.pop(key, None)
        if found is not None:
            self._bytes -= len(found.body)
