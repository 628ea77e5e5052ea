"""Who an attempt belongs to, where that comes with the attempt: a value, or a function to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tidegate.core.admission.attempt import Identity
from tidegate.gate.decision import OpeningRequest
from tidegate.gate.identity import Found

if TYPE_CHECKING:
    from tidegate.gate.identity import Identifier, Later

__all__ = ["Asking", "Found", "IdentifiedRequest", "Identify"]

Identify: TypeAlias = Callable[[], Awaitable[Found]]


@dataclass(slots=True)
class IdentifiedRequest(OpeningRequest):
    """A request with what says who it belongs to."""

    identify: Identity | Identify | None = None

    @classmethod
    def of(cls, request: OpeningRequest, identify: Identity | Identify) -> IdentifiedRequest:
        """Return a request with what says who it belongs to."""
        values = {name: getattr(request, name) for name in OpeningRequest.__slots__}
        return cls(**values, identify=identify)


class Asking:
    """Asks what came with the request, or else another identifier."""

    def __init__(self, otherwise: Identifier) -> None:
        self._otherwise = otherwise

    def identify(self, request: OpeningRequest, /) -> Found | Later:
        """Return who an attempt belongs to, or the promise of it."""
        identify = request.identify if isinstance(request, IdentifiedRequest) else None
        if identify is None:
            return self._otherwise.identify(request)
        return identify if isinstance(identify, Identity) else _Promise(identify())


class _Promise:
    """An identity that an async function finds out (`gate.identity.Later`)."""

    def __init__(self, work: Awaitable[Found]) -> None:
        self._task = asyncio.ensure_future(work)

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it is known."""
        self._task.add_done_callback(lambda _: ready())

    def result(self) -> Found:
        """Return it. Raises what the function raised."""
        return self._task.result()

    def cancel(self) -> None:
        """Stop: nobody waits for it."""
        self._task.cancel()
