"""Messages to users: to which connections they go, and what their sender is told."""

from __future__ import annotations

from tests.unit.node.native.native_world import World
from tidegate.core.codes import NORMAL


def test_direct_message_reaches_all_connections_of_its_user(world: World) -> None:
    ann = world.open("ann")
    phone, laptop, eve = world.open("bob"), world.open("bob"), world.open("eve")
    for peer in (ann, phone, laptop, eve):
        peer.take()
    said = world.say(ann, type="direct_message", user="bob", data="hi", id=1)
    assert said == [{"type": "ack", "id": 1, "delivered": 2}]
    expected = {"type": "direct_message", "data": "hi", "from": "ann", "connectionId": ann.id}
    assert phone.take() == laptop.take() == [expected]
    assert eve.take() == []


def test_direct_message_to_nobody_is_delivered_to_none(world: World) -> None:
    ann = world.open("ann")
    ann.take()
    said = world.say(ann, type="direct_message", user="nobody", data=1, id=1)
    assert said == [{"type": "ack", "id": 1, "delivered": 0}]
    assert world.say(ann, type="direct_message", user="nobody", data=1) == []


def test_direct_message_to_a_closing_connection_passes_it_by(world: World) -> None:
    ann, phone, laptop = world.open("ann"), world.open("bob"), world.open("bob")
    ann.take()
    phone.end(NORMAL)
    said = world.say(ann, type="direct_message", user="bob", data=1, id=1)
    assert said == [{"type": "ack", "id": 1, "delivered": 1}]
    assert laptop.take()[-1]["data"] == 1


def test_direct_message_may_end_the_connections_it_goes_to(world: World) -> None:
    ann = world.open("ann")
    devices = [world.open("bob") for _ in range(3)]
    for device in devices:
        device.on_send = lambda device=device: world.leave(device)  # type: ignore[misc]
    world.say(ann, type="direct_message", user="bob", data=1)
    assert "bob" not in world.users
    assert not any(device.open for device in devices)


def test_direct_message_to_its_own_sender_reaches_it(world: World) -> None:
    ann = world.open("ann")
    ann.take()
    (said,) = world.say(ann, type="direct_message", user="ann", data=[1])
    assert (said["type"], said["data"], said["from"]) == ("direct_message", [1], "ann")


def test_direct_message_of_an_anonymous_client_is_refused_unless_that_is_allowed() -> None:
    for allowed in (False, True):
        world = World(anonymous={"direct": allowed})
        bob, anonymous = world.open("bob"), world.open()
        bob.take()
        anonymous.take()
        said = world.say(anonymous, type="direct_message", user="bob", data=1, id=1)
        if allowed:
            assert said == [{"type": "ack", "id": 1, "delivered": 1}]
            assert bob.take()[-1]["from"] is None
        else:
            assert (said[0]["code"], said[0]["id"]) == ("not_allowed", 1)
            assert bob.take() == []
