"""Issuers and their published keys: which token is checked with what, and when keys are fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.unit.gate.gate_world import SECRET, WALL, opening
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Reject
from tidegate.core.codes import KEYS_UNAVAILABLE, UNAUTHORIZED
from tidegate.core.settings import AuthIssuer, AuthSettings
from tidegate.errors import ConfigError
from tidegate.gate.identity import TokenIdentifier
from tidegate.gate.issuers import load
from tidegate.gate.jwks import COOLDOWN, Fetched, KeysUnavailable, KeysWanted, parse_jwks
from tidegate.gate.tokens import Authenticator, Unauthorized

pytestmark = pytest.mark.usefixtures("clock_stands")

ONE, TWO = (rsa.generate_private_key(65537, 2048) for _ in range(2))
SHORT = rsa.generate_private_key(65537, 1024)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
ISSUER, OTHER = "https://login.example", "https://other.example"
URL = "https://login.example/keys"


def jwk(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    kind = OKPAlgorithm if isinstance(key, ed25519.Ed25519PrivateKey) else kind
    made: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **({} if kid is None else {"kid": kid}), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def sign(key: Any, kid: str | None = None, algorithm: str = "RS256", **claims: Any) -> str:
    content = {"sub": "ann", "iss": ISSUER, **claims}
    return jwt.encode(content, key, algorithm, None if kid is None else {"kid": kid})


class World:
    """An authenticator with one issuer at a URL, whose answers the test gives."""

    def __init__(self, **auth: Any) -> None:
        self.now = 1000.0
        self.asked: list[Callable[[Fetched], None]] = []
        self.auth = AuthSettings(issuers=(AuthIssuer(ISSUER, None, ("RS256",), URL),), **auth)
        self.authenticator = Authenticator(
            self.auth, (), self.fetch, lambda: self.now, lambda: WALL
        )

    def fetch(self, url: str, done: Callable[[Fetched], None]) -> None:
        assert url == URL
        self.asked.append(done)

    def found(self, token: str) -> str:
        """What becomes of a token, in one word."""
        try:
            self.authenticator.identify(token)
        except KeysWanted:
            return "waits"
        except KeysUnavailable:
            return "unavailable"
        except Unauthorized:
            return "refused"
        return "good"

    def answer(self, *keys: dict[str, Any], max_age: float | None = None) -> None:
        self.asked[-1](Fetched(key_set(*keys), max_age))

    def fail(self) -> None:
        self.asked[-1](Fetched(None, problem="the status is 500, not 200"))


def test_identify_fetches_the_keys_when_a_token_names_the_issuer() -> None:
    world = World()
    token = sign(ONE, "1")
    assert (world.found(token), world.found(token), len(world.asked)) == ("waits", "waits", 1)
    world.answer(jwk(ONE, "1"))
    assert (world.found(token), world.found(sign(TWO, "1"))) == ("good", "refused")
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    "token",
    [
        sign(ONE, "1", iss=OTHER),
        jwt.encode({"sub": "ann"}, ONE, "RS256"),
        "nonsense",
        "a.b.c",
        "",
    ],
)
def test_identify_fetches_nothing_for_others(token: str) -> None:
    world = World()
    assert (world.found(token), world.asked) == ("refused", [])


def test_a_flood_of_unknown_names_fetches_once_in_a_while() -> None:
    world = World()
    assert world.found(sign(ONE, "1")) == "waits"
    world.answer(jwk(ONE, "1"))
    for number in range(100):
        world.now += 1
        if world.found(sign(TWO, f"{number}x")) == "waits":
            world.answer(jwk(ONE, "1"))
        assert world.found(sign(ONE, "1")) == "good"
    assert len(world.asked) - 1 <= 100 / COOLDOWN + 1


def test_a_new_key_is_found_when_a_token_names_it() -> None:
    world = World()
    world.found(sign(ONE, "1"))
    world.answer(jwk(ONE, "1"))
    world.now += COOLDOWN
    assert world.found(sign(TWO, "2")) == "waits"
    assert world.found(sign(ONE, "1")) == "good"
    world.answer(jwk(TWO, "2"))
    assert (world.found(sign(TWO, "2")), world.found(sign(ONE, "1"))) == ("good", "refused")


def test_keys_that_cannot_be_fetched_are_unavailable_until_they_can() -> None:
    world = World()
    token = sign(ONE, "1")
    assert world.found(token) == "waits"
    world.fail()
    assert world.found(token) == "unavailable"
    with pytest.raises(KeysUnavailable) as caught:
        world.authenticator.identify(token)
    assert caught.value.retry_after == 5
    world.now += 5
    assert world.found(token) == "waits"
    world.answer(jwk(ONE, "1"))
    assert world.found(token) == "good"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "no list"),
        (b'{"keys": 5}', "no list"),
        (b'{"keys": [5, {}, {"kty": "RSA"}, {"kty": ["x"], "crv": {}}]}', "no public key"),
        (key_set(*[{}] * 101), "more than 100"),
        (key_set(jwk(SHORT, "1")), "no public key"),
        (key_set(jwk(CURVE, "1")), "no public key"),
        (key_set(jwk(ONE, "1", use="enc")), "no public key"),
        (key_set(jwk(ONE, "1", alg="RS512")), "no public key"),
        (key_set(jwk(ONE, "1", d="AQAB")), "no public key"),
        (key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "1"}), "no public key"),
    ],
)
def test_keys_that_cannot_be_used_are_unavailable(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_jwks(body, ("RS256",))
    world = World()
    assert world.found(sign(ONE, "1")) == "waits"
    world.asked[-1](Fetched(body))
    assert world.found(sign(ONE, "1")) == "unavailable"


def test_keys_that_are_due_are_fetched_in_the_background_and_kept_in_an_outage() -> None:
    world = World()
    token = sign(ONE, "1")
    world.found(token)
    world.answer(jwk(ONE, "1"), max_age=600)
    world.now += 599
    assert (world.found(token), len(world.asked)) == ("good", 1)
    world.now += 1
    assert (world.found(token), len(world.asked)) == ("good", 2)
    world.fail()
    assert (world.found(token), len(world.asked)) == ("good", 2)
    world.now += 5
    assert (world.found(token), len(world.asked)) == ("good", 3)
    world.answer(jwk(TWO, "2"), max_age=600)
    assert world.found(token) == "refused"


def test_keys_that_are_long_due_are_fetched_first() -> None:
    world = World()
    token = sign(ONE, "1")
    world.found(token)
    world.answer(jwk(ONE, "1"), max_age=60)
    world.now += 3600
    assert world.found(token) == "waits"
    world.fail()
    assert world.found(token) == "good"  # an outage of the issuer is none of ours


def test_a_fetch_that_never_ends_is_tried_again() -> None:
    world = World()
    assert world.found(sign(ONE, "1")) == "waits"
    world.now += 60
    assert (world.found(sign(ONE, "1")), len(world.asked)) == ("waits", 2)
    world.asked[0](Fetched(None, problem="late"))
    assert world.found(sign(ONE, "1")) == "waits"
    world.answer(jwk(ONE, "1"))
    assert world.found(sign(ONE, "1")) == "good"


def test_apply_keeps_what_was_fetched_from_the_same_url() -> None:
    world = World()
    world.found(sign(ONE, "1"))
    world.answer(jwk(ONE, "1"))
    world.authenticator.apply(world.auth, load(world.auth))
    assert (world.found(sign(ONE, "1")), len(world.asked)) == ("good", 1)


def test_a_token_without_kid_is_checked_with_every_key() -> None:
    world = World()
    world.found(sign(TWO))
    world.answer(jwk(ONE, "1"), jwk(TWO))
    assert (world.found(sign(TWO)), world.found(sign(ONE))) == ("good", "good")
    assert world.found(sign(TWO, "unknown")) == "good"  # the set has one without a name


# Pending decisions.


def test_identifier_is_late_until_the_keys_are_there() -> None:
    world = World()
    identifier = TokenIdentifier(world.auth, world.authenticator)
    ready: list[int] = []
    laters: list[Any] = [identifier.identify(opening(1, token=sign(ONE, "1"))) for _ in range(3)]
    for number, later in enumerate(laters):
        later.then(lambda number=number: ready.append(number))
    laters[1].cancel()
    assert ready == []
    world.answer(jwk(ONE, "1"))
    assert ready == [0, 2]
    assert laters[0].result() == Identity("ann")
    assert identifier.identify(opening(1)) is ANONYMOUS


@pytest.mark.parametrize("token", [sign(TWO, "1"), sign(ONE, "2")])
def test_identifier_refuses_a_wrong_token_after_the_keys_are_there(token: str) -> None:
    world = World()
    later: Any = TokenIdentifier(world.auth, world.authenticator).identify(opening(1, token=token))
    later.then(lambda: None)
    world.answer(jwk(ONE, "1"))
    assert later.result() is UNAUTHORIZED


def test_identifier_says_when_to_come_back_in_an_outage() -> None:
    world = World()
    identifier = TokenIdentifier(world.auth, world.authenticator)
    later: Any = identifier.identify(opening(1, token=sign(ONE, "1")))
    later.then(lambda: None)
    world.fail()
    assert later.result() == Reject(KEYS_UNAVAILABLE, 5)


def test_identifier_whose_settings_change_while_it_waits_says_come_back() -> None:
    world = World(secret=SECRET)
    identifier = TokenIdentifier(world.auth, world.authenticator)
    later: Any = identifier.identify(opening(1, token=sign(ONE, "1")))
    other = AuthSettings(issuers=(AuthIssuer(ISSUER, None, ("RS256", "PS256"), URL),))
    world.authenticator.apply(other, load(other))
    assert later.result() is KEYS_UNAVAILABLE


# Issuers beside one another.


def test_each_issuer_is_checked_by_its_own_keys_and_audience(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(jwk(CURVE, "c"), jwk(EDWARDS, "e")))
    auth = AuthSettings(
        secret=SECRET,
        issuers=(
            AuthIssuer(ISSUER, "chat", ("ES256", "EdDSA"), str(file)),
            AuthIssuer(OTHER, None, ("HS256",), None, SECRET[::-1]),
        ),
    )
    made = Authenticator(auth)

    def good(token: str) -> bool:
        try:
            made.identify(token)
        except Unauthorized:
            return False
        return True

    def hs(secret: str, **claims: Any) -> str:
        return jwt.encode({"sub": "ann", **claims}, secret, "HS256")

    assert good(sign(CURVE, "c", "ES256", aud="chat"))
    assert good(sign(EDWARDS, "e", "EdDSA", aud="chat"))
    assert not good(sign(CURVE, "c", "ES256"))
    assert not good(sign(CURVE, "e", "ES256", aud="chat"))
    assert not good(sign(CURVE, "c", "ES256", iss=OTHER, aud="chat"))
    assert good(hs(SECRET[::-1], iss=OTHER))
    assert good(hs(SECRET))
    assert good(hs(SECRET, iss="https://third.example"))
    # The secret of one issuer makes no token of another one.
    assert not good(hs(SECRET, iss=OTHER))
    assert not good(hs(SECRET, iss=ISSUER, aud="chat"))
    assert not good(hs(SECRET[::-1]))
    checked = made.check(sign(CURVE, "c", "ES256", aud="chat"))
    assert (checked.issuer, checked.key) == (ISSUER, "key 'c'")


def test_an_unknown_issuer_is_named_to_the_operator() -> None:
    with pytest.raises(Unauthorized) as caught:
        World().authenticator.identify(sign(ONE, "1", iss=OTHER))
    assert caught.value.detail == "its issuer (iss) is none of auth.issuers"


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "neither a URL nor a file"), ("[]", "no list"), ('{"keys": []}', "no public key")],
)
def test_a_key_set_in_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str | None, problem: str
) -> None:
    file = tmp_path / "keys.json"
    if text is not None:
        file.write_text(text)
    auth = AuthSettings(issuers=(AuthIssuer(ISSUER, None, ("RS256",), str(file)),))
    with pytest.raises(ConfigError, match=f"auth.issuers: number 1: jwks.*{problem}"):
        load(auth)


# Revocation.


def test_revoke_refuses_tokens_from_before() -> None:
    made = Authenticator(AuthSettings(secret=SECRET), wall=lambda: WALL)

    def token(**claims: Any) -> str:
        return jwt.encode({"sub": "ann", **claims}, SECRET, "HS256")

    made.revocations.revoke("ann", WALL - 10, WALL)
    for claims, good in (({"iat": WALL - 11}, False), ({"iat": WALL - 9}, True), ({}, False)):
        if good:
            assert made.identify(token(**claims)) == Identity("ann")
        else:
            with pytest.raises(Unauthorized):
                made.identify(token(**claims))
    assert made.identify(token(sub="bob")) == Identity("bob")
