"""Users and their connections."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.node.hub import Hub


class Device:
    def __init__(self, user: str | None) -> None:
        self.user = user


def device(user: str | None) -> Any:
    return cast(Any, Device(user))


def test_a_user_with_one_connection() -> None:
    hub = Hub()
    phone = device("ann")
    hub.add(phone)
    assert hub.of_user("ann") == (phone,)
    assert "ann" in hub
    assert len(hub) == 1
    hub.remove(phone)
    assert hub.of_user("ann") == ()
    assert "ann" not in hub
    assert len(hub) == 0


def test_a_user_with_several_connections() -> None:
    hub = Hub()
    devices = {device("ann") for _ in range(3)}
    for one in devices:
        hub.add(one)
    assert set(hub.of_user("ann")) == devices
    assert len(hub) == 1


def test_anonymous_connections_are_not_in_the_hub() -> None:
    hub = Hub()
    nobody = device(None)
    hub.add(nobody)
    assert len(hub) == 0
    hub.remove(nobody)


def test_the_answer_does_not_change_with_the_hub() -> None:
    # Sending to the devices of a user may close one of them, which removes it.
    hub = Hub()
    devices = [device("ann") for _ in range(3)]
    for one in devices:
        hub.add(one)
    for one in hub.of_user("ann"):
        hub.remove(one)
    assert len(hub) == 0


USERS = [None, "ann", "bob"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8))))
@settings(max_examples=100, deadline=None)
def test_the_hub_agrees_with_plain_sets(steps: list[tuple[bool, int]]) -> None:
    devices = [device(USERS[index % 3]) for index in range(9)]
    hub = Hub()
    present: set[Any] = set()
    for add, index in steps:
        one = devices[index]
        if add:
            hub.add(one)
            present.add(one)
        else:
            hub.remove(one)
            present.discard(one)
        users = {d.user for d in present if d.user is not None}
        assert len(hub) == len(users)
        for user in ("ann", "bob"):
            here = hub.of_user(user)
            assert set(here) == {d for d in present if d.user == user}
            assert len(here) == len(set(here))
            assert (user in hub) is (user in users)
