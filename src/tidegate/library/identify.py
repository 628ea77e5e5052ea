"""Who an attempt belongs to, by a function of yours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from tidegate.core.admission.attempt import ANONYMOUS, Claims, Identity, Reject
from tidegate.core.codes import KEYS_UNAVAILABLE, UNAUTHORIZED, Refusal
from tidegate.engine.tasks import is_awaitable
from tidegate.errors import Refused, UsageError
from tidegate.gate.decision import OpeningRequest
from tidegate.gate.refused import refused, reject_of, rejected
from tidegate.gate.tokens import MAX_PRIORITY, MAX_TIER
from tidegate.library.arguments import check_handler
from tidegate.library.request import Request
from tidegate.library.timing import Watch
from tidegate.wire.messages import MAX_USER, is_name

if TYPE_CHECKING:
    from tidegate.core.settings import AuthSettings
    from tidegate.gate.identity import Found, Identifier, Later

__all__ = ["Answer", "IdentifyHandler", "Identifying", "check_identity"]

Answer: TypeAlias = Identity | Refused | str | None
"""What such a function returns: an identity, the name of a user, None for nobody, or a refusal."""

IdentifyHandler: TypeAlias = Callable[[Request], Awaitable[Answer] | Answer]


class Identifying:
    """Asks your function, or else reads the token (`gate.identity.Identifier`).

    Args:
        tokens: returns what identifies by tokens.
    """

    def __init__(self, auth: AuthSettings, tokens: Callable[[], Identifier]) -> None:
        self._anonymous = auth.anonymous
        self._query_token = auth.query_token
        self._tokens = tokens
        self._handler: Callable[[Request], Any] | None = None

    def use(self, handler: IdentifyHandler) -> None:
        """Ask this function from now on.

        Raises:
            TypeError: it is no function of one request.
            UsageError: there is one already.
        """
        check_handler("identify", handler, "request")
        if self._handler is not None:
            raise UsageError("identify is set already; a server has one such function")
        self._handler = Watch().over("identify", handler)

    def identify(self, request: OpeningRequest, /) -> Found | Later:
        """Return who an attempt belongs to, or the promise of it."""
        if self._handler is None:
            return self._tokens().identify(request)
        try:
            answer = self._handler(self._seen(request))
        except Refused as refusal:
            answer = refusal
        if is_awaitable(answer):
            return _Promise(answer, self._found)
        return self._found(answer)

    def by_token(self, request: Request) -> Identity:
        """Return who a request belongs to by its token.

        Raises:
            Refused: the token is not valid, or there is none and there must be one; or the keys
                of its issuer are being fetched, and the client is to come back in a second.
        """
        opening = OpeningRequest(request.address, request.path, token=request.token)
        found = self._tokens().identify(opening)
        if isinstance(found, Identity):
            return found
        if isinstance(found, Refusal):
            raise refused(found)
        if isinstance(found, Reject):
            raise rejected(found)
        found.cancel()
        raise refused(KEYS_UNAVAILABLE, retry_after=1)

    def _seen(self, request: OpeningRequest) -> Request:
        return Request(
            "GET",
            request.path,
            request.query,
            request.headers or {},
            request.address,
            query_token=self._query_token,
        )

    def _found(self, answer: object) -> Found:
        """Check what the function returned: it may come from anywhere."""
        if isinstance(answer, Refused):
            return reject_of(answer)
        if isinstance(answer, str):
            answer = Identity(answer)
        elif answer is None:
            answer = ANONYMOUS
        elif not isinstance(answer, Identity):
            raise TypeError(
                "identify must return an Identity, the name of a user, None or refuse(...),"
                f" not {type(answer).__name__}"
            )
        check_identity(answer)
        if answer.user is None and not self._anonymous:
            return Reject(UNAUTHORIZED, UNAUTHORIZED.retry_after)
        return answer


def check_identity(identity: Identity) -> None:
    """Raise unless an identity could be that of a token too: names are counted, shown, logged."""
    user, tier, priority = identity.user, identity.tier, identity.priority
    if user is not None and not (isinstance(user, str) and is_name(user, MAX_USER)):
        raise UsageError(f"a user must be 1 to {MAX_USER} characters, none of control")
    if tier is not None and not (isinstance(tier, str) and is_name(tier, MAX_TIER)):
        raise UsageError(f"a tier must be 1 to {MAX_TIER} characters, none of control")
    if type(priority) is not int or not 0 <= priority <= MAX_PRIORITY:
        raise UsageError(f"a priority must be an int from 0 to {MAX_PRIORITY}")
    if identity.expires_at is not None and type(identity.expires_at) not in (int, float):
        raise UsageError("expires_at must be Unix seconds, or None")
    if identity.claims is not None and not isinstance(identity.claims, Claims):
        raise UsageError("claims must be made by tidegate.claims(), or None")


class _Promise:
    """An identity that an async function finds out (`gate.identity.Later`)."""

    __slots__ = ("_found", "_task")

    def __init__(self, work: Awaitable[object], found: Callable[[object], Found]) -> None:
        self._task = asyncio.ensure_future(work)
        self._found = found

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it is known."""
        self._task.add_done_callback(lambda _: ready())

    def result(self) -> Found:
        """Return it. Raises what the function raised."""
        try:
            return self._found(self._task.result())
        except Refused as refusal:
            return reject_of(refusal)
        except asyncio.CancelledError:  # by itself: nobody else has ended it
            raise UsageError("identify was cancelled by what it called") from None

    def cancel(self) -> None:
        """Stop: nobody waits for it."""
        self._task.cancel()
