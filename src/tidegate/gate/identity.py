"""Who an attempt belongs to: the seam, and the identifier that reads tokens.

Replace the `Identifier` to ask somebody else, such as your application or a service. One that has
to wait for an answer returns a `Later`, and the decision about the attempt is pending until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tidegate.core.admission.attempt import ANONYMOUS, Identity, Reject
from tidegate.core.codes import UNAUTHORIZED, Refusal
from tidegate.gate.tokens import Authenticator, Unauthorized

if TYPE_CHECKING:
    from tidegate.core.settings import AuthSettings
    from tidegate.gate.decision import OpeningRequest

__all__ = ["Found", "Identifier", "Later", "TokenIdentifier"]

Found: TypeAlias = Identity | Refusal | Reject
"""Who an attempt belongs to, or why it is refused; a `Reject` has a delay of its own."""


class Later(Protocol):
    """An identity that is not known yet. It ends with one `result` or one `cancel`."""

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` once, in the same thread, as soon as `result` has something to say."""

    def result(self) -> Found:
        """Return the identity, or why there is none. Raises what the application raised."""

    def cancel(self) -> None:
        """Stop: nobody waits for the result any longer."""


class Identifier(Protocol):
    """Says who an attempt belongs to, before any limit is looked at."""

    def identify(self, request: OpeningRequest, /) -> Found | Later:
        """Return the identity, why the attempt is refused, or a promise of one of them."""


class TokenIdentifier:
    """Identifies by the token of the request; without one the attempt is anonymous.

    Where anonymous clients are not allowed, those that can be told things in-band may still show
    their token in a first message (`auth.first_message`).
    """

    def __init__(self, auth: AuthSettings, authenticator: Authenticator) -> None:
        self._anonymous = auth.anonymous
        self._first_message = auth.first_message
        self._authenticator = authenticator

    def identify(self, request: OpeningRequest, /) -> Identity | Refusal:
        """Return the identity that the token stands for, `ANONYMOUS`, or `UNAUTHORIZED`."""
        if request.token is None:
            if self._anonymous or (request.in_band and self._first_message):
                return ANONYMOUS
            return UNAUTHORIZED
        try:
            return self._authenticator.identify(request.token)
        except Unauthorized:
            return UNAUTHORIZED
