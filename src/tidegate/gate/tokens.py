"""Tokens: from JSON Web Tokens (RFC 7519) to identities, and where a request carries one.

Algorithms come from the settings, never from the token (RFC 8725 section 3.1). Neither errors
nor their causes contain the token or a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import jwt
from jwt.exceptions import InvalidSubjectError

from tidegate.core.admission.attempt import Identity
from tidegate.core.admission.revocations import Revocations
from tidegate.core.settings import AuthSettings
from tidegate.core.settings.fields import shown
from tidegate.errors import PeerError, UsageError
from tidegate.gate.claims import claims_of, wrong_room_claim
from tidegate.gate.issuers import Issuer, Loaded, issuers_of, load, unverified_issuer
from tidegate.gate.jwks import Fetch
from tidegate.gate.keys import NoKeyError
from tidegate.wire.codecs import TOKEN_PREFIX
from tidegate.wire.messages import MAX_TOKEN, MAX_USER, is_name

__all__ = [
    "MAX_PRIORITY",
    "MAX_TIER",
    "QUERY_KEY",
    "Authenticator",
    "Checked",
    "Unauthorized",
    "create_token",
    "token_of",
]

MAX_TIER = 64
"""The longest name of a tier in a token, in characters."""
MAX_PRIORITY = 100
"""The highest priority that a token may give; the lowest is 0."""
QUERY_KEY = "token"
"""The query parameter that holds a token, where that is switched on."""


class _UnknownIssuerError(jwt.PyJWTError):
    """A token names no issuer of the settings."""


_DETAILS: Mapping[type[jwt.PyJWTError], str] = {
    NoKeyError: "it names no key that is known (kid), and auth.secret is not set",
    _UnknownIssuerError: "its issuer (iss) is none of auth.issuers",
    jwt.ExpiredSignatureError: "its end (exp) is in the past",
    jwt.ImmatureSignatureError: "it is not valid yet (nbf)",
    jwt.InvalidSignatureError: "the signature does not match",
    jwt.InvalidAlgorithmError: "its algorithm is not that of the key, or not in auth.algorithms",
    jwt.InvalidIssuerError: "the issuer (iss) is not auth.issuer",
    jwt.InvalidAudienceError: "the audience (aud) is not auth.audience",
    InvalidSubjectError: "the user (sub) is not a string",
    jwt.MissingRequiredClaimError: "a claim is missing (sub, or iss or aud when they are set)",
}


class Unauthorized(PeerError):  # noqa: N818 - says what the peer is
    """A token is not accepted: refuse the attempt, or close the connection.

    The text is for the peer. `detail` is for the operator: it says exactly what is wrong, which
    would help an attacker more than a client. Neither contains anything of the token.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class Checked(NamedTuple):
    """What a valid token holds, and what it was verified with, for operators."""

    claims: Mapping[str, Any]
    key: str
    issuer: str | None
    """The issuer of `auth.issuers`, None for one of the section `auth` itself."""


class Authenticator:
    """Verifies tokens by the settings.

    Args:
        auth: which tokens are accepted.
        tiers: the names of the tiers that the settings know. A token of one of them gives its
            identity the same string; any other tier is kept as the token says it.
        fetch: fetches the keys of issuers that publish them at a URL. Without it, their tokens
            are not accepted.
        clock: the monotonic time, for when keys are fetched again.
        wall: the Unix time, for revocations.

    Raises:
        ConfigError: a key cannot be read, or does not fit the algorithms.
    """

    def __init__(
        self,
        auth: AuthSettings,
        tiers: Iterable[str] = (),
        fetch: Fetch | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        # All connections of a tier share one string.
        self._tiers = {name: name for name in tiers}
        self._fetch = fetch
        self._clock = clock
        self._wall = wall
        self._issuers: dict[str, Issuer] = {}
        self.revocations = Revocations(auth.revocation_ttl)
        """The users whose tokens are not accepted any more."""
        self.apply(auth, load(auth))

    def apply(self, auth: AuthSettings, loaded: Loaded) -> None:
        """Take over other settings, with the keys that `load` returned for them.

        Connections that are open keep the identity that their token gave them.
        """
        self._leeway = auth.leeway
        self._own = (
            None
            if loaded.own is None
            else Issuer(loaded.own, auth.issuer, auth.audience, auth.leeway)
        )
        self._issuers = issuers_of(auth, loaded, self._issuers, self._fetch, self._clock)
        self.revocations.apply(auth.revocation_ttl)

    def identify(self, token: str) -> Identity:
        """Return the identity that a valid token stands for.

        Its `expires_at` is in Unix seconds and includes the leeway.

        Raises:
            Unauthorized: the token is not accepted.
            KeysWanted: the keys of its issuer are being fetched; ask again then.
            KeysUnavailable: they cannot be fetched at present.
        """
        claims = self.check(token).claims
        if self.revocations.revoked(claims["sub"], claims.get("iat"), self._wall()):
            raise Unauthorized("token not valid", "the tokens of its user (sub) are revoked")
        tier = claims.get("tier")
        expiry = claims.get("exp")
        return Identity(
            user=claims["sub"],
            tier=None if tier is None else self._tiers.get(tier, tier),
            priority=int(claims.get("priority", 0)),
            expires_at=None if expiry is None else float(expiry) + self._leeway,
            claims=claims_of(claims),
        )

    def check(self, token: str) -> Checked:
        """Return what a valid token holds, whether or not it was revoked.

        Raises:
            Unauthorized, KeysWanted, KeysUnavailable: as `identify` does.
        """
        if self._own is None and not self._issuers:
            raise Unauthorized("tokens are not accepted here", "neither key nor secret is set")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise Unauthorized("token not valid", "it is too long, or not ASCII")
        try:
            named, issuer = self._issuer(token)
            claims, key = issuer.verified(token)
        # `from None`: the causes quote the token's header and keep its text.
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("token expired", _DETAILS[type(error)]) from None
        except jwt.PyJWTError as error:
            detail = _DETAILS.get(type(error), "it is malformed")
            raise Unauthorized("token not valid", detail) from None
        wrong = _wrong_claim(claims)
        if wrong is not None:
            raise Unauthorized("token not valid", wrong)
        return Checked(claims, key.name, named)

    def _issuer(self, token: str) -> tuple[str | None, Issuer]:
        """Return who verifies a token: the issuer that it names, or else the section `auth`."""
        if self._issuers:
            name = unverified_issuer(token)
            issuer = self._issuers.get(name or "")
            if issuer is not None:
                return name, issuer
        if self._own is None:
            raise _UnknownIssuerError
        return None, self._own


def token_of(
    headers: Mapping[str, str],
    subprotocols: Sequence[str],
    query: str,
    *,
    query_allowed: bool,
) -> str | None:
    """Return the token that a request carries, or None.

    It is looked for in this order: `Authorization: Bearer` (RFC 6750 section 2.1; header names
    in lower case), the first subprotocol `tidegate.token.<token>`, and `token` in the query if
    that is allowed. An empty token counts as one that is not valid.
    """
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    for subprotocol in subprotocols:
        if subprotocol.startswith(TOKEN_PREFIX):
            return subprotocol.removeprefix(TOKEN_PREFIX)
    if query_allowed and query:
        values = parse_qs(query, keep_blank_values=True).get(QUERY_KEY)
        if values:
            return values[0]
    return None


def create_token(
    auth: AuthSettings,
    *,
    user: str,
    tier: str | None,
    priority: int,
    lifetime_seconds: float,
    now: float,
    kid: str | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Sign a token that a gate with the same settings accepts until it ends.

    Args:
        lifetime_seconds: until its end; negative for a token that has ended already.
        now: in Unix seconds.
        kid: the key of `auth.keys` to sign with; by default that is `auth.secret`, or else the
            first of `auth.keys` that has a secret.
        more: claims about rooms: `rooms`, `join`, `info`, `operator`.

    Raises:
        UsageError: the gate would refuse these values, or the settings hold no secret to sign
            with.
    """
    secret, algorithm, kid = _signing(auth, kid)
    claims: dict[str, Any] = {"sub": user, "iat": int(now), "exp": int(now + lifetime_seconds)}
    claims.update(more)
    if tier is not None:
        claims["tier"] = tier
    if priority:
        claims["priority"] = priority
    if auth.issuer is not None:
        claims["iss"] = auth.issuer
    if auth.audience is not None:
        claims["aud"] = auth.audience
    wrong = _wrong_claim(claims)
    if wrong is not None:
        raise UsageError(wrong)
    token = jwt.encode(claims, secret, algorithm, None if kid is None else {"kid": kid})
    if len(token) > MAX_TOKEN:
        raise UsageError(f"the token has {len(token)} characters, and {MAX_TOKEN} are the most")
    return token


def _signing(auth: AuthSettings, kid: str | None) -> tuple[str, str, str | None]:
    """Return the secret to sign with, its algorithm and its name, if it has one."""
    if kid is None and auth.secret is not None:
        return auth.secret, auth.algorithms[0], None
    private = "" if auth.public_key is None else auth.algorithms[0]
    for key in auth.keys:
        if kid is not None and key.kid != kid:
            continue
        if key.secret is not None:
            return key.secret, key.algorithm, key.kid
        private = key.algorithm
    if private:
        raise UsageError(
            f"{private} tokens are signed with a private key, which Tidegate never has; "
            "create them where that key is"
        )
    if kid is not None:
        raise UsageError(f"auth.keys has no key of kid {shown(kid)}")
    raise UsageError("auth.secret is not set, so there is nothing to sign a token with")


def _wrong_claim(claims: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the claims whose meaning is Tidegate's own, or None."""
    user = claims["sub"]
    if not is_name(user, MAX_USER):
        return f"the user (sub) must have 1 to {MAX_USER} characters, none of control"
    tier = claims.get("tier")
    if tier is not None and not (isinstance(tier, str) and is_name(tier, MAX_TIER)):
        return f"the tier must be text of 1 to {MAX_TIER} characters, none of control"
    priority = claims.get("priority", 0)
    # 5.0 is a whole number too (RFC 8259 6): some languages write all numbers so.
    whole = type(priority) is int or (type(priority) is float and priority.is_integer())
    if not whole or not 0 <= priority <= MAX_PRIORITY:
        return f"the priority must be a whole number from 0 to {MAX_PRIORITY}"
    expiry = claims.get("exp")
    # PyJWT also takes digits in a string. The upper bound is what a float holds exactly.
    if expiry is not None and not (type(expiry) in (int, float) and expiry <= 2**53):
        return "the expiry (exp) must be a number of seconds"
    return wrong_room_claim(claims)
