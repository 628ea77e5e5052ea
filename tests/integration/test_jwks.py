"""Keys that an issuer publishes over HTTP: rotation, outages, floods, and revoked users."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Start
from tests.support.jwks import ISSUER, JwksServer
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Response

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")


@pytest.fixture
def issuer() -> Iterator[JwksServer]:
    with JwksServer() as server:
        yield server


def ask(server: Process, token: str) -> Response:
    with server.connect() as raw:
        response = raw.ask(headers=[("Authorization", f"Bearer {token}")])
        if response.status == 101:
            raw.send_close()
            raw.closed(1000)
    return response


def test_keys_are_fetched_once_and_only_for_tokens_of_the_issuer(
    serve: Start, issuer: JwksServer
) -> None:
    server = serve({"auth": issuer.auth})
    assert ask(server, issuer.token(iss="https://evil.example")).status == 401
    assert ask(server, "nonsense").status == 401
    assert issuer.requests == 0
    assert [ask(server, issuer.token()).status for _ in range(5)] == [101] * 5
    assert ask(server, issuer.token(aud="other")).status == 401
    assert issuer.requests == 1


def test_a_flood_of_invented_keys_makes_one_request(serve: Start, issuer: JwksServer) -> None:
    server = serve({"auth": issuer.auth})
    assert ask(server, issuer.token()).status == 101
    assert {ask(server, issuer.invented()).status for _ in range(50)} == {401}
    assert ask(server, issuer.token()).status == 101
    assert issuer.requests == 1


def test_a_hanging_issuer_delays_only_its_clients(serve: Start, issuer: JwksServer) -> None:
    issuer.hang.clear()
    secret = "a secret of 32 bytes or more, here"
    server = serve({"auth": {**issuer.auth, "secret": secret, "anonymous": True}})
    with server.connect() as raw:
        raw.send(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Authorization: Bearer " + issuer.token().encode() + b"\r\n\r\n"
        )
        wait_until(lambda: issuer.requests == 1)
        with server.connect() as other:
            other.open()  # while the issuer hangs
        issuer.hang.set()
        assert raw.response().status == 101


def test_an_outage_is_no_wrong_token(serve: Start, issuer: JwksServer) -> None:
    issuer.status = 500
    server = serve({"auth": issuer.auth})
    response = ask(server, issuer.token())
    assert response.status == 503
    assert response.headers["x-rejection-reason"] == "keys_unavailable"
    assert int(response.headers["retry-after"]) >= 1
    # The next one within the cool-down causes no request.
    assert (ask(server, issuer.token()).status, issuer.requests) == (503, 1)
    assert "cannot be used: the status is 500, not 200" in server.log


@pytest.mark.parametrize("answer", ["redirect", "big", "html"])
def test_an_issuer_that_answers_nonsense_is_an_outage(
    serve: Start, issuer: JwksServer, answer: str
) -> None:
    if answer == "redirect":
        issuer.status, issuer.headers = 302, {"Location": issuer.url}
    else:
        issuer.body = b"x" * 2_000_000 if answer == "big" else b"<html>keys</html>"
    server = serve({"auth": issuer.auth})
    assert (ask(server, issuer.token()).status, issuer.requests) == (503, 1)


def test_first_messages_and_newer_tokens_wait_for_the_keys(
    serve: Start, issuer: JwksServer
) -> None:
    issuer.hang.clear()
    server = serve({"auth": issuer.auth})
    with server.connect() as raw:
        raw.open(headers=[NATIVE])
        for number in (1, 2):
            message = {"type": "auth", "token": issuer.token(), "id": number}
            raw.send_frame(TEXT, json.dumps(message))
        second = json.loads(raw.message())
        assert (second["code"], second["id"]) == ("token_unchecked", 2)
        issuer.hang.set()
        assert json.loads(raw.message())["userId"] == "ann"
        assert json.loads(raw.message()) == {"type": "ack", "id": 1}
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": issuer.token(), "id": 3}))
        assert json.loads(raw.message()) == {"type": "ack", "id": 3}
    assert issuer.requests == 1


def test_a_first_message_in_an_outage_may_come_again(serve: Start, issuer: JwksServer) -> None:
    issuer.status = 500
    server = serve({"auth": issuer.auth})
    with server.connect() as raw:
        raw.open(headers=[NATIVE])
        raw.send_frame(TEXT, json.dumps({"type": "auth", "token": issuer.token()}))
        close = raw.closed(1013)
        assert json.loads(close.reason)["error"] == "keys_unavailable"
        assert json.loads(close.reason)["retryAfter"] >= 1


def test_revoke_closes_the_connections_of_a_user_and_refuses_its_tokens(
    serve: Start, issuer: JwksServer
) -> None:
    server = serve({"auth": issuer.auth})
    old = issuer.token(iat=time.time() - 5)
    with server.connect() as ann, server.connect() as bob:
        ann.open(headers=[NATIVE, ("Authorization", f"Bearer {old}")])
        bob.open(headers=[NATIVE, ("Authorization", f"Bearer {issuer.token('bob')}")])
        assert json.loads(ann.message())["type"] == "connected"
        admin = f"http://127.0.0.1:{server.admin_port}"
        command = [sys.executable, "-m", "tidegate", "token", "revoke", "ann", "--admin", admin]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "revoked the tokens of ann, and closed 1 connections\n"
        assert json.loads(ann.closed(4501).reason)["error"] == "token_revoked"
        assert ask(server, old).status == 401
        assert ask(server, issuer.token(iat=time.time() + 1)).status == 101
        ann.send_close(4501)
        wait_until(lambda: [row["user"] for row in server.connections()] == ["bob"])


def test_token_check_fetches_keys_and_names_the_issuer(issuer: JwksServer) -> None:
    environment = {"TIDEGATE_AUTH_ISSUERS": json.dumps(issuer.auth["issuers"])}
    for token, code, said in (
        (issuer.token(), 0, f"signed with key '1' of {ISSUER} (auth.issuers)"),
        (issuer.invented(), 1, "it names no key that is known (kid)"),
        (issuer.token(iss="x"), 1, "its issuer (iss) is none of auth.issuers"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tidegate", "token", "check"],
            input=token,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
