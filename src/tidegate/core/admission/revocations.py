"""Tokens that are not accepted any more, by their user and when they were issued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidegate.errors import UsageError

__all__ = ["MAX_REVOCATIONS", "Revocations"]

MAX_REVOCATIONS: Final = 100_000
"""Users whose tokens can be revoked at a time."""


class Revocations:
    """Users whose tokens from before a time are revoked. All times are in Unix seconds.

    Args:
        ttl: seconds for which a revocation is kept. A token that is valid for longer would be
            accepted again after that.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        # In the order in which they were made, which is about that in which they end.
        self._before: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._before)

    def apply(self, ttl: float) -> None:
        """Keep revocations that are made from now on for another time."""
        self._ttl = ttl

    def revoke(self, user: str, before: float, now: float, until: float | None = None) -> bool:
        """Accept no token of a user that was issued before a time.

        An earlier revocation of the same user is never weakened.

        Args:
            until: when it may be forgotten; after `ttl` when None.

        Returns:
            Whether it was not known.

        Raises:
            UsageError: there are too many; none is given up for another one.
        """
        self._expire(now)
        until = now + self._ttl if until is None else until
        earlier = self._before.get(user)
        if earlier is not None and earlier[0] >= before and earlier[1] >= until:
            return False
        if earlier is None and len(self._before) >= MAX_REVOCATIONS:
            raise UsageError(
                f"the tokens of {MAX_REVOCATIONS:,} users are revoked already; change the key"
            )
        known = earlier is not None and earlier[0] >= before
        if earlier is not None:
            before, until = max(before, earlier[0]), max(until, earlier[1])
            del self._before[user]
        self._before[user] = (before, until)
        return not known

    def known(self, now: float) -> Iterator[tuple[str, float, float]]:
        """Yield those in force: user, before which time, and until when they are kept."""
        for user, (before, until) in self._before.items():
            if now < until:
                yield user, before, until

    def revoked(self, user: str, issued: object, now: float) -> bool:
        """Tell whether a token is revoked, by its `iat`; one without it counts as old. HOT."""
        if not self._before or user not in self._before:
            return False
        before, until = self._before[user]
        if now >= until:
            return False
        # "iat" is often in whole seconds, rounded down: in doubt the token is an old one.
        return not (isinstance(issued, int | float) and issued >= before)

    def _expire(self, now: float) -> None:
        while self._before:
            user = next(iter(self._before))
            if now < self._before[user][1]:
                return
            del self._before[user]
