"""The native protocol as a whole: welcomes and notices, errors, sizes, what is counted."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tests.unit.node.native.native_world import World, error, text_of
from tidegate.core.admission.positions import Status
from tidegate.core.admission.shedding import Profile, Zone
from tidegate.core.codes import REASONS
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import Settings
from tidegate.node.native.page import PublicPage
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.formats import PROTOBUF_V1
from tidegate.wire.handshake import Request
from tidegate.wire.packed import MSGPACK_V1

# The welcome.


def test_opened_connection_is_welcomed() -> None:
    world = World(
        limits={"connections": 3},
        heartbeat={"interval": 25},
        messages={"max_size": 5000},
    )
    world.open("bob")
    assert world.open("ann").take() == [
        {
            "type": "connected",
            "connectionId": "n-2",
            "userId": "ann",
            "settings": {
                "pingInterval": 25,
                "maxMessageSize": 5000,
                "messagesPerSecond": 100,
                "broadcast": True,
            },
            "degraded": False,
            "utilization": 0.6667,
        }
    ]
    assert "ann" in world.users


def test_opened_connection_of_a_node_with_a_route_is_told_it() -> None:
    assert World(server={"route": "node-1"}).open("ann").take()[0]["route"] == "node-1"


def test_opened_connection_without_a_user_is_welcomed_as_nobody(world: World) -> None:
    assert world.open().take()[0]["userId"] is None
    assert len(world.users) == 0


def test_opened_connection_that_must_authenticate_is_told_nothing(world: World) -> None:
    assert world.open(unidentified=True).take() == []


# Waiting.


def test_waiting_connection_is_told_its_position(world: World) -> None:
    peer = world.wait()
    for eta, left in ((None, None), (1.25, 1.2)):
        world.app.waiting(cast(Any, peer), Status(None, 3, 7, 2.04, eta))
        assert peer.take() == [
            {
                "type": "queue_status",
                "position": 3,
                "totalInQueue": 7,
                "waitTime": 2.0,
                "estimatedWaitRemaining": left,
            }
        ]


def test_waiting_connection_may_do_nothing(world: World) -> None:
    peer = world.wait()
    for message in (
        {"type": "join", "room": "lobby", "id": 3},
        {"type": "auth", "token": world.token(), "id": 3},
    ):
        assert world.say(peer, **message) == [error("not_admitted", id=3)]
    assert (peer.rooms, peer.user, peer.open) == ((), None, True)


def test_waiting_connection_that_is_admitted_is_welcomed_then(world: World) -> None:
    peer = world.wait("ann")
    world.admit(peer)
    (connected,) = peer.take()
    assert (connected["type"], connected["userId"]) == ("connected", "ann")
    assert "ann" in world.users


# The drain.


def test_leaving_is_told_with_the_delay(world: World) -> None:
    peer = world.open()
    peer.take()
    world.app.leaving(cast(Any, peer), 12.34567)
    assert peer.take() == [
        {"type": "server_shutdown", "reason": "drained", "reconnectDelay": 12.346}
    ]


@pytest.mark.parametrize(
    ("own", "given", "told"),
    [
        ("", "", {}),
        ("", "b", {"route": "b"}),
        ("a", "b", {"route": "b"}),
        # Where it has a route and the others have none, it must not come back with that.
        ("a", "", {"route": ""}),
    ],
)
def test_moving_is_told_with_the_route_to_come_back_with(
    own: str, given: str, told: dict[str, str]
) -> None:
    world = World(server={"route": own})
    peer = world.open()
    peer.take()
    world.app.moving(cast(Any, peer), 2.0, given)
    assert peer.take() == [
        {"type": "server_shutdown", "reason": "rebalanced", "reconnectDelay": 2.0, **told}
    ]


# Pressure.

PROFILE = Profile(False, 100, 5.0, 120.0)
SETTINGS = {
    "pingInterval": 120.0,
    "maxMessageSize": 100,
    "messagesPerSecond": 5.0,
    "broadcast": False,
}


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_profile_that_changed_sets_the_largest_message(world: World, size: int, fits: bool) -> None:
    ann = world.open("ann")
    ann.take()
    world.app.profile_changed(Zone.EMERGENCY, PROFILE, True)
    text = '{"type":"leave","room":"a","id":1}'.ljust(size)
    (answer,) = world.give(ann, text)
    assert answer["code"] == ("not_joined" if fits else "too_big")


def test_profile_that_changed_is_in_the_welcome_of_new_connections(world: World) -> None:
    world.app.profile_changed(Zone.EMERGENCY, PROFILE, True)
    (connected,) = world.open("ann").take()
    assert connected["degraded"] is True
    assert connected["settings"] == SETTINGS


def test_profile_that_changed_is_told_by_system_where_that_is_asked_for(world: World) -> None:
    ann, bob = world.open("ann"), world.open("bob")
    for peer in (ann, bob):
        peer.take()
    world.app.profile_changed(Zone.EMERGENCY, PROFILE, True)
    assert ann.take() == []
    world.app.tell_profile(cast(Any, ann))
    assert ann.take() == [
        {"type": "system", "zone": "emergency", "degraded": True, "settings": SETTINGS}
    ]
    assert bob.take() == []


def test_profile_that_changed_is_not_told_before_connected(world: World) -> None:
    world.app.profile_changed(Zone.EMERGENCY, PROFILE, True)
    for peer in (world.open(unidentified=True), world.wait()):
        world.app.tell_profile(cast(Any, peer))
        assert peer.take() == []


# Errors.


@pytest.mark.parametrize(
    ("data", "code", "id_"),
    [
        ("nonsense", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        ("[" * 100_000, "invalid_json", None),
        ('{"type":"room_message","room":"a","data":' + "[" * 100_000, "invalid_json", None),
        ('{"type":"dance","id":"x"}', "unknown_type", "x"),
        ('{"type":"join","room":7,"id":"x"}', "invalid_field", "x"),
        ('{"type":"room_message","room":"a","id":8}', "invalid_field", 8),
        ('{"type":"join","room":"\\u0000","id":8}', "invalid_field", 8),
    ],
)
def test_message_with_an_error_is_answered_with_its_id_and_the_connection_stays_open(
    world: World, data: str | bytes, code: str, id_: object
) -> None:
    peer = world.open()
    peer.take()
    (said,) = world.give(peer, data)
    assert (said["type"], said["code"], said.get("id")) == ("error", code, id_)
    assert said["message"]
    assert said["code"] in REASONS
    assert peer.open
    label = "unknown" if code == "unknown_type" else "invalid"
    assert world.stats.messages_received[label] == 1


def test_message_in_binary_is_read_like_text(world: World) -> None:
    peer = world.open()
    peer.take()
    assert world.give(peer, b'{"type":"join","room":"lobby","id":1}') == [
        {"type": "ack", "id": 1, "members": 1}
    ]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"type":"join","room":"aaaa"}', True),
        ('{"type":"join","room":"aaaaa"}', False),
        ('{"type":"join","room":"éé"}', True),
        ('{"type":"join","room":"ééa"}', False),
        ('{"type":"join","room":"\U0001f600"}', True),
    ],
)
def test_message_size_is_counted_in_bytes(text: str, fits: bool) -> None:
    world = World(messages={"max_size": len('{"type":"join","room":"aaaa"}')})
    for data in (text, text.encode()):
        peer = world.open()
        peer.take()
        assert world.give(peer, data) == ([] if fits else [error("too_big")])
    assert world.stats.messages_received["invalid"] == (0 if fits else 2)


def test_message_of_up_to_twice_the_limit_is_read_to_be_answered() -> None:
    assert World(messages={"max_size": 5000}).app.max_message == 10_000


def test_messages_are_counted_by_type_under_a_fixed_set_of_labels(world: World) -> None:
    labels = {
        *("join", "leave", "room_message", "direct_message", "auth"),
        "broadcast",
        "health_ping",
        "history",
        "presence",
        *("unknown", "invalid"),
    }
    assert set(world.stats.messages_received) == labels
    peer = world.member("lobby")
    world.say(peer, type="room_message", room="lobby", data=1)
    world.say(peer, type="dance")
    world.say(peer, type="<made up>")
    world.give(peer, "x")
    counts = dict(world.stats.messages_received)
    assert {label: count for label, count in counts.items() if count} == {
        "join": 1,
        "room_message": 1,
        "unknown": 2,
        "invalid": 1,
    }
    assert set(counts) == labels


@given(st.text(max_size=40) | st.binary(max_size=40))
@settings(max_examples=100)
def test_message_of_any_content_is_answered(data: str | bytes) -> None:
    world = World()
    peer = world.open()
    peer.take()
    assert [message["type"] for message in world.give(peer, data)] == ["error"]


# What the engine and the node ask.


def test_application_says_what_it_speaks(world: World) -> None:
    app = world.app
    assert tuple(app.subprotocols) == (JSON_V1, MSGPACK_V1, PROTOBUF_V1)
    assert app.in_band == {JSON_V1, MSGPACK_V1, PROTOBUF_V1}
    assert app.holds_waiting
    assert app.refuses_early


def test_frame_of_a_publication_holds_one_room_message(world: World) -> None:
    publication = Publication("lobby", Raw(b'{"a": 1}'), "ann", "n-7")
    text = text_of(world.app.frame(publication, JSON_V1))
    expected = '{"type":"room_message","room":"lobby","data":{"a": 1},"from":"ann"'
    assert text == expected + ',"connectionId":"n-7"}'


@pytest.mark.parametrize(("ready", "reason", "status"), [(True, "", 200), (False, "draining", 503)])
def test_request_for_ready_is_answered(world: World, ready: bool, reason: str, status: int) -> None:
    world.health.ready, world.health.reason = ready, reason
    response = world.app.respond(Request("GET", "/ready", "", {"host": "x"}, b""), "10.0.0.1")
    assert response is not None
    assert int(response.split()[1]) == status


def test_request_for_another_path_is_not_answered(world: World) -> None:
    request = Request("GET", "/elsewhere", "", {"host": "x"}, b"")
    assert world.app.respond(request, "10.0.0.1") is None


@pytest.mark.parametrize(("page", "path"), [(True, "/ws"), (False, "/ws"), (True, '/"<b>')])
def test_request_for_the_root_is_answered_by_a_quiet_page(page: bool, path: str) -> None:
    settings = Settings.from_mapping({"server": {"page": page, "path": path}})
    public = PublicPage(settings.server)
    response = public.respond(Request("GET", "/", "", {"host": "x"}, b""))
    assert (response is not None) == page
    if response is not None:
        head, _, body = response.decode().partition("\r\n\r\n")
        assert "text/html" in head
        assert "tidegate.v1.json" in body
        assert "<b>" not in body
        assert "0.1" not in response.decode(), "the version is nobody's business"
