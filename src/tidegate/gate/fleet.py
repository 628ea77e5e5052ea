"""The seam between the gate and what counts the connections of all nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease, Reject

__all__ = ["Confirmed", "Fleet"]

Confirmed: TypeAlias = "Callable[[Reject | None], None]"
"""Told once what the fleet says of a lease: None when it has counted it, else why not."""


class Fleet(Protocol):
    """Who counts the connections of all nodes."""

    def confirm(self, lease: Lease, done: Confirmed, /) -> None:
        """Count a lease of this node in the fleet; `done` is told at once or later.

        It is never told when the lease has been released before: then nothing is counted.
        """
