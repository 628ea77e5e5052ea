"""Several keys: which of them a token is verified with, and which one signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.gate.gate_world import SECRET, WALL
from tidegate.core.admission.attempt import Identity
from tidegate.core.settings import AuthKey, AuthSettings
from tidegate.errors import ConfigError, UsageError
from tidegate.gate.issuers import load
from tidegate.gate.tokens import Authenticator, Unauthorized, create_token

NEW, OLD, PLAIN = (letter * 64 for letter in "nop")
EC_KEY = ec.generate_private_key(ec.SECP256R1())
EC_PUBLIC = (
    EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)
BODY = b'{"sub": "ann"}'
KEYS = (
    AuthKey("new", "HS512", NEW),
    AuthKey("old", "HS256", OLD),
    AuthKey("ec", "ES256", None, EC_PUBLIC),
    AuthKey(None, "HS256", PLAIN),
)

pytestmark = pytest.mark.usefixtures("clock_stands")


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def sign(key: Any, algorithm: str, kid: object = None) -> str:
    """A token of ann, by hand: no library would write all of these."""
    head = {"alg": algorithm} if kid is None else {"alg": algorithm, "kid": kid}
    text = f"{part(json.dumps(head).encode())}.{part(BODY)}"
    secret = key.encode() if isinstance(key, str) else key
    signature = jwt.get_algorithm_by_name(algorithm).sign(text.encode(), secret)
    return f"{text}.{part(signature)}"


def accepted(auth: AuthSettings, token: str) -> str:
    """Empty for a token that is accepted, or else what is wrong."""
    try:
        assert Authenticator(auth).identify(token) == Identity("ann")
    except Unauthorized as error:
        return error.detail
    return ""


ALL = AuthSettings(keys=KEYS, secret=SECRET)
NAMED = AuthSettings(keys=KEYS[:3])
LISTED = AuthSettings(keys=KEYS)


@pytest.mark.parametrize(
    ("auth", "token", "detail"),
    [
        (ALL, sign(NEW, "HS512", "new"), ""),
        (ALL, sign(OLD, "HS256", "old"), ""),
        (ALL, sign(EC_KEY, "ES256", "ec"), ""),
        # No kid: auth.secret, and the keys of the list that have none.
        (ALL, sign(SECRET, "HS256"), ""),
        (ALL, sign(PLAIN, "HS256"), ""),
        (LISTED, sign(PLAIN, "HS256"), ""),
        (LISTED, sign(SECRET, "HS256"), "the signature"),
        (ALL, sign(NEW, "HS512"), "its algorithm"),
        (ALL, sign(OLD, "HS256"), "the signature"),
        (NAMED, sign(OLD, "HS256"), "it names no key"),
        # A kid that names no key is of an issuer who has other names.
        (ALL, sign(SECRET, "HS256", "other"), ""),
        (ALL, sign(PLAIN, "HS256", "other"), ""),
        (ALL, sign(NEW, "HS256", "other"), "the signature"),
        (NAMED, sign(OLD, "HS256", "other"), "it names no key"),
        (AuthSettings(secret=SECRET), sign(SECRET, "HS256", "other"), ""),
        # A kid that does: this key only, and its algorithm only.
        (ALL, sign(SECRET, "HS256", "old"), "the signature"),
        (ALL, sign(OLD, "HS256", "new"), "its algorithm"),
        (ALL, sign(NEW, "HS256", "new"), "its algorithm"),
        (ALL, sign(EC_PUBLIC, "HS256", "ec"), "its algorithm"),
        # And one that is no text.
        (ALL, sign(NEW, "HS512", 5), "it is malformed"),
        (ALL, sign(NEW, "HS512", ["new"]), "it is malformed"),
        (ALL, sign(NEW, "HS512", {}), "it is malformed"),
        (ALL, "nonsense", "it is malformed"),
        (ALL, "..", "it is malformed"),
    ],
)
def test_identify_with_several_keys_takes_the_one_that_is_named(
    auth: AuthSettings, token: str, detail: str
) -> None:
    found = accepted(auth, token)
    assert found.startswith(detail)
    assert bool(found) == bool(detail)


def test_a_public_key_in_a_list_with_secrets_is_never_taken_for_a_secret() -> None:
    # RFC 8725 section 2.1: HMAC over the public key, which anyone has.
    for kid in (None, "ec", "old"):
        assert accepted(ALL, sign(EC_PUBLIC, "HS256", kid))


def test_a_key_is_rotated_in_three_steps_and_each_accepts_its_tokens() -> None:
    old, new = KEYS[1], KEYS[0]
    tokens = [sign(OLD, "HS256", "old"), sign(NEW, "HS512", "new")]
    authenticator = Authenticator(AuthSettings(keys=(old,)))
    for keys, allowed in [((old,), [True, False]), ((new, old), [True, True]), ((new,), [0, 1])]:
        auth = AuthSettings(keys=keys)
        authenticator.apply(auth, load(auth))
        assert [not accepted(auth, token) for token in tokens] == allowed
        for token, good in zip(tokens, allowed, strict=True):
            if good:
                assert authenticator.identify(token).user == "ann"


def test_apply_takes_over_issuer_audience_and_leeway() -> None:
    authenticator = Authenticator(AuthSettings(secret=SECRET))
    auth = AuthSettings(secret=SECRET, issuer="me", audience="us", leeway=60.0)
    authenticator.apply(auth, load(auth))
    with pytest.raises(Unauthorized):
        authenticator.identify(jwt.encode({"sub": "ann"}, SECRET))
    claims = {"sub": "ann", "iss": "me", "aud": "us", "exp": int(WALL) - 30}
    assert authenticator.identify(jwt.encode(claims, SECRET)).user == "ann"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (lambda: AuthKey("a", "ES256", None, "/no/such/file"), "number 2: public_key is neither"),
        (lambda: AuthKey("a", "RS256", None, EC_PUBLIC), "number 2: public_key is not a key for"),
        (
            lambda: AuthKey("a", "HS256", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI ann@host"),
            "number 2: secret is not a key for HS256",
        ),
    ],
)
def test_a_wrong_key_of_a_list_is_a_wrong_setting(key: Callable[[], AuthKey], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^auth.keys: {said}"):
        load(AuthSettings(keys=(KEYS[0], key())))


def created(auth: AuthSettings, kid: str | None = None) -> str:
    return create_token(
        auth, user="a", tier=None, priority=0, lifetime_seconds=60, now=WALL, kid=kid
    )


@pytest.mark.parametrize(
    ("auth", "kid", "head"),
    [
        (ALL, None, ("HS256", None)),
        (ALL, "new", ("HS512", "new")),
        (ALL, "old", ("HS256", "old")),
        (LISTED, None, ("HS512", "new")),
        (AuthSettings(keys=KEYS[2:]), None, ("HS256", None)),
    ],
)
def test_a_created_token_says_its_key_and_is_accepted(
    auth: AuthSettings, kid: str | None, head: tuple[str, str | None]
) -> None:
    token = created(auth, kid)
    found = jwt.get_unverified_header(token)
    assert (found["alg"], found.get("kid")) == head
    assert Authenticator(auth).check(token).claims["sub"] == "a"


@pytest.mark.parametrize(
    ("auth", "kid", "said"),
    [
        (ALL, "ec", "ES256 tokens are signed with a private key"),
        (AuthSettings(keys=KEYS[2:3]), None, "ES256 tokens are signed with a private key"),
        (ALL, "other", 'auth.keys has no key of kid "other"'),
        (AuthSettings(), None, "auth.secret is not set"),
    ],
)
def test_a_token_without_a_key_to_sign_with_is_not_created(
    auth: AuthSettings, kid: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        created(auth, kid)
