"""Users and their connections."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.node.users import Users


class Device:
    def __init__(self, user: str | None) -> None:
        self.user = user


def device(user: str | None) -> Any:
    return cast(Any, Device(user))


def test_users_with_one_connection_of_a_user_have_it_until_it_is_removed() -> None:
    users: Users[Any] = Users()
    phone = device("ann")
    users.add(phone)
    assert users.of_user("ann") == (phone,)
    assert "ann" in users
    assert len(users) == 1
    users.remove(phone)
    assert users.of_user("ann") == ()
    assert "ann" not in users
    assert len(users) == 0


def test_users_with_several_connections_of_a_user_have_all() -> None:
    users: Users[Any] = Users()
    devices = {device("ann") for _ in range(3)}
    for one in devices:
        users.add(one)
    assert set(users.of_user("ann")) == devices
    assert len(users) == 1


def test_users_with_an_anonymous_connection_stay_empty() -> None:
    users: Users[Any] = Users()
    nobody = device(None)
    users.add(nobody)
    assert len(users) == 0
    users.remove(nobody)


def test_of_user_while_connections_are_removed_does_not_change() -> None:
    # Sending to the devices of a user may close one of them, which removes it.
    users: Users[Any] = Users()
    devices = [device("ann") for _ in range(3)]
    for one in devices:
        users.add(one)
    for one in users.of_user("ann"):
        users.remove(one)
    assert len(users) == 0


USERS = [None, "ann", "bob"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8))))
@settings(max_examples=100)
def test_users_in_any_order_agree_with_plain_sets(steps: list[tuple[bool, int]]) -> None:
    devices = [device(USERS[index % 3]) for index in range(9)]
    users: Users[Any] = Users()
    present: set[Any] = set()
    for add, index in steps:
        one = devices[index]
        if add:
            users.add(one)
            present.add(one)
        else:
            users.remove(one)
            present.discard(one)
        named = {d.user for d in present if d.user is not None}
        assert len(users) == len(named)
        for user in ("ann", "bob"):
            here = users.of_user(user)
            assert set(here) == {d for d in present if d.user == user}
            assert len(here) == len(set(here))
            assert (user in users) is (user in named)
