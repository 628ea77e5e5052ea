"""Where the token comes from."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

__all__ = ["TokenSource", "Tokens", "is_offerable"]

TokenSource: TypeAlias = str | Callable[[], str | Awaitable[str | None] | None] | None
"""A token, or a function or coroutine function that returns one. None is for anonymous."""

# What a subprotocol may consist of (RFC 6455 4.1, RFC 9110 5.6.2).
_OFFERABLE: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


def is_offerable(text: str) -> bool:
    """Whether a text can be sent in the list of subprotocols."""
    return _OFFERABLE(text) is not None


class Tokens:
    """The token of a client. It is asked for when there is none, and kept over reconnects."""

    def __init__(self, source: TokenSource) -> None:
        """Nothing is asked for yet."""
        self._source = source
        self._present: str | None = None
        self.renewed = False
        """Whether the present one was asked for because the server had refused the one before."""

    @property
    def renewable(self) -> bool:
        """Whether there is a function to ask."""
        return callable(self._source)

    async def get(self) -> str | None:
        """Return the token, which is asked for if there is none. Raises what the function does."""
        return self._present or await self.ask()

    async def ask(self) -> str | None:
        """Ask for a new token; the one before is kept if there is none."""
        answer = self._source() if callable(self._source) else self._source
        token = await answer if inspect.isawaitable(answer) else answer
        if not isinstance(token, str | None):
            raise TypeError(f"token: a text or None, not {type(token).__name__}")
        self._present = token or self._present
        return token or None

    def renew(self) -> None:
        """The server has refused the token: ask for another one, once."""
        self.renewed = True
        self._present = None

    def forget(self) -> None:
        """The next connection asks anew."""
        self.renewed = False
        self._present = None
