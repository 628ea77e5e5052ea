"""Control: connections are put into rooms and taken out of them, and told so."""

from __future__ import annotations

import pytest

from tests.support.clients import run_guarded
from tests.unit.node.test_sessions import World
from tidegate.errors import UsageError
from tidegate.node.control import Moved, Selector


def test_join_puts_all_connections_of_a_user_into_a_room_and_tells_them() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            other = await world.device("ann")
            control = world.node.control
            assert await control.join(Selector(user="ann"), "team") == Moved("team", 2)
            assert await ann.hear() == {"type": "joined", "room": "team", "members": 1}
            assert await other.hear() == {"type": "joined", "room": "team", "members": 2}
            assert await control.join(Selector(user="ann"), "team") == Moved("team", 0)
            assert await control.join(Selector(id=bob.id), "kept") == Moved("kept", 1)
            assert (await bob.hear())["offset"] == 0
            for device in (ann, bob, other):
                await device.quiet()

    run_guarded(main())


def test_leave_takes_out_those_that_are_chosen_or_all() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                await device.say(type="join", room="lobby")
            control = world.node.control
            assert await control.leave("lobby", Selector(user="ann")) == Moved("lobby", 1)
            assert await ann.hear() == {"type": "left", "room": "lobby", "reason": "removed"}
            await bob.quiet()
            assert await control.leave("lobby") == Moved("lobby", 1)
            assert (await bob.hear())["reason"] == "removed"
            assert await control.leave("lobby") == Moved("lobby", 0)
            assert len(world.node.rooms) == 0

    run_guarded(main())


def test_leave_takes_out_a_client_that_is_away_before_it_comes_back() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                await device.say(type="join", room="lobby")
                await device.say(type="join", room="seen", presence=True)
            await ann.lose()
            await bob.say(type="room_message", room="lobby", data=1)
            for room in ("lobby", "seen"):
                assert await world.node.control.leave(room, Selector(user="ann")) == Moved(room, 1)
            connected = await ann.resume()
            assert connected["rooms"] == []
            await ann.quiet()

    run_guarded(main())


@pytest.mark.parametrize("room", ["", "a\n", "a" * 129])
def test_a_room_that_is_no_name_is_refused(room: str) -> None:
    async def main() -> None:
        async with World() as world:
            with pytest.raises(UsageError, match="room: must have 1 to 128 characters"):
                await world.node.control.join(Selector(user="ann"), room)
            with pytest.raises(UsageError, match="room: must have 1 to 128 characters"):
                await world.node.control.leave(room)

    run_guarded(main())
