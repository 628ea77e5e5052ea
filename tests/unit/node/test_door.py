"""From a request to bytes: what is granted, and what everybody else is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.raw import KEY, upgrade
from tests.unit.node.door import PEER, SECRET, Door, Refused, bearer, read
from tidegate.core.admission.attempt import Identity
from tidegate.core.codes import REASONS, Refusal
from tidegate.engine.door import Grant
from tidegate.engine.states import Admission
from tidegate.node import door as module
from tidegate.wire.codecs import JSON_V1, NEUTRAL_V1
from tidegate.wire.handshake import HandshakeError, accept_response, http_response, parse_request

ANN = Identity("ann")


def refusal_row(reason: str) -> Refusal:
    row = REASONS[reason]
    assert isinstance(row, Refusal)
    return row


def test_a_door_for_any_path_keeps_one_string_of_each_and_not_too_many() -> None:
    door = Door(server={"path": ""}, limits={"per_ip": 10_000})
    first, again = [door.let_in(path="/room/" + str(7)).path for _ in range(2)]
    assert first is again == "/room/7"
    for number in range(2 * module._PATHS):
        door.let_in(path=f"/{number}")
    assert len(door.door._paths) == module._PATHS


def test_a_grant() -> None:
    door = Door()
    grant = door.let_in()
    assert grant.response == accept_response(KEY)
    assert (grant.lease.address, grant.lease.user, grant.path) == (PEER, None, "/ws")
    assert grant.path is door.settings.server.path, "one string for all connections"
    assert (grant.subprotocol, grant.deflate) == (None, None)
    assert (grant.admission, grant.expires_in) == (Admission.ADMITTED, None)
    assert grant.held is None
    assert door.tracker.ip_count(PEER) == 1
    assert door.counted() == {}


# Requests that are no valid handshake.


@pytest.mark.parametrize(
    ("request_", "reason", "headers"),
    [
        ({"method": "POST"}, "method_not_allowed", {"Allow": "GET"}),
        ({"replace": {"Upgrade": None}}, "upgrade_required", {"Upgrade": "websocket"}),
        (
            {"replace": {"Sec-WebSocket-Version": "8"}},
            "upgrade_required",
            {"Sec-WebSocket-Version": "13"},
        ),
        ({"replace": {"Sec-WebSocket-Key": "short"}}, "bad_request", {}),
        ({"protocols": "a, a"}, "bad_request", {}),
    ],
)
@pytest.mark.parametrize("in_band", [False, True])
def test_not_a_handshake(
    request_: dict[str, Any], reason: str, headers: dict[str, str], in_band: bool
) -> None:
    """The answer is an HTTP one for everybody: without a valid handshake there is no frame."""
    door = Door(subprotocols=(JSON_V1,))
    if in_band:
        request_ = {"protocols": JSON_V1, **request_}
    refused = door.refused(**request_)
    row = refusal_row(reason)
    assert refused.status == row.status
    assert refused.headers["X-Rejection-Reason"] == reason
    assert refused.headers["Content-Type"] == "application/json"
    assert refused.headers.items() >= headers.items()
    body = dict(refused.body)
    assert body.pop("detail")
    assert body == {"error": reason, "message": row.message, "retryAfter": None}
    assert door.counted() == {reason: 1}


@pytest.mark.parametrize("path", ["/other", "/ws/", "/WS"])
@pytest.mark.parametrize("in_band", [False, True])
def test_at_another_path(path: str, in_band: bool) -> None:
    door = Door(subprotocols=(JSON_V1,))
    refused = door.refused(path=path, protocols=JSON_V1 if in_band else None)
    if in_band:
        assert refused.close == (1008, {"error": "not_found", "retryAfter": None})
    else:
        assert (refused.status, refused.body["error"]) == (404, "not_found")
    half = door.refused(path=path, protocols=JSON_V1, replace={"Sec-WebSocket-Key": "short"})
    assert half.status == 404, "without a valid handshake there is no frame"
    assert door.counted() == {"not_found": 2}


@pytest.mark.parametrize("path", ["/", "/any", "/ws"])
def test_any_path(path: str) -> None:
    assert Door(server={"path": ""}).let_in(path=path + "?x=1").path == path


# Refusals.

LIMITED: dict[str, Any] = {
    "limits": {"connections": 5, "per_ip": 3, "per_user": 2},
    "tiers": {"free": {"connections": 1}},
}


def drain(door: Door) -> None:
    door.admission.draining = True


def crowd(door: Door) -> None:
    for number in range(5):
        door.fill(1, f"198.51.100.{number}")


@pytest.mark.parametrize(
    ("reason", "prepare", "tier", "limit"),
    [
        (
            "server_limit",
            lambda door: [door.fill(1, f"192.0.2.{n}") for n in range(10, 15)],
            None,
            5,
        ),
        ("ip_limit", lambda door: door.fill(3), None, 3),
        ("user_limit", lambda door: door.fill(2, "192.0.2.9", ANN), None, 2),
        ("tier_limit", lambda door: door.fill(1, "192.0.2.9", Identity("bob", "free")), "free", 1),
        ("draining", drain, None, None),
    ],
)
@pytest.mark.parametrize("in_band", [False, True])
def test_limits(
    reason: str, prepare: Callable[[Door], Any], tier: str | None, limit: int | None, in_band: bool
) -> None:
    door = Door(subprotocols=(JSON_V1,), **LIMITED)
    prepare(door)
    refused = door.refused(bearer(door.token("ann", tier)), protocols=JSON_V1 if in_band else None)
    row = refusal_row(reason)
    assert door.counted() == {reason: 1}
    if in_band:
        assert refused.close == (1013, {"error": reason, "retryAfter": row.retry_after})
        return
    assert refused.status == row.status
    assert refused.body == {"error": reason, "message": row.message, "retryAfter": row.retry_after}
    assert refused.headers["X-Rejection-Reason"] == reason
    assert refused.headers["Retry-After"] == str(row.retry_after)
    assert refused.headers["Cache-Control"] == "no-store"
    if limit is None:
        assert "X-RateLimit-Limit" not in refused.headers
        assert "X-RateLimit-Remaining" not in refused.headers
    else:
        assert refused.headers["X-RateLimit-Limit"] == str(limit)
        assert refused.headers["X-RateLimit-Remaining"] == "0"


def test_a_slot_is_told_in_tenths_where_that_can_be_said() -> None:
    """HTTP has whole seconds: rounded up, never down."""
    door = Door(subprotocols=(JSON_V1,), pacing={"enabled": True, "rate": 0.8, "burst": 1})
    door.let_in(bearer(door.token("ann")))
    in_band = door.refused(bearer(door.token("ann")), protocols=JSON_V1)
    assert in_band.close == (1013, {"error": "rate_limited", "retryAfter": 1.3})
    other = door.refused(bearer(door.token("ann")))
    assert (other.headers["Retry-After"], other.body["retryAfter"]) == ("3", 3)


@pytest.mark.parametrize(
    ("reason", "headers", "close"),
    [
        ("unauthorized", [bearer("no token")], 4501),
        ("origin", [("Origin", "https://evil.example")], 1008),
    ],
)
def test_who_should_not_come_back(reason: str, headers: list[tuple[str, str]], close: int) -> None:
    door = Door(subprotocols=(JSON_V1,))
    row = refusal_row(reason)
    refused = door.refused(*headers)
    assert refused.status == row.status
    assert refused.body == {"error": reason, "message": row.message, "retryAfter": None}
    assert "Retry-After" not in refused.headers
    assert ("WWW-Authenticate" in refused.headers) == (reason == "unauthorized")
    in_band = door.refused(*headers, protocols=f"chat, {JSON_V1}")
    assert in_band.close == (close, {"error": reason, "retryAfter": None})
    assert door.counted() == {reason: 2}


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("chat", "chat"),
        (f"{JSON_V1}, chat", "chat"),
        (f"{NEUTRAL_V1}, chat", "chat"),
        (NEUTRAL_V1, NEUTRAL_V1),
        (f"tidegate.token.x, {NEUTRAL_V1}", NEUTRAL_V1),
        (f"other, {NEUTRAL_V1}", NEUTRAL_V1),
        (JSON_V1, None),
        ("tidegate.token.x", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("refuse", ["in-band", "http"])
def test_clients_of_a_subprotocol_that_is_spoken_here_are_told_in_band(
    offered: str | None, agreed: str | None, refuse: str
) -> None:
    door = Door(subprotocols=("chat",), server={"refuse": refuse})
    drain(door)
    refused = door.refused(protocols=offered)
    if agreed is None or refuse == "http":
        assert (refused.status, refused.close) == (503, None)
    else:
        assert refused.close == (1013, {"error": "draining", "retryAfter": 5})
        assert refused.subprotocol == agreed
    assert door.counted() == {"draining": 1}


def test_a_refusal_in_band_gives_no_right_to_say_later_who_one_is() -> None:
    """Only the native protocol has a message for that."""
    door = Door(subprotocols=("chat",), auth={"anonymous": False, "first_message": True})
    for offered in ("chat", NEUTRAL_V1):
        refused = door.refused(protocols=offered)
        assert refused.close == (4501, {"error": "unauthorized", "retryAfter": None})


@pytest.mark.parametrize(
    ("spoken", "offered", "origin", "hints"),
    [
        ((), "tidegate.token.x", True, 1),
        (("chat",), "other, tidegate.token.x", True, 1),
        ((), "other", True, 1),
        ((), "tidegate.token.x", False, 0),
        ((), f"tidegate.token.x, {NEUTRAL_V1}", True, 0),
        (("chat",), "chat, tidegate.token.x", True, 0),
        ((), None, True, 0),
    ],
)
def test_a_page_whose_browser_will_fail_the_connection_is_logged_once(
    caplog: pytest.LogCaptureFixture,
    spoken: tuple[str, ...],
    offered: str | None,
    origin: bool,
    hints: int,
) -> None:
    door = Door(subprotocols=spoken)
    headers = [("Origin", "http://127.0.0.1")] if origin else []
    for _ in range(3):
        door.knock(*headers, protocols=offered)
    assert len(caplog.messages) == hints
    assert all("tidegate.v1" in text and "tidegate.token" not in text for text in caplog.messages)


STEPS = ["not_found", "method_not_allowed", "origin", "draining", "ip_limit", "unauthorized"]
STEPS += ["server_limit"]


@pytest.mark.parametrize("reason", STEPS)
def test_the_first_step_that_refuses_answers(reason: str) -> None:
    """Everything is wrong from this step on; cheap steps come first, and limits last."""
    wrong = STEPS[STEPS.index(reason) :]
    limits = {"connections": 1, "per_ip": 1 if "ip_limit" in wrong else 9}
    door = Door(limits=limits)
    door.fill(1)
    door.admission.draining = "draining" in wrong
    headers = []
    if "origin" in wrong:
        headers.append(("Origin", "https://evil.example"))
    if "unauthorized" in wrong:
        headers.append(bearer("no token"))
    door.refused(
        *headers,
        path="/other" if "not_found" in wrong else "/ws",
        method="PUT" if "method_not_allowed" in wrong else "GET",
    )
    assert door.counted() == {reason: 1}


def test_refusals_that_no_request_led_to() -> None:
    door = Door()
    timed_out = read(door.door.timed_out(PEER))
    assert (timed_out.status, timed_out.body["error"]) == (408, "handshake_timeout")
    full = read(door.door.no_descriptor(None, PEER))
    assert (full.status, full.headers["Retry-After"]) == (503, "5")
    malformed = read(door.door.malformed(HandshakeError("headers_too_large", "x"), PEER))
    assert (malformed.status, malformed.body["error"]) == (431, "headers_too_large")
    crowded = read(door.door.crowded(PEER))
    assert (crowded.status, crowded.body["error"]) == (429, "ip_limit")
    assert door.counted() == {
        "handshake_timeout": 1,
        "server_limit": 1,
        "headers_too_large": 1,
        "ip_limit": 1,
    }


def test_plain_http_is_answered_without_a_descriptor_for_a_connection() -> None:
    door = Door(http=lambda request: b"fine" if request.path == "/health" else None)

    def asked(path: str, **options: Any) -> bytes:
        request = parse_request(upgrade(path=path, **options))
        assert request is not None
        return door.door.no_descriptor(request, PEER)

    plain = {"Upgrade": None, "Connection": None}
    page = [("Sec-WebSocket-Protocol", NEUTRAL_V1)]
    assert asked("/health", replace=plain) == b"fine"
    assert door.counted() == {}
    for response in (asked("/other", replace=plain), asked("/ws"), asked("/health")):
        assert read(response).body["error"] == "server_limit"
    told = read(asked("/ws", headers=page)).close
    assert told == (1013, {"error": "server_limit", "retryAfter": 5})
    assert door.counted() == {"server_limit": 4}


def test_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    refused = read(door.door.failed(RuntimeError("swordfish")))
    assert refused.status == 500
    assert refused.body["error"] == "internal_error"
    assert refused.headers["Retry-After"] == "5"
    assert "swordfish" not in json.dumps(refused.body)
    assert caplog.records[0].exc_info is not None
    assert door.counted() == {"internal_error": 1}


# Origins.


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([], None, True),
        ([], "http://127.0.0.1", True),
        ([], "https://127.0.0.1", True),
        ([], "http://other.example", False),
        ([], "null", False),
        (["https://a.example"], None, True),
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://a.example.evil", False),
        (["https://a.example"], "http://127.0.0.1", False),
        (["*"], "https://any.example", True),
        (["https://*.A.example:443"], "https://x.a.example", True),
        (["https://*.a.example"], "https://a.example", False),
        (["file://"], "file://", True),
    ],
)
def test_origins(origins: list[str], origin: str | None, allowed: bool) -> None:
    door = Door(server={"origins": origins})
    answer = door.knock(*([] if origin is None else [("Origin", origin)]))
    assert isinstance(answer, Grant) == allowed
    assert door.counted() == ({} if allowed else {"origin": 1})


# Plain HTTP.


def test_plain_requests_go_to_the_application_first() -> None:
    asked: list[str] = []

    def http(request: Any) -> bytes | None:
        asked.append(request.path)
        return http_response(200, b"{}") if request.path in ("/health", "/ws") else None

    door = Door(http=http)
    plain = {"Upgrade": None, "Connection": None}
    assert door.refused(path="/health", replace=plain).status == 200
    assert door.refused(path="/ws", replace=plain).status == 200
    assert door.counted() == {}
    assert door.refused(path="/icon", replace=plain).status == 404
    assert door.counted() == {}  # that was no attempt to connect
    assert door.refused(path="/other").status == 404
    assert door.counted() == {"not_found": 1}
    assert asked == ["/health", "/ws", "/icon", "/other"]
    assert door.refused(replace={"Sec-WebSocket-Version": "8"}).status == 426
    door.let_in()
    assert len(asked) == 4


# Addresses.


@pytest.mark.parametrize(
    ("trusted", "style", "peer", "header", "address"),
    [
        ([], "x-forwarded-for", PEER, "198.51.100.7", PEER),
        (["203.0.113.0/24"], "x-forwarded-for", PEER, "198.51.100.7", PEER),
        (["192.0.2.0/24"], "x-forwarded-for", PEER, "198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24"], "x-forwarded-for", PEER, "10.0.0.1, 198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24"], "x-forwarded-for", PEER, "198.51.100.7, 192.0.2.8", "198.51.100.7"),
        (["192.0.2.0/24"], "forwarded", PEER, "for=198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24"], "forwarded", PEER, "nonsense", PEER),
    ],
)
def test_proxies(trusted: list[str], style: str, peer: str, header: str, address: str) -> None:
    door = Door(proxies={"trusted": trusted, "header": style})
    assert door.let_in((style, header), peer=peer).lease.address == address
    assert door.door.trusts(peer) == ("192.0.2.0/24" in trusted)


def test_an_untrusted_peer_cannot_pass_the_limit_with_other_addresses() -> None:
    door = Door(limits={"per_ip": 2}, proxies={"trusted": ["203.0.113.1"]})
    for number in range(5):
        door.knock(("X-Forwarded-For", f"198.51.100.{number}"))
    assert door.tracker.open == 2
    for number in range(5):
        door.let_in(("X-Forwarded-For", f"198.51.100.{number}"), peer="203.0.113.1")
    assert door.tracker.open == 7


# Anything at once.


@given(
    knocks=st.lists(
        st.fixed_dictionaries(
            {
                "path": st.sampled_from(["/ws", "/ws", "/ws", "/other"]),
                "method": st.sampled_from(["GET", "GET", "GET", "HEAD"]),
                "origin": st.sampled_from([None, None, "http://127.0.0.1", "https://evil.example"]),
                "token": st.sampled_from([None, "ann", "bob", "expired", "bad"]),
                "tier": st.sampled_from([None, "free"]),
                "protocols": st.sampled_from([None, "chat", JSON_V1]),
                "peer": st.sampled_from([PEER, "192.0.2.2"]),
                "leaves": st.booleans(),
            }
        ),
        max_size=30,
    ),
    draining_from=st.integers(0, 40),
)
@settings(max_examples=30)
def test_every_attempt_is_counted_once_and_limits_hold(
    knocks: list[dict[str, Any]], draining_from: int
) -> None:
    door = Door(
        subprotocols=(JSON_V1,),
        limits={"connections": 6, "per_ip": 4, "per_user": 3},
        tiers={"free": {"per_user": 1, "reserved": 0.2}},
    )
    inside: list[Grant] = []
    for number, knock in enumerate(knocks):
        if number == draining_from:
            drain(door)
        headers = []
        if knock["origin"] is not None:
            headers.append(("Origin", knock["origin"]))
        if knock["token"] == "bad":
            headers.append(bearer(SECRET))
        elif knock["token"] is not None:
            lifetime = -1 if knock["token"] == "expired" else 60
            headers.append(bearer(door.token(knock["token"], knock["tier"], lifetime)))
        answer = door.knock(
            *headers, **{key: knock[key] for key in ("path", "method", "protocols", "peer")}
        )
        if isinstance(answer, Grant):
            inside.append(answer)
            assert number < draining_from
        else:
            assert isinstance(answer, Refused)
            told = answer.body["error"] if answer.close is None else answer.close[1]["error"]
            assert isinstance(REASONS[told], Refusal)
        assert door.tracker.open == len(inside) <= 6
        assert all(door.tracker.ip_count(peer) <= 4 for peer in (PEER, "192.0.2.2"))
        assert all(door.tracker.user_count(user) <= 3 for user in ("ann", "bob"))
        assert door.stats.accepted + sum(door.stats.rejected.values()) == number + 1
        if inside and knock["leaves"]:
            assert door.tracker.release(inside.pop().lease)
