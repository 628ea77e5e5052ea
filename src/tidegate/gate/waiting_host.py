"""The seam between the clients that wait and who has their connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease, Reject
    from tidegate.core.admission.positions import Status
    from tidegate.gate.decision import Held

__all__ = ["Host"]

_C = TypeVar("_C", contravariant=True)


class Host(Protocol[_C]):
    """Who has the connections on which clients wait. No method may raise."""

    def tell(self, client: _C, status: Status[Any], /) -> None:
        """Tell a client its position."""

    def admit(self, client: _C, lease: Lease, held: Held, /) -> bool:
        """Give a client its lease; False if it is gone, and the lease goes to the next one."""

    def turn_away(self, client: _C, reject: Reject, /) -> None:
        """End a connection whose client waits no longer. Nothing more is done for it here."""

    def schedule(self, seconds: float, work: Callable[[], None], /) -> None:
        """Call `work` in so many seconds; 0.0 is soon, but not at once."""
