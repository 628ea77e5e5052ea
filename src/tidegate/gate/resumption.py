"""The seam between the gate and what keeps sessions: attempts that come back to a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.core.admission.attempt import Identity, Lease, Reject

__all__ = ["Fetching", "Resumed", "Resumption"]


class Resumed(NamedTuple):
    """What an attempt gets that resumes a session."""

    lease: Lease
    """That of the session, held all the time; a new one where it comes from another node."""
    number: int | None
    """That of its connection; None where it comes from another node, and gets a new one."""
    session: Any
    """What the keeper of sessions wants back with the connection; it means nothing to the gate."""


class Fetching(Protocol):
    """A session that comes from another node."""

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it is known what became of it."""

    def cancel(self) -> None:
        """Nobody waits any longer."""


class Resumption(Protocol):
    """Who keeps sessions."""

    def known(self, text: str, /) -> bool:
        """Whether what an attempt shows is a session that can be resumed."""

    def fetch(self, text: str, /) -> Fetching | None:
        """Get a session from another node, which takes a while; None when there is none to get.

        What becomes of it is no result of its own: `resume` and `moved` know.
        """

    def moved(self, text: str, lease: Lease, /) -> Resumed | None:
        """Take up a session that came from another node, for an attempt that has its own lease."""

    def resume(self, text: str, identity: Identity, address: str, /) -> Resumed | Reject | None:
        """Take a session up, or say why not; None when the attempt is to be treated as a new one.

        An attempt that gets one becomes a connection.
        """
