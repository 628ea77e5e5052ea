"""Attempts that are not decided about at once.

Parked      the gate's decision is pending
Negotiated  admitted, and the application has not answered yet
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Protocol

from tidegate.wire.handshake import accept_response

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.codes import Refusal
    from tidegate.engine.application import Negotiation
    from tidegate.engine.door import Grant, Undecided
    from tidegate.gate.decision import Decision, Pending
    from tidegate.node.rendering import Terms

__all__ = ["Negotiated", "Parked", "Renderer"]

_log = logging.getLogger("tidegate")


class Renderer(Protocol):
    """What turns decisions into bytes, and gives back what an attempt has taken: the door."""

    def render(
        self, decision: Decision | Pending, terms: Terms, wall: float
    ) -> Grant | bytes | Undecided:
        """Return a decision as the engine wants it."""

    def undecidable(self, error: Exception, terms: Terms) -> bytes:
        """Log why a decision failed, and return the refusal."""

    def give_back(self, lease: Lease) -> None:
        """Release the lease of an attempt that becomes no connection."""

    def given_up(self, terms: Terms, reason: Refusal) -> bytes:
        """Return the refusal of an attempt that was not decided about in time."""


class Parked:
    """An attempt whose decision is pending (engine.door.Undecided)."""

    __slots__ = ("_door", "_pending", "_terms")

    @property
    def address(self) -> str:
        """The client's own address, behind any proxy."""
        return self._terms.attempt.address

    def __init__(self, door: Renderer, pending: Pending, terms: Terms) -> None:
        self._door = door
        self._pending = pending
        self._terms = terms

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when `decide` has something to say."""
        self._pending.then(ready)

    def decide(self, now: float, /) -> Grant | bytes | Undecided:
        """Return what `Door.decide` returns."""
        wall = time()
        try:
            decision = self._pending.decide(now, wall)
        except Exception as error:
            return self._door.undecidable(error, self._terms)
        return self._door.render(decision, self._terms, wall)

    def refuse(self, reason: Refusal, /) -> bytes:
        """Give up, and return the response that says why."""
        self.cancel()
        return self._door.given_up(self._terms, reason)

    def cancel(self) -> None:
        """Give up, because the client has left. An error of the application's is logged."""
        try:
            self._pending.cancel()
        except Exception as error:
            _log.error("a decision could not be cancelled", exc_info=error)


class Negotiated:
    """An attempt with a lease that the application has not answered yet (engine.door.Undecided)."""

    __slots__ = ("_door", "_granted", "_said", "_terms")

    def __init__(self, door: Renderer, said: Negotiation, granted: Grant, terms: Terms) -> None:
        self._door = door
        self._said = said
        self._granted = granted
        self._terms = terms

    @property
    def address(self) -> str:
        """The client's own address."""
        return self._terms.attempt.address

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when the application has answered."""
        self._said.then(ready)

    def decide(self, now: float, /) -> Grant | bytes:  # noqa: ARG002 - it is decided already
        """Return the grant with what the application agreed to, or its refusal."""
        terms, granted = self._terms, self._granted
        try:
            answer = self._said.answer()
            if isinstance(answer, bytes):
                self._door.give_back(granted.lease)
                return answer
            # What the application agrees to counts; `NEUTRAL_V1` it need not know.
            subprotocol = answer.subprotocol or terms.subprotocol
            response = accept_response(terms.key, subprotocol, terms.extension, answer.headers)
        except Exception as error:
            self.cancel()
            return self._door.undecidable(error, terms)
        return granted._replace(response=response, subprotocol=subprotocol, context=self._said)

    def refuse(self, reason: Refusal, /) -> bytes:
        """Give up, and return the response that says why."""
        self.cancel()
        return self._door.given_up(self._terms, reason)

    def cancel(self) -> None:
        """Give up, because the client has left."""
        self._door.give_back(self._granted.lease)
        try:
            self._said.cancel()
        except Exception as error:
            _log.error("an attempt could not be cancelled", exc_info=error)
