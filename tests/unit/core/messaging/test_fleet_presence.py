"""Who is in a room on any node: once for a user, whichever nodes it is on."""

from __future__ import annotations

from random import Random

import pytest

from tidegate.core.messaging.fleet_presence import FleetPresence
from tidegate.core.messaging.presence import Change, Present


def test_a_user_of_two_nodes_joins_once_and_leaves_with_the_last() -> None:
    presence = FleetPresence()
    presence.join("r", "ann", b"{}")
    assert presence.take("r") == Change([Present("ann", 1, b"{}")], [], 1)
    assert presence.others("r", "n2", [Present("ann", 2, None), Present("bob", 1, None)], (), False)
    assert presence.take("r") == Change([Present("bob", 1, None)], [], 2)
    assert list(presence.users("r")) == [Present("ann", 3, b"{}"), Present("bob", 1, None)]
    presence.leave("r", "ann", 0.0, 0.0)
    assert presence.take("r") is None
    assert not presence.others("r", "n2", (), ("ann", "bob"), False)
    assert presence.take("r") == Change([], ["ann", "bob"], 0)
    assert presence.take_own("r") == ([], ["ann"])
    assert len(presence) == 0


def test_a_user_that_comes_to_another_node_within_the_grace_time_does_not_leave() -> None:
    presence = FleetPresence()
    presence.join("r", "ann")
    presence.take("r")
    presence.leave("r", "ann", 10.0, 5.0)
    assert presence.take_own("r") == ([Present("ann", 0, None)], [])
    presence.others("r", "n2", [Present("ann", 1, None)], (), False)
    presence.tick(15.0)
    assert presence.take("r") is None
    assert presence.take_own("r") == ([], ["ann"])
    assert list(presence.users("r")) == [Present("ann", 1, None)]


def test_the_whole_of_a_node_replaces_what_it_had_there() -> None:
    presence = FleetPresence()
    presence.others("r", "n2", [Present("ann", 1, None), Present("bob", 1, None)], (), False)
    presence.take("r")
    presence.others("r", "n2", [Present("bob", 2, b"1"), Present("cid", 1, None)], (), True)
    assert presence.take("r") == Change([Present("cid", 1, None)], ["ann"], 2)
    assert (presence.nodes("r"), presence.rooms_of("n2")) == (["n2"], ["r"])
    presence.forget("r")
    assert presence.take("r") == Change([], ["bob", "cid"], 0)
    assert (presence.nodes("r"), len(presence)) == ([], 0)


def test_what_the_others_are_to_be_told_is_gathered() -> None:
    presence = FleetPresence()
    presence.join("r", "ann")
    presence.join("r", "bob")
    presence.leave("r", "ann", 0.0, 0.0)
    presence.join("s", "ann", b"2")
    assert list(presence.own_changed) == ["r", "s"]
    assert presence.take_own("r") == ([Present("bob", 1, None)], ["ann"])
    assert presence.own_rooms() == ["r", "s"]
    assert presence.has("r")
    assert list(presence.own("s")) == [Present("ann", 1, b"2")]
    presence.join("r", "bob")  # with another device
    assert presence.take_own("r") == ([Present("bob", 2, None)], [])
    assert list(presence.own_changed) == ["s"]


@pytest.mark.parametrize("seed", range(5))
def test_changes_add_up_to_what_is_there(seed: int) -> None:
    random = Random(seed)
    presence = FleetPresence()
    told: set[str] = set()
    own: list[str] = []
    nodes: dict[str, set[str]] = {"n2": set(), "n3": set()}
    for _ in range(300):
        user = random.choice("abcde")
        node = random.choice(["", "n2", "n3"])
        if not node and own and random.random() < 0.5:
            presence.leave("r", own.pop(), 0.0, 0.0)
        elif not node:
            own.append(user)
            presence.join("r", user)
        elif random.random() < 0.2:
            nodes[node] = {one for one in "abcde" if random.random() < 0.4}
            presence.others("r", node, [Present(one, 1, None) for one in nodes[node]], (), True)
        elif user in nodes[node]:
            nodes[node].remove(user)
            presence.others("r", node, (), (user,), False)
        else:
            nodes[node].add(user)
            presence.others("r", node, [Present(user, 1, None)], (), False)
        if random.random() < 0.3:
            change = presence.take("r")
            if change is not None:
                assert not {one.user for one in change.joined} & told
                told |= {one.user for one in change.joined}
                assert set(change.left) <= told
                told -= set(change.left)
                assert change.total == len(told)
            assert told == {*own, *nodes["n2"], *nodes["n3"]}
            assert {one.user for one in presence.users("r")} == told
            assert presence.count("r") == len(told)
