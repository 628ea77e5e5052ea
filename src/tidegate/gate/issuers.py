"""Issuers of tokens: each accepts its own keys, algorithms and audience only (RFC 8725 3.8)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import jwt

from tidegate.core.settings import AuthIssuer, AuthSettings
from tidegate.errors import ConfigError
from tidegate.gate.jwks import Fetch, KeySet, parse_jwks
from tidegate.gate.keys import Key, NoKeyError, known_algorithm, load_keys, read_text, usable

__all__ = ["Issuer", "KeySource", "Loaded", "issuers_of", "load", "unverified_issuer"]


class KeySource(Protocol):
    """Has the keys of one issuer."""

    def of(self, token: str) -> Sequence[Key]:
        """Return the keys that may have signed a token."""


class Loaded(NamedTuple):
    """The keys that settings give or name a file of, read and checked."""

    own: KeySource | None
    """Those of the section `auth` itself, None if it has none."""
    others: Mapping[str, KeySource | None]
    """Those of `auth.issuers`, None where they are at a URL."""


class Issuer:
    """Verifies the tokens of one issuer.

    Args:
        issuer: what "iss" must be, None for anything.
        audience: what "aud" must contain, None for anything.
    """

    def __init__(
        self, keys: KeySource, issuer: str | None, audience: str | None, leeway: float
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._jwt = jwt.PyJWT(
            {
                "require": ["sub"],
                # RFC 7519 section 4.1.6 gives iat no rule by which to refuse a token, and an
                # issuer whose clock is a second ahead is no attack.
                "verify_iat": False,
                "verify_aud": audience is not None,
            }
        )

    def verified(self, token: str) -> tuple[dict[str, Any], Key]:
        """Return the claims, and the key that has signed them.

        Raises:
            jwt.PyJWTError: no key that may have signed the token has.
            KeysWanted: it is not known yet.
            KeysUnavailable: it cannot be known at present.
        """
        wrong: jwt.PyJWTError = NoKeyError()
        for key in self.keys.of(token):
            try:
                claims: dict[str, Any] = self._jwt.decode(
                    token,
                    key.material,
                    algorithms=key.algorithms,
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=self._leeway,
                )
            except jwt.InvalidSignatureError as error:
                wrong = error
            except jwt.InvalidAlgorithmError as error:
                # What is wrong with the signature says more, where there is a key of the algorithm.
                wrong = wrong if isinstance(wrong, jwt.InvalidSignatureError) else error
            else:
                return claims, key
        raise wrong


def load(auth: AuthSettings) -> Loaded:
    """Read and check the keys of all issuers.

    Raises:
        ConfigError: a key cannot be read, or does not fit its algorithms; or what its use needs
            is not installed.
    """
    keys = load_keys(auth)
    others: dict[str, KeySource | None] = {}
    for number, issuer in enumerate(auth.issuers, 1):
        others[issuer.issuer] = _load(f"auth.issuers: number {number}: ", issuer)
    return Loaded(keys or None, others)


def _load(prefix: str, issuer: AuthIssuer) -> KeySource | None:
    if issuer.jwks is None:
        return _One(usable(prefix, issuer.secret, issuer.public_key, issuer.algorithms))
    name = f"{prefix}jwks"
    for algorithm in issuer.algorithms:
        known_algorithm(name, algorithm)
    if issuer.jwks_url is not None:
        try:
            # Now, because it takes long and the loop must not wait for it.
            import_module("httpx2")
            import_module("httpcore2")
        except ImportError:
            raise ConfigError(f"{name}: a URL needs pip install 'tidegate[http]'") from None
        return None
    text = read_text(issuer.jwks, f"{name} is neither a URL nor")
    try:
        keys = parse_jwks(text, issuer.algorithms)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    return _Published(keys.published)


def issuers_of(
    auth: AuthSettings,
    loaded: Loaded,
    before: Mapping[str, Issuer],
    fetch: Fetch | None,
    clock: Callable[[], float],
) -> dict[str, Issuer]:
    """Make the issuers of `auth.issuers`, by name.

    Args:
        before: those that were in force; keys that were fetched from the same URL are kept.
        fetch: how to fetch keys; without it, issuers with a URL accept no token.
    """
    kept = {
        (issuer.keys.url, issuer.keys.algorithms): issuer.keys
        for issuer in before.values()
        if isinstance(issuer.keys, KeySet)
    }
    made: dict[str, Issuer] = {}
    for one in auth.issuers:
        keys = loaded.others[one.issuer]
        if keys is None and fetch is not None and one.jwks_url is not None:
            keys = kept.get((one.jwks_url, one.algorithms))
            if keys is None:
                keys = KeySet(one.jwks_url, one.algorithms, fetch, clock)
        if keys is not None:
            made[one.issuer] = Issuer(keys, one.issuer, one.audience, auth.leeway)
    return made


def unverified_issuer(token: str) -> str | None:
    """Return who a token says has issued it, which nothing has verified.

    Raises:
        jwt.PyJWTError: it is malformed.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, IndexError, RecursionError):
        raise jwt.DecodeError from None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None


class _One:
    """An issuer with one key, whatever its tokens name."""

    def __init__(self, key: Key) -> None:
        self._keys = (key,)

    def of(self, token: str) -> Sequence[Key]:  # noqa: ARG002 - the same for all
        return self._keys


class _Published:
    """An issuer whose JWK Set is in a file."""

    def __init__(self, find: Callable[[str | None], Sequence[Key]]) -> None:
        self._find = find

    def of(self, token: str) -> Sequence[Key]:
        return self._find(jwt.get_unverified_header(token).get("kid"))
