"""Tokens: from JSON Web Tokens (RFC 7519) to identities, and where a request carries one.

Algorithms come from the settings, never from the token (RFC 8725 section 3.1). Neither errors
nor their causes contain the token or a part of it.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidSubjectError

from tidegate.core.admission.attempt import Identity
from tidegate.core.settings import AuthSettings
from tidegate.errors import ConfigError, PeerError, UsageError
from tidegate.wire.codecs import TOKEN_PREFIX
from tidegate.wire.messages import MAX_TOKEN, MAX_USER, is_name

__all__ = [
    "MAX_PRIORITY",
    "MAX_TIER",
    "MIN_RSA_BITS",
    "QUERY_KEY",
    "Authenticator",
    "Unauthorized",
    "check_token",
    "create_token",
    "load_key",
    "token_of",
]

MAX_TIER = 64
"""The longest name of a tier in a token, in characters."""
MAX_PRIORITY = 100
"""The highest priority that a token may give; the lowest is 0."""
MIN_RSA_BITS = 2048
"""The shortest RSA key that tokens are verified with."""
QUERY_KEY = "token"
"""The query parameter that holds a token, where that is switched on."""

_DETAILS: Mapping[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet (nbf)",
    jwt.InvalidSignatureError: "the signature does not match",
    jwt.InvalidAlgorithmError: "its algorithm is not one of auth.algorithms",
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


class Authenticator:
    """Verifies tokens by the settings, with keys that are loaded once.

    Args:
        auth: which tokens are accepted.
        tiers: the names of the tiers that the settings know. A token of one of them gives its
            identity the same string; any other tier is kept as the token says it.

    Raises:
        ConfigError: a key cannot be read, or does not fit the algorithms.
    """

    def __init__(self, auth: AuthSettings, tiers: Iterable[str] = ()) -> None:
        self._auth = auth
        # All connections of a tier share one string.
        self._tiers = {name: name for name in tiers}
        self._algorithms = list(auth.algorithms)
        self._key = load_key(auth)
        self._jwt = jwt.PyJWT(
            {
                "require": ["sub"],
                # RFC 7519 section 4.1.6 gives iat no rule by which to refuse a token, and an
                # issuer whose clock is a second ahead is no attack.
                "verify_iat": False,
                "verify_aud": auth.audience is not None,
            }
        )

    def apply(self, auth: AuthSettings, key: Any) -> None:
        """Take over another key, as `load_key` returned it for these settings.

        Connections that are open keep the identity that their token gave them.
        """
        self._auth = auth
        self._key = key

    def identify(self, token: str) -> Identity:
        """Return the identity that a valid token stands for.

        Its `expires_at` is in Unix seconds and includes the leeway.

        Raises:
            Unauthorized: the token is not accepted.
        """
        claims = self.claims(token)
        tier = claims.get("tier")
        expiry = claims.get("exp")
        return Identity(
            user=claims["sub"],
            tier=None if tier is None else self._tiers.get(tier, tier),
            priority=int(claims.get("priority", 0)),
            expires_at=None if expiry is None else float(expiry) + self._auth.leeway,
        )

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a valid token.

        Raises:
            Unauthorized: the token is not accepted.
        """
        if self._key is None:
            raise Unauthorized("tokens are not accepted here", "neither key nor secret is set")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise Unauthorized("token not valid", "it is too long, or not ASCII")
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._auth.audience,
                issuer=self._auth.issuer,
                leeway=self._auth.leeway,
            )
        # `from None`: the causes quote the token's header and keep its text.
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("token expired", _DETAILS[type(error)]) from None
        except jwt.PyJWTError as error:
            detail = _DETAILS.get(type(error), "it is malformed")
            raise Unauthorized("token not valid", detail) from None
        wrong = _wrong_claim(claims)
        if wrong is not None:
            raise Unauthorized("token not valid", wrong)
        return claims


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
) -> str:
    """Sign a token that a gate with the same settings accepts until it ends.

    `now` is in Unix seconds; with a negative lifetime the token has ended before it.

    Raises:
        UsageError: the gate would refuse these values, or the settings hold no secret to sign
            with.
    """
    algorithm = auth.algorithms[0]
    if not algorithm.startswith("HS"):
        raise UsageError(
            f"{algorithm} tokens are signed with a private key, which Tidegate never has; "
            "create them where that key is"
        )
    if auth.secret is None:
        raise UsageError("auth.secret is not set, so there is nothing to sign a token with")
    claims: dict[str, Any] = {"sub": user, "iat": int(now), "exp": int(now + lifetime_seconds)}
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
    return jwt.encode(claims, auth.secret, algorithm)


def check_token(auth: AuthSettings, token: str) -> Mapping[str, Any]:
    """Return the claims of a token that a gate with these settings accepts now.

    Raises:
        Unauthorized: the token is not accepted; `detail` says what is wrong.
        ConfigError: a key cannot be read, or does not fit the algorithms.
    """
    return Authenticator(auth).claims(token)


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
    return None


def load_key(auth: AuthSettings) -> Any:
    """Return what PyJWT verifies with, ready for use; None when no tokens are accepted.

    Raises:
        ConfigError: the key cannot be read, or does not fit the algorithms.
    """
    symmetric = auth.algorithms[0].startswith("HS")
    material = auth.secret if symmetric else auth.public_key
    if material is None:
        return None
    setting = "auth.secret" if symmetric else "auth.public_key"
    if not symmetric and "-----BEGIN" not in material:
        try:
            material = Path(material).read_text(encoding="ascii")
        except (OSError, ValueError):
            raise ConfigError(
                f"{setting} is neither a public key in PEM form nor a file that can be read"
            ) from None
    key: Any = None
    for name in auth.algorithms:
        try:
            algorithm = jwt.get_algorithm_by_name(name)
        except NotImplementedError:
            raise ConfigError(
                f"auth.algorithms: {name} is not available; RS*, PS*, ES* and EdDSA need "
                "`pip install tidegate[crypto]`"
            ) from None
        try:
            key = algorithm.prepare_key(material)
        except (jwt.InvalidKeyError, ValueError, TypeError):
            raise ConfigError(f"{setting} is not a key for {name}") from None
        # RFC 7518 sections 3.3 and 3.5. (Lengths of secrets are checked in the settings.)
        if name[:2] in ("RS", "PS") and key.key_size < MIN_RSA_BITS:
            raise ConfigError(f"{setting} has {key.key_size} bits; {name} needs {MIN_RSA_BITS}")
    if hasattr(key, "private_bytes"):
        raise ConfigError(f"{setting} holds a private key; give the public one")
    if symmetric and len(auth.algorithms) == 1:
        return _secret(key, auth.algorithms[0])
    return key


def _secret(key: bytes, algorithm: str) -> jwt.PyJWK:
    """Return a secret for one algorithm that is not checked again for each token."""
    encoded = urlsafe_b64encode(key).rstrip(b"=").decode()
    secret = jwt.PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": algorithm})
    assert isinstance(secret.Algorithm, HMACAlgorithm)
    secret.Algorithm = _Prepared(secret.Algorithm.hash_alg)
    return secret


class _Prepared(HMACAlgorithm):
    """HMAC with a secret that `load_key` has checked.

    PyJWT checks for every token whether its secret is a public key by mistake, which takes
    nearly half of the time.
    """

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key
