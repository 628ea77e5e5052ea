"""Who an attempt belongs to: the seam, and the identifier that reads tokens.

Replace the `Identifier` to ask somebody else, such as your application or a service. One that has
to wait for an answer returns a `Later`, and the decision about the attempt is pending until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tidegate.core.admission.attempt import ANONYMOUS, Identity, Reject
from tidegate.core.codes import KEYS_UNAVAILABLE, UNAUTHORIZED, Refusal
from tidegate.gate.jwks import KeysUnavailable, KeysWanted
from tidegate.gate.tokens import Authenticator, Unauthorized

if TYPE_CHECKING:
    from tidegate.core.settings import AuthSettings
    from tidegate.gate.decision import OpeningRequest
    from tidegate.gate.jwks import KeySet

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

    def identify(self, request: OpeningRequest, /) -> Found | Later:
        """Return the identity that the token stands for, `ANONYMOUS`, or why there is none.

        It is a `Later` while the keys of the token's issuer are being fetched.
        """
        if request.token is None:
            if self._anonymous or (request.in_band and self._first_message):
                return ANONYMOUS
            return UNAUTHORIZED
        try:
            return self._by_token(request.token)
        except KeysWanted as wanted:
            return _ByFetchedKeys(self._by_token, request.token, wanted.keys)

    def _by_token(self, token: str) -> Found:
        try:
            return self._authenticator.identify(token)
        except Unauthorized:
            return UNAUTHORIZED
        except KeysUnavailable as error:
            return Reject(KEYS_UNAVAILABLE, error.retry_after)


class _ByFetchedKeys:
    """The identity of a token whose keys are being fetched (`Later`)."""

    __slots__ = ("_by_token", "_keys", "_ready", "_token")

    def __init__(self, by_token: Callable[[str], Found], token: str, keys: KeySet) -> None:
        self._by_token = by_token
        self._token = token
        self._keys = keys
        self._ready: Callable[[], None] | None = None

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when the fetch is over."""
        self._ready = ready
        self._keys.then(ready)

    def result(self) -> Found:
        """Check the token again, with the keys that there are now."""
        try:
            return self._by_token(self._token)
        except KeysWanted:  # the settings have changed since
            return KEYS_UNAVAILABLE

    def cancel(self) -> None:
        """Nobody waits any longer; the keys are good for the next one."""
        if self._ready is not None:
            self._keys.forget(self._ready)
