"""What happens only when everything that was published before is out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.members import EVER, NOW, FakeConnection, make_fanout


class Member(FakeConnection):
    """Logs what it gets."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self._name = name
        self._log = log

    def send(self, data: bytes) -> int:
        self._log.append(f"{self._name} got {data.decode()}")
        return len(data)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def fanout() -> Any:
    return make_fanout()


def publish(fanout: Any, room: str, members: Any, frame: bytes) -> None:
    assert fanout.publish(room, members, lambda _: frame, len(frame))


def test_when_sent_with_nothing_on_its_way_calls_at_once(fanout: Any, log: list[str]) -> None:
    fanout.when_sent((), lambda: log.append("no rooms"))
    fanout.when_sent(("room",), lambda: log.append("a quiet room"))
    publish(fanout, "other", [Member("ann", log)], b"hello")
    fanout.when_sent(("room",), lambda: log.append("another room"))
    assert log == ["no rooms", "a quiet room", "another room"]


def test_when_sent_after_publications_waits_for_them(fanout: Any, log: list[str]) -> None:
    members = [Member("ann", log), Member("bob", log)]
    publish(fanout, "room", members, b"1")
    fanout.when_sent(("room", "quiet"), lambda: log.append("now"))
    fanout.step(EVER)
    assert log == ["ann got 1", "bob got 1", "now"]
    fanout.step(EVER)
    assert log.count("now") == 1


def test_when_sent_before_publications_does_not_wait_for_them(fanout: Any, log: list[str]) -> None:
    members = [Member("ann", log)]
    publish(fanout, "room", members, b"1")
    fanout.before_join("room")
    fanout.when_sent(("room",), lambda: log.append("now"))
    publish(fanout, "room", members, b"2")
    fanout.step(NOW)
    fanout.step(EVER)
    assert log == ["ann got 1", "now", "ann got 2"]


def test_when_sent_in_the_middle_of_a_large_room_waits_for_the_rest(
    fanout: Any, log: list[str]
) -> None:
    members = [Member(str(number), []) for number in range(200)]
    members.append(Member("last", log))
    publish(fanout, "room", members, b"1")
    fanout.step(NOW)
    fanout.when_sent(("room",), lambda: log.append("now"))
    assert log == []
    while fanout.step(NOW):
        pass
    assert log == ["last got 1", "now"]


def test_when_sent_of_several_rooms_waits_for_the_last(fanout: Any, log: list[str]) -> None:
    for room in ("a", "b", "c"):
        publish(fanout, room, [Member(room, log)], b"1")
    fanout.when_sent(("a", "c", "quiet"), lambda: log.append("now"))
    while fanout.step(NOW):
        pass
    assert log == ["a got 1", "b got 1", "c got 1", "now"]


def test_when_sent_with_an_action_that_publishes_goes_on(fanout: Any, log: list[str]) -> None:
    members = [Member("ann", log)]
    publish(fanout, "room", members, b"1")
    fanout.when_sent(("room",), lambda: publish(fanout, "room", members, b"2"))
    while fanout.step(NOW):
        pass
    assert log == ["ann got 1", "ann got 2"]
    assert fanout.backlog == 0
