"""The published keys of an issuer: a JWK Set (RFC 7517), from a file or fetched from a URL.

    unknown --token--> fetching --keys--> known --max-age over--> known, and fetching
                          |                                          |
                          +--failure--> unavailable, for a while     +--failure--> the old keys stay

Nothing is fetched before a token names the issuer. A token whose key is not known asks for the keys
at most once in `COOLDOWN` seconds, so that invented names cause no flood of requests.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Final, NamedTuple, TypeAlias

import jwt

from tidegate.gate.keys import MIN_RSA_BITS, Key, Keys, NoKeyError

__all__ = [
    "COOLDOWN",
    "Fetch",
    "Fetched",
    "KeySet",
    "KeysUnavailable",
    "KeysWanted",
    "parse_jwks",
]

_log = logging.getLogger("tidegate")

COOLDOWN: Final = 30.0
"""Seconds after a successful fetch in which an unknown name of a key causes no other one."""
_RETRY: Final = 5.0  # after one that failed
_GIVEN_UP: Final = 30.0  # a fetch that says nothing by then is lost with its loop
_MAX_AGE: Final = 300.0  # where the response names none
_LEAST_AGE: Final = 60.0
_MOST_AGE: Final = 86_400.0
_MAX_KEYS: Final = 100

_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDWARDS: Final = ("Ed25519", "Ed448")


class Fetched(NamedTuple):
    """What a fetch brought: the body, None if it failed, and then what the problem was."""

    body: bytes | None
    max_age: float | None = None
    """Seconds for which the body is good (RFC 9111 section 5.2.2.1), None if it does not say."""
    problem: str = ""


Fetch: TypeAlias = Callable[[str, Callable[[Fetched], None]], None]
"""Begins to fetch a URL. The function is called once, later, in the same thread."""


class KeysWanted(Exception):  # noqa: N818 - it is no error: ask again later
    """The keys for a token are being fetched: use `keys.then`, and check the token again."""

    def __init__(self, keys: KeySet) -> None:
        super().__init__("the keys are being fetched")
        self.keys = keys


class KeysUnavailable(Exception):  # noqa: N818 - it says what is
    """The keys for a token could not be fetched; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("the keys of the issuer cannot be fetched at present")
        self.retry_after = retry_after


class KeySet:
    """The keys of one URL, as they were fetched last.

    Args:
        algorithms: those that its keys may be for.
        clock: the monotonic time.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        fetch: Fetch,
        clock: Callable[[], float],
    ) -> None:
        self.url = url
        self.algorithms = tuple(algorithms)
        self._fetch = fetch
        self._clock = clock
        self._keys: Keys | None = None
        self._due = 0.0  # from then on they are fetched again in the background
        self._old = 0.0  # from then on a token waits for that
        self._not_before = 0.0
        self._given_up: float | None = None  # a fetch is under way until then
        self._problem = ""
        self._waiting: dict[Callable[[], None], None] = {}

    def of(self, token: str) -> Sequence[Key]:
        """Return the keys that may have signed a token.

        Raises:
            KeysWanted: it is not known yet.
            KeysUnavailable: it cannot be known at present.
            jwt.PyJWTError: there is no such key, or the token has no head that can be read.
        """
        kid = jwt.get_unverified_header(token).get("kid")
        found = () if self._keys is None else self._keys.published(kid)
        now = self._clock()
        if found and now < self._due:
            return found
        fetching = self._given_up is not None and now < self._given_up
        if not fetching and now >= self._not_before:
            self._begin(now)
            fetching = True
        # Old keys stay in use when new ones cannot be had.
        if found and (now < self._old or not fetching):
            return found
        if fetching:
            raise KeysWanted(self)
        if self._problem:
            raise KeysUnavailable(max(1, ceil(self._not_before - now)))
        raise NoKeyError

    def then(self, ready: Callable[[], None]) -> None:
        """Call `ready` once, when the fetch that is under way is over."""
        self._waiting[ready] = None

    def forget(self, ready: Callable[[], None]) -> None:
        """Do not call `ready` any more."""
        self._waiting.pop(ready, None)

    def _begin(self, now: float) -> None:
        self._not_before = now + COOLDOWN
        given_up = self._given_up = now + _GIVEN_UP

        def done(fetched: Fetched) -> None:
            if self._given_up == given_up:
                self._done(fetched)

        self._fetch(self.url, done)

    def _done(self, fetched: Fetched) -> None:
        now = self._clock()
        self._given_up = None
        problem = fetched.problem
        if fetched.body is not None:
            try:
                self._keys = parse_jwks(fetched.body, self.algorithms)
            except ValueError as error:
                problem = str(error)
            else:
                age = _MAX_AGE if fetched.max_age is None else fetched.max_age
                age = min(max(age, _LEAST_AGE), _MOST_AGE)
                self._due = now + age
                self._old = self._due + age
                problem = ""
        if problem:
            self._not_before = now + _RETRY
            kept = "the ones before stay in use" if self._keys else "tokens of it are refused"
            _log.warning("the keys at %s cannot be used: %s; %s", self.url, problem, kept)
        self._problem = problem
        waiting, self._waiting = self._waiting, {}
        for ready in waiting:
            ready()


def parse_jwks(text: str | bytes, algorithms: Sequence[str]) -> Keys:
    """Return the keys of a JWK Set that can verify signatures of one of the algorithms.

    Others are left out: those for encryption, private and secret ones, and those that are too
    short.

    Raises:
        ValueError: it is no JWK Set, or has no key that can be used.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    items = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ValueError('it is no JWK Set: it has no list "keys"')
    if len(items) > _MAX_KEYS:
        raise ValueError(f"it has more than {_MAX_KEYS} keys")
    named: dict[str, Key] = {}
    others: list[Key] = []
    for item in items:
        key = _key(item, algorithms) if isinstance(item, dict) else None
        if key is None:
            continue
        kid = item.get("kid")
        if isinstance(kid, str):
            named.setdefault(kid, key)
        else:
            others.append(key)
    if not named and not others:
        raise ValueError(f"it has no public key for {', '.join(algorithms)}")
    return Keys(named, others)


def _key(item: Mapping[str, Any], algorithms: Sequence[str]) -> Key | None:
    """One key of a set, with the algorithms it is for; None if it cannot be used."""
    # RFC 7517 section 4.2. A "d" makes it a private key (RFC 7518 sections 6.2.2 and 6.3.2).
    if item.get("use", "sig") != "sig" or "d" in item:
        return None
    fitting = [name for name in algorithms if _fits(name, item)]
    if not fitting:
        return None
    try:
        material = jwt.PyJWK.from_dict(dict(item), algorithm=fitting[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if item["kty"] == "RSA" and material.key_size < MIN_RSA_BITS:
        return None
    kid = item.get("kid")
    return Key(material, fitting, f"key {kid!r}" if isinstance(kid, str) else "a key without kid")


def _fits(algorithm: str, item: Mapping[str, Any]) -> bool:
    """Whether a key can be for an algorithm, by its type and what it says itself."""
    if item.get("alg", algorithm) != algorithm:
        return False
    kty, curve = item.get("kty"), item.get("crv")
    if kty == "RSA":
        return algorithm[:2] in ("RS", "PS")
    if kty == "EC":
        return isinstance(curve, str) and _CURVES.get(curve) == algorithm
    return kty == "OKP" and curve in _EDWARDS and algorithm == "EdDSA"
