"""What a request may carry beside itself: tokens, subprotocols and extensions."""

from __future__ import annotations

import pytest
from door import Door, as_protocol, bearer
from tests.support.raw import KEY

from tidegate.engine.door import Grant
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.handshake import accept_response


def test_an_identity() -> None:
    door = Door(tiers={"free": {"per_user": 2}})
    grant = door.let_in(bearer(door.token("ann", "free", lifetime=60)))
    assert (grant.lease.user, grant.lease.tier) == ("ann", "free")
    assert grant.expires_in is not None
    assert 50 < grant.expires_in <= 60
    assert not grant.pending_auth


@pytest.mark.parametrize(
    ("header", "protocol", "query", "query_allowed", "user"),
    [
        ("ann", None, None, False, "ann"),
        (None, "bob", None, False, "bob"),
        (None, None, "cat", True, "cat"),
        (None, None, "cat", False, None),
        ("ann", "bob", "cat", True, "ann"),
        (None, "bob", "cat", True, "bob"),
        # A token that is not valid is not made good by another one.
        ("", "bob", "cat", True, "refused"),
        ("expired", "bob", None, False, "refused"),
        (None, "expired", "cat", True, "refused"),
        (None, None, "expired", True, "refused"),
        ("forged", None, None, False, "refused"),
    ],
)
def test_where_a_token_is_looked_for(
    header: str | None,
    protocol: str | None,
    query: str | None,
    query_allowed: bool,
    user: str | None,
) -> None:
    door = Door(auth={"query_token": query_allowed}, subprotocols=("chat",))

    def token(name: str) -> str:
        if name == "forged":
            return door.token()[:-4] + "AAAA"
        return name and door.token(name, lifetime=-1 if name == "expired" else 60)

    offered = "chat" if query else None
    if protocol is not None:
        offered = f"chat, {as_protocol(token(protocol))}"
    verdict = door.knock(
        *([] if header is None else [bearer(token(header))]),
        protocols=offered,
        path="/ws" if query is None else f"/ws?token={token(query)}",
    )
    if user == "refused":
        assert not isinstance(verdict, Grant)
        assert door.counted() == {"unauthorized": 1}
    else:
        assert isinstance(verdict, Grant)
        assert verdict.lease.user == user


@pytest.mark.parametrize("first_message", [False, True])
@pytest.mark.parametrize("native", [False, True])
def test_anonymous_clients_where_they_are_not_allowed(first_message: bool, native: bool) -> None:
    auth = {"anonymous": False, "first_message": first_message}
    door = Door(auth=auth, subprotocols=(JSON_V1,))
    verdict = door.knock(protocols=JSON_V1 if native else None)
    if native and first_message:
        assert isinstance(verdict, Grant)
        assert verdict.pending_auth
        assert verdict.lease.user is None
        return
    assert not isinstance(verdict, Grant)
    if native:
        assert verdict.close == (4001, {"error": "unauthorized", "retryAfter": None})
    else:
        assert verdict.status == 401
        assert verdict.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_native_client_with_a_token_has_nothing_more_to_show() -> None:
    door = Door(auth={"anonymous": False}, subprotocols=(JSON_V1,))
    assert not door.let_in(bearer(door.token()), protocols=JSON_V1).pending_auth


# What is agreed on.


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        ((), "chat", None),
        (("chat",), None, None),
        (("chat",), "other", None),
        (("chat",), "chat", "chat"),
        (("chat", "other"), "other, chat", "chat"),
        (("new", "old"), "old", "old"),
        ((JSON_V1,), f"x, {JSON_V1}", JSON_V1),
    ],
)
def test_the_subprotocol(spoken: tuple[str, ...], offered: str | None, chosen: str | None) -> None:
    grant = Door(subprotocols=spoken).let_in(protocols=offered)
    assert grant.subprotocol == chosen
    assert grant.response == accept_response(KEY, chosen)


def test_a_token_is_never_echoed() -> None:
    door = Door(subprotocols=("chat",))
    token = door.token()
    grant = door.let_in(protocols=as_protocol(token))
    assert grant.subprotocol is None
    assert token.encode() not in grant.response
    door.admission.draining = True
    for where in ({"protocols": f"{as_protocol(token)}"}, {"path": f"/ws?token={token}"}):
        assert token not in str(door.refused(**where))


@pytest.mark.parametrize(
    ("enabled", "offer", "agreed"),
    [
        (False, "permessage-deflate", False),
        (True, None, False),
        (True, "permessage-deflate", True),
        (True, "x-other", False),
        (True, "((", False),
    ],
)
def test_compression(enabled: bool, offer: str | None, agreed: bool) -> None:
    door = Door(deflate={"enabled": enabled})
    grant = door.let_in(*([] if offer is None else [("Sec-WebSocket-Extensions", offer)]))
    assert (grant.deflate is not None) == agreed
    assert (b"Sec-WebSocket-Extensions: permessage-deflate" in grant.response) == agreed
