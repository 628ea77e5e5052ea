"""The keys that tokens are verified with: by name, and those for tokens that name none.

Every key is for its own algorithms only, whatever a token says (RFC 8725 sections 3.1 and 3.2). A
`kid` only chooses among them.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from jwt.algorithms import HMACAlgorithm

from tidegate.core.settings import AuthSettings
from tidegate.errors import ConfigError

__all__ = [
    "MIN_RSA_BITS",
    "Key",
    "Keys",
    "NoKeyError",
    "known_algorithm",
    "load_keys",
    "read_text",
    "usable",
]

MIN_RSA_BITS = 2048
"""The shortest RSA key that tokens are verified with."""


class NoKeyError(jwt.PyJWTError):
    """A token names a key that is not known, and there is none for such tokens."""


class Key(NamedTuple):
    """One key, loaded and checked."""

    material: Any
    """What PyJWT verifies with."""
    algorithms: list[str]
    name: str
    """Which one it is, for operators."""


class Keys:
    """All keys of the settings.

    Args:
        named: those that a token may name, by `kid`.
        others: those for tokens that name no key, or one that is not known, in the order in which
            they are tried.
    """

    def __init__(self, named: Mapping[str, Key], others: Sequence[Key]) -> None:
        self._named = named
        self._others = others

    def __bool__(self) -> bool:
        return bool(self._named or self._others)

    def of(self, token: str) -> Sequence[Key]:
        """Return the keys that may have signed a token.

        Raises:
            jwt.PyJWTError: the token has no head that can be read.
        """
        if not self._named:
            return self._others
        named = self._named.get(jwt.get_unverified_header(token).get("kid", ""))
        return self._others if named is None else (named,)

    def published(self, kid: str | None) -> Sequence[Key]:
        """Return the keys of a JWK Set for a token: the one it names, or all if it names none.

        Keys of the set without a name stand for any that is not known.
        """
        if kid is None:
            return [*self._named.values(), *self._others]
        named = self._named.get(kid)
        return self._others if named is None else (named,)


def load_keys(auth: AuthSettings) -> Keys:
    """Load and check `auth.secret`, `auth.public_key` and `auth.keys`.

    Raises:
        ConfigError: a key cannot be read, or does not fit its algorithms.
    """
    named: dict[str, Key] = {}
    others: list[Key] = []
    if auth.secret is not None or auth.public_key is not None:
        others.append(usable("auth.", auth.secret, auth.public_key, auth.algorithms))
    for number, own in enumerate(auth.keys, 1):
        prefix = f"auth.keys: number {number}: "
        key = usable(prefix, own.secret, own.public_key, (own.algorithm,))
        if own.kid is None:
            others.append(key)
        else:
            named[own.kid] = key
    return Keys(named, others)


def usable(
    prefix: str, secret: str | None, public_key: str | None, algorithms: Sequence[str]
) -> Key:
    """Load and check one key; `prefix` and the name of its setting are its name in errors.

    Raises:
        ConfigError: it cannot be read, or does not fit the algorithms.
    """
    material: Any
    if secret is not None:
        name, material = f"{prefix}secret", secret
    else:
        name = f"{prefix}public_key"
        material = public_key or ""
        if "-----BEGIN" not in material:
            material = read_text(material, f"{name} is neither a public key in PEM form nor")
    for algorithm in algorithms:
        key = _prepare(name, material, algorithm)
    if secret is not None and len(algorithms) == 1:
        key = _secret(key, algorithms[0])
    return Key(key, list(algorithms), name)


def read_text(path: str, problem: str) -> str:
    """Return what a file holds.

    Args:
        problem: how the error begins: that the setting is neither this nor that.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        raise ConfigError(f"{problem} a file that can be read") from None


def known_algorithm(name: str, algorithm: str) -> Any:
    """Return PyJWT's implementation of an algorithm; `name` is that of the setting.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return jwt.get_algorithm_by_name(algorithm)
    except NotImplementedError:
        raise ConfigError(
            f"{name}: {algorithm} is not available; RS*, PS*, ES* and EdDSA need "
            "pip install 'tidegate[crypto]'"
        ) from None


def _prepare(name: str, material: str, algorithm: str) -> Any:
    known = known_algorithm(name, algorithm)
    try:
        key = known.prepare_key(material)
    except (jwt.InvalidKeyError, ValueError, TypeError):
        raise ConfigError(f"{name} is not a key for {algorithm}") from None
    # RFC 7518 sections 3.3 and 3.5. (Lengths of secrets are checked in the settings.)
    if algorithm[:2] in ("RS", "PS") and key.key_size < MIN_RSA_BITS:
        raise ConfigError(f"{name} has {key.key_size} bits; {algorithm} needs {MIN_RSA_BITS}")
    if hasattr(key, "private_bytes"):
        raise ConfigError(f"{name} holds a private key; give the public one")
    return key


def _secret(key: bytes, algorithm: str) -> jwt.PyJWK:
    """Return a secret for one algorithm that is not checked again for each token."""
    encoded = urlsafe_b64encode(key).rstrip(b"=").decode()
    secret = jwt.PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": algorithm})
    assert isinstance(secret.Algorithm, HMACAlgorithm)
    secret.Algorithm = _Prepared(secret.Algorithm.hash_alg)
    return secret


class _Prepared(HMACAlgorithm):
    """HMAC with a secret that `load_keys` has checked.

    PyJWT checks for every token whether its secret is a public key by mistake, which takes
    nearly half of the time.
    """

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key
