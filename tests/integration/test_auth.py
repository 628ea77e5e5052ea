"""Tokens: where they may come from, what makes one bad, and when its time is over."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import TEXT, Response
from tests.support.tokens import SECRET, bearer, token

PROTOCOL = "Sec-WebSocket-Protocol"
NATIVE = (PROTOCOL, "tidegate.v1.json")


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    """It lets nobody in without a token."""
    return shared_serve(
        {
            "auth": {
                "secret": SECRET,
                "anonymous": False,
                "issuer": "https://issuer.example",
                "audience": "tidegate",
                "timeout": 1,
            },
            "limits": {"per_user": 2},
        }
    )


def good(user: str = "ann", **claims: Any) -> str:
    return token(user, **{"iss": "https://issuer.example", "aud": "tidegate", **claims})


def ask(server: Process, *headers: tuple[str, str], path: str = "/ws") -> Response:
    with server.connect() as raw:
        response = raw.ask(path=path, headers=headers)
        if response.status == 101:
            raw.send_close()
            raw.closed(1000)
    return response


def user_of(server: Process, *headers: tuple[str, str]) -> Any:
    with server.connect() as raw:
        raw.open(headers=headers)
        return json.loads(raw.message())["userId"]


def test_authorization_header(server: Process) -> None:
    assert user_of(server, ("Authorization", f"Bearer {good()}")) == "ann"
    assert user_of(server, ("Authorization", f"bearer  {good('ünï')}")) == "ünï"


def test_subprotocol_that_is_never_echoed(server: Process) -> None:
    value = good("bob")
    with server.connect() as raw:
        response = raw.ask(headers=[(PROTOCOL, f"tidegate.token.{value}, tidegate.v1.json")])
        assert response.status == 101
        assert response.headers["sec-websocket-protocol"] == "tidegate.v1.json"
        assert value not in str(response.headers)
        assert json.loads(raw.message())["userId"] == "bob"
    with server.connect() as raw:
        response = raw.ask(headers=[(PROTOCOL, f"tidegate.token.{value}")])
        assert response.status == 101
        assert "sec-websocket-protocol" not in response.headers


def test_the_query_counts_only_where_it_is_switched_on(server: Process, serve: Start) -> None:
    assert ask(server, path=f"/ws?token={good()}").status == 401
    other = serve({"auth": {"secret": SECRET, "anonymous": False, "query_token": True}})
    assert ask(other, path=f"/ws?token={token()}").status == 101
    assert ask(other, path="/ws?token=wrong").status == 401
    assert ask(other, path="/ws?token=").status == 401
    assert ask(other, path="/ws").status == 401


def unsigned(algorithm: str) -> str:
    """A token without a signature, as PyJWT refuses to make."""
    parts = [{"alg": algorithm, "typ": "JWT"}, jwt.decode(good(), options=UNCHECKED)]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b""]).decode()


UNCHECKED: Any = {"verify_signature": False}
BAD_TOKENS: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None"),
    "no signature": lambda: unsigned("HS256"),
    "another key": lambda: jwt.encode({"sub": "ann"}, "k" * 32, "HS256"),
    "another algorithm": lambda: jwt.encode(
        jwt.decode(good(), options=UNCHECKED), SECRET * 2, "HS512"
    ),
    "expired": lambda: good(expires_in=-1),
    "not yet": lambda: good(nbf=time.time() + 60),
    "another issuer": lambda: good(iss="https://evil.example"),
    "another audience": lambda: good(aud="other"),
    "no issuer": lambda: good(iss=None),
    "no audience": lambda: good(aud=None),
    "no user": lambda: token(None, iss="https://issuer.example", aud="tidegate"),
    "empty user": lambda: good(""),
    "control characters": lambda: good("ann\n"),
    "priority": lambda: good(priority="high"),
    "tier": lambda: good(tier=["gold"]),
    "changed": lambda: good()[:-4] + "AAAA",
    "nonsense": lambda: "nonsense",
    "empty": lambda: "",
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_tokens(server: Process, kind: str) -> None:
    value = BAD_TOKENS[kind]()
    response = ask(server, ("Authorization", f"Bearer {value}"))
    assert response.status == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["x-rejection-reason"] == "unauthorized"
    assert "retry-after" not in response.headers
    body = json.loads(response.body)
    assert (body["error"], body["retryAfter"]) == ("unauthorized", None)
    if value:
        assert value not in str(response)
        assert value not in server.log
    assert server.open() == 0


def test_no_token_at_all(server: Process) -> None:
    assert ask(server).status == 401
    assert ask(server, ("Authorization", "Basic YW5uOmFubg==")).status == 401


def test_anonymous_where_allowed(serve: Start) -> None:
    server = serve({"auth": {"secret": SECRET}})
    assert user_of(server, NATIVE) is None
    assert user_of(server, NATIVE, bearer("ann")) == "ann"
    # A bad token is no way to be anonymous.
    assert ask(server, ("Authorization", "Bearer nonsense")).status == 401


def test_without_a_key_no_token_is_good(serve: Start) -> None:
    server = serve()
    assert ask(server, bearer("ann")).status == 401
    assert ask(server, ("Authorization", f"Bearer {unsigned('none')}")).status == 401


def test_first_message(server: Process) -> None:
    with server.connect() as raw:
        raw.open(headers=[NATIVE])
        raw.send_frame(TEXT, '{"type": "join", "room": "r", "id": 1}')
        refused = json.loads(raw.message())
        assert (refused["code"], refused["id"]) == ("not_authenticated", 1)
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": good("eve", tier="x"), "id": 2}))
        assert json.loads(raw.message())["userId"] == "eve"
        assert json.loads(raw.message()) == {"type": "ack", "id": 2}
        (row,) = server.connections("user=eve")
        assert row["user"] == "eve"
        # It stays after the deadline, and cannot become somebody else.
        time.sleep(1.3)
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": good("bob"), "id": 3}))
        assert json.loads(raw.message())["type"] == "error"
        assert [row["user"] for row in server.connections()] == ["eve"]
    server.wait_open(0)
    assert server.stats()["connections"]["uniqueUsers"] == 0


def test_first_message_that_never_comes(server: Process) -> None:
    with server.connect() as raw:
        raw.open(headers=[NATIVE])
        started = time.monotonic()
        assert raw.closed(4501)
        assert 0.8 < time.monotonic() - started < 2.5
        raw.send_close(4501)
        assert raw.end() == b""
    assert server.stats()["disconnections"]["auth_timeout"] == 1


def test_first_message_with_a_bad_token(server: Process) -> None:
    with server.connect() as raw:
        raw.open(headers=[NATIVE])
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": good(iss="x")}))
        close = raw.closed(4501)
        assert json.loads(close.reason) == {"error": "unauthorized", "retryAfter": None}


def test_first_message_of_a_user_with_enough_connections(server: Process) -> None:
    header = ("Authorization", f"Bearer {good('max')}")
    with server.connect() as one, server.connect() as two, server.connect() as three:
        one.open(headers=[header])
        two.open(headers=[header])
        three.open(headers=[NATIVE])
        three.send_frame(TEXT, json.dumps({"type": "auth", "token": good("max")}))
        close = three.closed(1013)
        assert json.loads(close.reason) == {"error": "user_limit", "retryAfter": 10}
        three.send_close(1013)
        assert three.end() == b""
        server.wait_open(2)
    server.wait_open(0)


def test_a_token_that_expires_closes(server: Process) -> None:
    started = time.monotonic()
    headers = {"Authorization": f"Bearer {good(expires_in=1.5)}"}
    with connect(server.url, proxy=None, additional_headers=headers) as client:
        client.recv(20)
        told = json.loads(client.recv(10))
        assert told["type"] == "token_expiring"
        assert 0 <= told["expiresIn"] < 1
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert 0.9 < time.monotonic() - started < 4
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4501
    assert closed.value.rcvd.reason == '{"error":"token_expired","retryAfter":null}'


def test_a_token_of_the_first_message_that_expires_closes(server: Process) -> None:
    with server.connect() as raw:
        raw.open(headers=[NATIVE])
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": good(expires_in=1.5)}))
        types = [json.loads(raw.message())["type"] for _ in range(2)]
        assert types == ["connected", "token_expiring"]
        close = raw.closed(4501)
        assert json.loads(close.reason) == {"error": "token_expired", "retryAfter": None}


def test_client_that_sends_a_newer_token_when_it_is_told_stays(server: Process) -> None:
    with server.connect() as raw:
        raw.open(headers=[NATIVE, ("Authorization", f"Bearer {good(expires_in=2)}")])
        assert json.loads(raw.message())["type"] == "connected"
        assert json.loads(raw.message())["type"] == "token_expiring"
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": good(), "id": 1}))
        assert json.loads(raw.message()) == {"type": "ack", "id": 1}
        time.sleep(1.5)  # the older one has ended
        raw.send_frame(TEXT, json.dumps({"type": "health_ping", "id": 2}))
        assert json.loads(raw.message())["type"] == "health_pong"
