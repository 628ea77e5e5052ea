"""Clients that wait where none can wait on its connection: all come back with a ticket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease, Reject
    from tidegate.core.admission.positions import Status
    from tidegate.gate.decision import Away, Held, Wait

__all__ = ["TicketsOnly", "away"]


def away(wait: Wait) -> Away:
    """Return what a client is told that has to wait."""
    position: Any = wait.position  # `Gate(holds_waiting=False)` holds nobody
    away: Away = position
    return away


class TicketsOnly:
    """The waiting room's host, where no client waits on its connection (`waiting_host.Host`)."""

    def tell(self, client: Any, status: Status[Any], /) -> None:
        """Tell a client its position: there is none."""

    def admit(self, client: Any, lease: Lease, held: Held, /) -> bool:  # noqa: ARG002 - none waits
        """Give a client its lease: there is none."""
        return False

    def turn_away(self, client: Any, reject: Reject, /) -> None:
        """End the connection of a client: there is none."""

    def schedule(self, seconds: float, work: Callable[[], None], /) -> None:
        """Call `work` in so many seconds, if the loop runs; the next tick does it otherwise."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().call_later(seconds, work)
