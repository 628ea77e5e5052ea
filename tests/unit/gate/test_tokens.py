"""Tokens: which are accepted, what they stand for, where requests carry them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gate.gate_world import SECRET, WALL
from tidegate.core.admission.attempt import Claims, Identity
from tidegate.core.settings import AuthSettings
from tidegate.errors import ConfigError, PeerError, UsageError
from tidegate.gate.tokens import (
    Authenticator,
    Unauthorized,
    create_token,
    token_of,
)

AUTH = AuthSettings(secret=SECRET)

pytestmark = pytest.mark.usefixtures("clock_stands")


def sign(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    # Below jwt.encode, which would not write all the nonsense that a test asks for.
    return jwt.PyJWS().encode(json.dumps(claims).encode(), secret, algorithm)


def refusal(auth: AuthSettings, token: str) -> tuple[str, str]:
    with pytest.raises(Unauthorized) as caught:
        Authenticator(auth).identify(token)
    error = caught.value
    assert isinstance(error, PeerError)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    for piece in token.split("."):
        assert len(piece) < 12 or piece not in repr(error) + error.detail
    return str(error), error.detail


@pytest.mark.parametrize(
    ("claims", "identity"),
    [
        ({"sub": "ann"}, Identity("ann")),
        ({"sub": "x" * 256}, Identity("x" * 256)),
        ({"sub": "Zoë 東京", "jti": "1", "extra": [1]}, Identity("Zoë 東京")),
        ({"sub": "ann", "tier": "free"}, Identity("ann", "free")),
        ({"sub": "ann", "tier": "t" * 64}, Identity("ann", "t" * 64)),
        ({"sub": "ann", "tier": None}, Identity("ann")),
        ({"sub": "ann", "priority": 0}, Identity("ann")),
        ({"sub": "ann", "priority": 100}, Identity("ann", priority=100)),
        ({"sub": "ann", "priority": 5.0}, Identity("ann", priority=5)),
        (
            {"sub": "ann", "rooms": ["chat:*"], "join": ["a", "b", "a"], "operator": True},
            Identity("ann", claims=Claims(("chat:*",), ("a", "b"), None, True)),
        ),
        (
            {"sub": "ann", "info": {"name": "Ånn"}},
            Identity("ann", claims=Claims(info='{"name":"Ånn"}'.encode())),
        ),
        (
            {"sub": "ann", "rooms": [], "join": None, "info": {}, "operator": False},
            Identity("ann"),
        ),
        ({"sub": "ann", "exp": int(WALL) + 60}, Identity("ann", expires_at=int(WALL) + 60.0)),
        ({"sub": "ann", "nbf": int(WALL) - 1}, Identity("ann")),
        # A time of issue in the future and an audience that nobody asked for refuse nobody.
        ({"sub": "ann", "iat": int(WALL) + 60, "aud": "others", "iss": "any"}, Identity("ann")),
    ],
)
def test_identity_of_a_valid_token(claims: dict[str, Any], identity: Identity) -> None:
    assert Authenticator(AUTH).identify(sign(claims)) == identity


def test_identify_a_tier_of_the_settings_shares_its_name() -> None:
    tier = "".join(["fr", "ee"])
    authenticator = Authenticator(AUTH, [tier, "paid"])
    assert authenticator.identify(sign({"sub": "ann", "tier": "free"})).tier is tier
    assert authenticator.identify(sign({"sub": "ann", "tier": "other"})).tier == "other"


@pytest.mark.parametrize(
    ("claims", "said", "detail"),
    [
        ({}, "token not valid", "a claim is missing"),
        ({"sub": None}, "token not valid", "a claim is missing"),
        ({"sub": ""}, "token not valid", "1 to 256 characters"),
        ({"sub": 7}, "token not valid", "not a string"),
        ({"sub": "x" * 257}, "token not valid", "1 to 256 characters"),
        ({"sub": "a\nb"}, "token not valid", "1 to 256 characters"),
        ({"sub": "a\x00"}, "token not valid", "1 to 256 characters"),
        ({"sub": "\ud800"}, "token not valid", "1 to 256 characters"),
        ({"sub": "ann", "tier": ""}, "token not valid", "the tier"),
        ({"sub": "ann", "tier": 1}, "token not valid", "the tier"),
        ({"sub": "ann", "tier": "t" * 65}, "token not valid", "the tier"),
        ({"sub": "ann", "tier": "a\x7f"}, "token not valid", "the tier"),
        ({"sub": "ann", "priority": -1}, "token not valid", "the priority"),
        ({"sub": "ann", "priority": 101}, "token not valid", "the priority"),
        ({"sub": "ann", "priority": 1.5}, "token not valid", "the priority"),
        ({"sub": "ann", "priority": 101.0}, "token not valid", "the priority"),
        ({"sub": "ann", "priority": True}, "token not valid", "the priority"),
        ({"sub": "ann", "priority": "5"}, "token not valid", "the priority"),
        ({"sub": "ann", "priority": None}, "token not valid", "the priority"),
        ({"sub": "ann", "rooms": "chat"}, "token not valid", "rooms must be a list"),
        ({"sub": "ann", "rooms": ["a"] * 101}, "token not valid", "rooms must be a list"),
        ({"sub": "ann", "rooms": [1]}, "token not valid", "rooms must hold texts"),
        ({"sub": "ann", "join": {"a": 1}}, "token not valid", "join must be a list"),
        ({"sub": "ann", "join": ["a\n"]}, "token not valid", "join must hold texts"),
        ({"sub": "ann", "join": ["a" * 129]}, "token not valid", "join must hold texts"),
        ({"sub": "ann", "info": ["ann"]}, "token not valid", "info must be an object"),
        ({"sub": "ann", "info": {"a": "x" * 1020}}, "token not valid", "info must be an object"),
        ({"sub": "ann", "info": {"a": "\ud800"}}, "token not valid", "info must be an object"),
        ({"sub": "ann", "operator": 1}, "token not valid", "operator must be"),
        ({"sub": "ann", "exp": int(WALL) - 1}, "token expired", "its end (exp) is in the past"),
        ({"sub": "ann", "exp": True}, "token expired", "its end (exp) is in the past"),
        ({"sub": "ann", "exp": "soon"}, "token not valid", "malformed"),
        ({"sub": "ann", "exp": None}, "token not valid", "malformed"),
        ({"sub": "ann", "exp": "99999999999"}, "token not valid", "the expiry"),
        ({"sub": "ann", "exp": float("inf")}, "token not valid", "malformed"),
        ({"sub": "ann", "exp": 10**400}, "token not valid", "the expiry"),
        ({"sub": "ann", "exp": 1e300}, "token not valid", "the expiry"),
        ({"sub": "ann", "nbf": int(WALL) + 60}, "token not valid", "not valid yet"),
        ({"sub": "ann", "nbf": []}, "token not valid", "malformed"),
    ],
)
def test_claims_that_are_refused(claims: dict[str, Any], said: str, detail: str) -> None:
    got = refusal(AUTH, sign(claims))
    assert got[0] == said
    assert detail in got[1]


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


GOOD = sign({"sub": "ann"})
HEAD, BODY, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        ("", "malformed"),
        ("nonsense", "malformed"),
        ("..", "malformed"),
        (f"{HEAD}.{BODY}", "malformed"),
        (f"{HEAD}.{BODY}.", "signature"),
        (f"{HEAD}.{part({'sub': 'bob'})}.{SIGNATURE}", "signature"),
        (f"{HEAD}.{BODY}.{part(b'x' * 32)}", "signature"),
        (sign({"sub": "ann"}, "another secret of thirty-two bytes"), "signature"),
        (sign({"sub": "ann"}, SECRET * 2, "HS512"), "algorithm"),
        (f"{part({'alg': 'none'})}.{BODY}.", "algorithm"),
        (f"{part({'alg': ['HS256']})}.{BODY}.{SIGNATURE}", "algorithm"),
        (f"{part({'alg': {}})}.{BODY}.{SIGNATURE}", "algorithm"),
        (f"{part({})}.{BODY}.{SIGNATURE}", "algorithm"),
        (f"{part({'alg': 'HS256', 'crit': ['exp']})}.{BODY}.{SIGNATURE}", "malformed"),
        (f"{part({'alg': 'HS256', 'b64': False})}..{SIGNATURE}", "malformed"),
        (f"{part(b'[' * 3000)}.{BODY}.{SIGNATURE}", "malformed"),
        (f"{HEAD}.{BODY}.{SIGNATURE} ", "malformed"),
        (f"{HEAD}.{BODY}.{SIGNATURE}é", "not ASCII"),
        (f"{HEAD}.{BODY}.\ud800", "not ASCII"),
        (sign({"sub": "ann", "more": "x" * 8192}), "too long"),
    ],
)
def test_tokens_that_are_refused(token: str, detail: str) -> None:
    assert Authenticator(AUTH).identify(GOOD) == Identity("ann")
    got = refusal(AUTH, token)
    assert got[0] == "token not valid"
    assert detail in got[1]


@pytest.mark.parametrize("body", [b"[]", b'"ann"', b"[" * 3000, b"\xff", b"9" * 5000])
def test_a_signed_body_that_is_no_object_of_claims_is_refused(body: bytes) -> None:
    token = jwt.PyJWS().encode(body, SECRET, "HS256")
    assert refusal(AUTH, token) == ("token not valid", "it is malformed")


@given(st.text(max_size=20) | st.lists(st.binary(max_size=20).map(part)).map(".".join))
@settings(max_examples=100)
def test_any_other_text_is_just_not_valid(token: str) -> None:
    assert refusal(AUTH, token)[0] == "token not valid"


def test_without_a_key_no_token_is_accepted() -> None:
    assert refusal(AuthSettings(), GOOD)[0] == "tokens are not accepted here"


@pytest.mark.parametrize(
    ("auth", "claims", "detail"),
    [
        ({"issuer": "me"}, {"iss": "me"}, ""),
        ({"issuer": "me"}, {"iss": "you"}, "auth.issuer"),
        ({"issuer": "me"}, {"iss": ["me"]}, "auth.issuer"),
        ({"issuer": "me"}, {}, "missing"),
        ({"audience": "us"}, {"aud": "us"}, ""),
        ({"audience": "us"}, {"aud": ["them", "us"]}, ""),
        ({"audience": "us"}, {"aud": "them"}, "auth.audience"),
        ({"audience": "us"}, {"aud": [1]}, "auth.audience"),
        ({"audience": "us"}, {}, "missing"),
        ({"leeway": 60.0}, {"exp": int(WALL) - 30}, ""),
        ({"leeway": 60.0}, {"nbf": int(WALL) + 30}, ""),
        ({"leeway": 10.0}, {"exp": int(WALL) - 30}, "(exp)"),
    ],
)
def test_what_the_settings_ask_for(
    auth: dict[str, Any], claims: dict[str, Any], detail: str
) -> None:
    token = sign({"sub": "ann", **claims})
    authenticator = AuthSettings(secret=SECRET, **auth)
    if detail:
        assert detail in refusal(authenticator, token)[1]
    else:
        assert Authenticator(authenticator).identify(token).user == "ann"


def test_the_leeway_also_moves_the_end_of_the_connection() -> None:
    # Otherwise a token that is accepted within the leeway would close its connection at once.
    authenticator = Authenticator(AuthSettings(secret=SECRET, leeway=60.0))
    expired = int(WALL) - 30
    identity = authenticator.identify(sign({"sub": "ann", "exp": expired}))
    assert identity.expires_at == expired + 60.0


def pem(key: Any) -> str:
    text: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def test_rsa_tokens(rsa_key: rsa.RSAPrivateKey) -> None:
    public = pem(rsa_key.public_key())
    authenticator = Authenticator(AuthSettings(algorithms=("RS256", "PS512"), public_key=public))
    for algorithm in ("RS256", "PS512"):
        assert authenticator.identify(jwt.encode({"sub": "a"}, rsa_key, algorithm)).user == "a"
    with pytest.raises(Unauthorized):
        authenticator.identify(jwt.encode({"sub": "a"}, rsa_key, "RS512"))


@pytest.mark.parametrize(("algorithm", "key"), [("ES256", EC_KEY), ("EdDSA", ED_KEY)])
def test_a_public_key_may_be_text_or_a_file(algorithm: str, key: Any, tmp_path: Path) -> None:
    token = jwt.encode({"sub": "ann"}, key, algorithm)
    public = pem(key.public_key())
    file = tmp_path / "key.pem"
    file.write_text(public)
    for given_as in (public, str(file)):
        auth = AuthSettings(algorithms=(algorithm,), public_key=given_as)
        assert Authenticator(auth).identify(token).user == "ann"
        assert refusal(auth, token[:-8] + "A" * 8) == (
            "token not valid",
            "the signature does not match",
        )


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    # RFC 8725 section 2.1: a token signed with HMAC over the public key, which anyone has.
    public = pem(EC_KEY.public_key())
    auth = AuthSettings(algorithms=("ES256",), public_key=public)
    body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': 'ann'})}"
    signature = jwt.get_algorithm_by_name("HS256").sign(body.encode(), public.encode())
    assert "algorithm" in refusal(auth, f"{body}.{part(signature)}")[1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: AuthSettings(algorithms=("ES256",), public_key="/no/such/file"), "neither"),
        (lambda tmp: AuthSettings(algorithms=("ES256",), public_key=str(tmp)), "neither"),
        (
            lambda _: AuthSettings(algorithms=("RS256",), public_key=pem(EC_KEY.public_key())),
            "not a key for RS256",
        ),
        (
            lambda _: AuthSettings(
                algorithms=("ES256", "EdDSA"), public_key=pem(EC_KEY.public_key())
            ),
            "not a key for EdDSA",
        ),
        (
            lambda _: AuthSettings(algorithms=("ES256",), public_key="-----BEGIN nothing"),
            "not a key for ES256",
        ),
        (
            lambda _: AuthSettings(
                algorithms=("ES256",),
                public_key=EC_KEY.private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                ).decode(),
            ),
            "holds a private key",
        ),
        (
            lambda _: AuthSettings(
                algorithms=("RS256",),
                public_key=pem(rsa.generate_private_key(65537, 1024).public_key()),
            ),
            "1024 bits",
        ),
        (
            lambda _: AuthSettings(secret="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI ann@host"),
            "auth.secret is not a key for HS256",
        ),
    ],
)
def test_wrong_keys_are_wrong_settings(
    make: Callable[[Path], AuthSettings], said: str, tmp_path: Path
) -> None:
    auth = make(tmp_path)
    with pytest.raises(ConfigError, match=said) as caught:
        Authenticator(auth)
    assert "-----" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "subprotocols", "query", "allowed", "expected"),
    [
        ({}, (), "", True, None),
        ({"authorization": "Bearer a.b.c"}, (), "", False, "a.b.c"),
        ({"authorization": "bEARER  a.b.c "}, (), "", False, "a.b.c"),
        ({"authorization": "Basic YTpi"}, (), "", False, None),
        ({"authorization": "Bearer"}, (), "", False, ""),
        ({}, ("tidegate.v1.json", "tidegate.token.a.b.c"), "", False, "a.b.c"),
        ({}, ("tidegate.token.one", "tidegate.token.two"), "", False, "one"),
        ({}, ("tidegate.token.",), "", False, ""),
        ({}, ("tidegate.v1.json",), "token=q", True, "q"),
        ({}, (), "a=1&token=a%2Eb&token=c", True, "a.b"),
        ({}, (), "token=", True, ""),
        ({}, (), "tokens=q&a", True, None),
        ({}, (), "token=q", False, None),
        # The order of the places.
        ({"authorization": "Bearer h"}, ("tidegate.token.s",), "token=q", True, "h"),
        ({"authorization": "Basic h"}, ("tidegate.token.s",), "token=q", True, "s"),
    ],
)
def test_where_a_request_carries_its_token(
    headers: dict[str, str],
    subprotocols: tuple[str, ...],
    query: str,
    allowed: bool,
    expected: str | None,
) -> None:
    assert token_of(headers, subprotocols, query, query_allowed=allowed) == expected


def test_a_created_token_is_accepted_and_holds_what_was_asked_for() -> None:
    auth = AuthSettings(
        algorithms=("HS512", "HS256"), secret=SECRET * 2, issuer="me", audience="us"
    )
    token = create_token(
        auth, user="ann", tier="free", priority=7, lifetime_seconds=90, now=int(WALL)
    )
    assert jwt.get_unverified_header(token)["alg"] == "HS512"
    expiry = int(WALL) + 90
    assert Authenticator(auth).check(token).claims == {
        "sub": "ann",
        "tier": "free",
        "priority": 7,
        "iat": int(WALL),
        "exp": expiry,
        "iss": "me",
        "aud": "us",
    }
    assert Authenticator(auth).identify(token) == Identity("ann", "free", 7, float(expiry))


def test_a_created_token_says_no_more_than_it_must() -> None:
    token = create_token(AUTH, user="a", tier=None, priority=0, lifetime_seconds=60.5, now=WALL)
    assert set(Authenticator(AUTH).check(token).claims) == {"sub", "iat", "exp"}


def test_a_created_token_holds_claims_about_rooms() -> None:
    more = {"rooms": ["chat:*"], "join": ["a"], "info": {"n": 1}, "operator": True}
    token = create_token(
        AUTH, user="a", tier=None, priority=0, lifetime_seconds=60, now=WALL, more=more
    )
    claims = Authenticator(AUTH).identify(token).claims
    assert claims == Claims(("chat:*",), ("a",), b'{"n":1}', True)


def test_a_created_token_expires() -> None:
    token = create_token(AUTH, user="a", tier=None, priority=0, lifetime_seconds=60, now=WALL - 61)
    with pytest.raises(Unauthorized, match="token expired"):
        Authenticator(AUTH).check(token)


@pytest.mark.parametrize(
    ("auth", "changes", "said"),
    [
        (AUTH, {"user": ""}, "sub"),
        (AUTH, {"user": "a\n"}, "sub"),
        (AUTH, {"tier": ""}, "tier"),
        (AUTH, {"priority": 101}, "priority"),
        (AUTH, {"priority": -1}, "priority"),
        (AUTH, {"more": {"rooms": ["\n"]}}, "rooms must hold"),
        (AUTH, {"more": {"rooms": ["r" * 128] * 60}}, "8192 are the most"),
        (AUTH, {"lifetime_seconds": 1e300}, "exp"),
        (AuthSettings(), {}, "auth.secret is not set"),
        (AuthSettings(algorithms=("ES256",), public_key="key.pem"), {}, "private key"),
    ],
)
def test_tokens_that_would_be_refused_are_not_created(
    auth: AuthSettings, changes: dict[str, Any], said: str
) -> None:
    wanted: dict[str, Any] = {"user": "a", "tier": None, "priority": 0, "lifetime_seconds": 60}
    with pytest.raises(UsageError, match=said):
        create_token(auth, **{**wanted, **changes}, now=WALL)
