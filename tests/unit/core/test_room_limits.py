"""What people are told about the limits of a room."""

from __future__ import annotations

from tidegate.core.messaging.room_rates import RoomRates
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.messaging.rules import Rules
from tidegate.core.room_limits import explain_limits
from tidegate.core.settings.rooms import RoomRule


class Member:
    def __init__(self) -> None:
        self.rooms: tuple[str, ...] = ()


def test_limits_are_explained_with_what_counts_in_them() -> None:
    rule = RoomRule("seat:*", members=2, members_per_user=1, publish_per_second=2, publish_burst=1)
    rules = Rules([rule])
    rooms, rates = Rooms[Member](99, 9, rules, rooms_per_user=2), RoomRates(rules)
    devices = [Member()]
    rooms.join(devices[0], "seat:1", devices)
    rooms.join(devices[0], "hall", devices)

    def explained(room: str, now: float) -> list[tuple[str, bool, str]]:
        steps = explain_limits(rooms, rates, rules, room, devices, now)
        return [(step.name, step.passed, step.detail) for step in steps]

    rate = "2 messages a second, 1 at once: the next one may come"
    assert explained("seat:1", 5.0) == [
        ("members", True, "1 of 2 members"),
        ("user_members", False, "1 of 1 members of the user"),
        ("user_rooms", True, "1 of 2 other rooms of the user"),
        ("publish_rate", True, f"{rate} now"),
    ]
    rates.take("seat:1", 5.0)
    assert explained("seat:1", 5.1)[3] == ("publish_rate", False, f"{rate} in 0.4 s")
    assert explained("lobby", 5.0) == [
        ("members", True, "0 of 99 members"),
        ("user_members", True, "0 members of the user; there is no limit"),
        ("user_rooms", False, "2 of 2 other rooms of the user"),
        ("publish_rate", True, "there is no limit"),
    ]
    assert (rooms.refused.total(), rates.refused) == (0, 0)
