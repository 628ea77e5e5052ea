"""What a request may carry beside itself: tokens, subprotocols and extensions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.raw import KEY
from tests.unit.node.door import PEER, Door, Refused, as_protocol, bearer
from tidegate.engine.door import Grant
from tidegate.engine.states import Admission
from tidegate.wire.codecs import JSON_V1, NEUTRAL_V1
from tidegate.wire.handshake import accept_response


def test_an_identity() -> None:
    door = Door(tiers={"free": {"per_user": 2}})
    grant = door.let_in(bearer(door.token("ann", "free", lifetime=60)))
    assert (grant.lease.user, grant.lease.tier) == ("ann", "free")
    assert grant.expires_in is not None
    assert 50 < grant.expires_in <= 60
    assert grant.admission is Admission.ADMITTED


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
    answer = door.knock(
        *([] if header is None else [bearer(token(header))]),
        protocols=offered,
        path="/ws" if query is None else f"/ws?token={token(query)}",
    )
    if user == "refused":
        assert isinstance(answer, Refused)
        assert door.counted() == {"unauthorized": 1}
    else:
        assert isinstance(answer, Grant)
        assert answer.lease.user == user


@pytest.mark.parametrize("first_message", [False, True])
@pytest.mark.parametrize("in_band", [False, True])
def test_anonymous_clients_where_they_are_not_allowed(first_message: bool, in_band: bool) -> None:
    auth = {"anonymous": False, "first_message": first_message}
    door = Door(auth=auth, subprotocols=(JSON_V1,))
    answer = door.knock(protocols=JSON_V1 if in_band else None)
    if in_band and first_message:
        assert isinstance(answer, Grant)
        assert answer.admission is Admission.UNIDENTIFIED
        assert answer.lease.user is None
        return
    assert isinstance(answer, Refused)
    if in_band:
        assert answer.close == (4501, {"error": "unauthorized", "retryAfter": None})
    else:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_an_in_band_client_with_a_token_has_nothing_more_to_show() -> None:
    door = Door(auth={"anonymous": False}, subprotocols=(JSON_V1,))
    grant = door.let_in(bearer(door.token()), protocols=JSON_V1)
    assert grant.admission is Admission.ADMITTED


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
        ((), NEUTRAL_V1, NEUTRAL_V1),
        ((), f"tidegate.token.x, {NEUTRAL_V1}", NEUTRAL_V1),
        (("chat",), f"{NEUTRAL_V1}, chat", "chat"),
        ((NEUTRAL_V1, "chat"), f"chat, {NEUTRAL_V1}", NEUTRAL_V1),
    ],
)
def test_the_subprotocol(spoken: tuple[str, ...], offered: str | None, chosen: str | None) -> None:
    door = Door(subprotocols=spoken)
    if offered is not None:
        offered = offered.replace("tidegate.token.x", as_protocol(door.token()))
    grant = door.let_in(protocols=offered)
    assert grant.subprotocol == chosen
    assert grant.response == accept_response(KEY, chosen)


def test_a_token_in_the_query_needs_no_subprotocol() -> None:
    door = Door(auth={"query_token": True})
    assert door.let_in(path=f"/ws?token={door.token('cat')}").lease.user == "cat"


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


def test_a_refusal_in_band_agrees_on_no_compression() -> None:
    """The close frame is the only one; and the door reads the answer as one without extensions."""
    door = Door(deflate={"enabled": True}, subprotocols=(JSON_V1,))
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate")
    assert door.let_in(offer, protocols=JSON_V1).deflate is not None
    door.admission.draining = True
    assert door.refused(offer, protocols=JSON_V1).close is not None


# Waiting.

ROOM: dict[str, Any] = {"limits": {"connections": 1}, "waiting_room": {"enabled": True}}


def test_a_client_that_is_held_is_granted_without_a_lease() -> None:
    door = Door(subprotocols=(JSON_V1,), deflate={"enabled": True}, **ROOM)
    door.fill(1, "192.0.2.9")
    grant = door.held(
        bearer(door.token("ann", "free")),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        protocols=JSON_V1,
    )
    assert grant.admission is Admission.WAITING
    assert (grant.lease.address, grant.lease.user, grant.lease.tier) == (PEER, "ann", "free")
    assert (grant.held.position, grant.held.unidentified) == (1, False)
    assert (grant.path, grant.subprotocol, grant.expires_in) == ("/ws", JSON_V1, None)
    assert grant.deflate is not None
    assert grant.response.startswith(b"HTTP/1.1 101 ")
    assert door.counted() == {}


@pytest.mark.parametrize(("holds", "protocols"), [(True, None), (False, JSON_V1)])
def test_a_client_that_cannot_be_held_is_sent_away_with_a_ticket(
    holds: bool, protocols: str | None
) -> None:
    """By HTTP, also where it is told refusals in-band: a close frame has no room for a ticket.

    A page is told in-band, because it can neither read the ticket nor send it.
    """
    door = Door(subprotocols=(JSON_V1,), holds_waiting=holds, **ROOM)
    door.fill(1, "192.0.2.9")
    first = door.refused(protocols=protocols)
    assert first.status == 503
    assert first.headers["X-Rejection-Reason"] == "waiting"
    assert (first.headers["X-Queue-Position"], first.headers["Retry-After"]) == ("1", "5")
    assert first.headers["Cache-Control"] == "no-store"
    assert (first.body["error"], first.body["retryAfter"]) == ("waiting", 5)
    assert door.refused(peer="192.0.2.2").headers["X-Queue-Position"] == "2"
    again = door.refused(("X-Queue-Ticket", first.headers["X-Queue-Ticket"]), protocols=protocols)
    assert again.headers["X-Queue-Position"] == "1"
    page = door.refused(("Origin", "http://127.0.0.1"), protocols=protocols, peer="192.0.2.3")
    if protocols is None:
        assert page.status == 503
    else:
        assert page.close == (1013, {"error": "waiting", "retryAfter": 5})
    assert door.counted() == {"waiting": 4}
