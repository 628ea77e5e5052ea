"""Identities that an application is asked about, once the token has been checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from tidegate.core.admission.attempt import Identity, Reject
from tidegate.core.codes import Refusal

if TYPE_CHECKING:
    from tidegate.gate.decision import OpeningRequest
    from tidegate.gate.identity import Found, Identifier, Later

__all__ = ["Ask", "AskedIdentifier"]

Ask: TypeAlias = "Callable[[OpeningRequest, Identity], Coroutine[Any, Any, Found]]"


class AskedIdentifier:
    """Asks about every attempt whose token is good (`gate.identity.Identifier`).

    Args:
        ask: returns whose an attempt is, or why it is refused. It must not raise.
        tokens: returns what identifies by tokens.
    """

    def __init__(self, ask: Ask, tokens: Callable[[], Identifier]) -> None:
        self._ask = ask
        self._tokens = tokens

    def identify(self, request: OpeningRequest, /) -> Found | Later:
        """Return the promise of an identity, or why there is none."""
        found = self._tokens().identify(request)
        if isinstance(found, Identity):
            return _Asked(self._ask(request, found))
        if isinstance(found, Refusal | Reject):
            return found
        return _Asked(self._after(request, found))

    async def _after(self, request: OpeningRequest, later: Later) -> Found:
        """Ask when the token has been checked."""
        known = asyncio.get_running_loop().create_future()
        later.then(lambda: None if known.done() else known.set_result(None))
        try:
            await known
        except BaseException:
            later.cancel()
            raise
        found = later.result()
        return await self._ask(request, found) if isinstance(found, Identity) else found


class _Asked:
    """An identity that the application is asked about (`gate.identity.Later`)."""

    __slots__ = ("_task",)

    def __init__(self, work: Coroutine[Any, Any, Found]) -> None:
        self._task: asyncio.Task[Found] = asyncio.get_running_loop().create_task(work)

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it has answered, or has not in time."""
        self._task.add_done_callback(lambda _: ready())

    def result(self) -> Found:
        """Return the identity, or why there is none."""
        return self._task.result()

    def cancel(self) -> None:
        """Nobody waits any longer."""
        self._task.cancel()
