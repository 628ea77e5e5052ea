"""What is to happen only when all that was published before is out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.stats import Stats
from tidegate.engine.fanout import Fanout

EVER, NOW = float("inf"), 0.0  # until when a step goes on


class Member:
    def __init__(self, name: str, log: list[str]) -> None:
        self.sink = self
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
    return Fanout(SimpleNamespace(wake=lambda: None), Stats())  # type: ignore[arg-type]


def test_at_once_when_nothing_is_on_its_way(fanout: Any, log: list[str]) -> None:
    fanout.when_sent((), lambda: log.append("no rooms"))
    fanout.when_sent(("room",), lambda: log.append("a quiet room"))
    fanout.publish("other", [Member("ann", log)], b"hello")
    fanout.when_sent(("room",), lambda: log.append("another room"))
    assert log == ["no rooms", "a quiet room", "another room"]


def test_after_what_was_published_before(fanout: Any, log: list[str]) -> None:
    members = [Member("ann", log), Member("bob", log)]
    fanout.publish("room", members, b"1")
    fanout.when_sent(("room", "quiet"), lambda: log.append("now"))
    fanout.step(EVER)
    assert log == ["ann got 1", "bob got 1", "now"]
    fanout.step(EVER)
    assert log.count("now") == 1


def test_not_after_what_is_published_later(fanout: Any, log: list[str]) -> None:
    members = [Member("ann", log)]
    fanout.publish("room", members, b"1")
    fanout.before_join("room")
    fanout.when_sent(("room",), lambda: log.append("now"))
    fanout.publish("room", members, b"2")
    fanout.step(NOW)
    fanout.step(EVER)
    assert log == ["ann got 1", "now", "ann got 2"]


def test_in_the_middle_of_a_large_room(fanout: Any, log: list[str]) -> None:
    members = [Member(str(number), []) for number in range(200)]
    members.append(Member("last", log))
    fanout.publish("room", members, b"1")
    fanout.step(NOW)
    fanout.when_sent(("room",), lambda: log.append("now"))
    assert log == []
    while fanout.step(NOW):
        pass
    assert log == ["last got 1", "now"]


def test_of_several_rooms_the_last_counts(fanout: Any, log: list[str]) -> None:
    for room in ("a", "b", "c"):
        fanout.publish(room, [Member(room, log)], b"1")
    fanout.when_sent(("a", "c", "quiet"), lambda: log.append("now"))
    while fanout.step(NOW):
        pass
    assert log == ["a got 1", "b got 1", "c got 1", "now"]


def test_what_happens_then_may_publish(fanout: Any, log: list[str]) -> None:
    members = [Member("ann", log)]
    fanout.publish("room", members, b"1")
    fanout.when_sent(("room",), lambda: fanout.publish("room", members, b"2"))
    while fanout.step(NOW):
        pass
    assert log == ["ann got 1", "ann got 2"]
    assert fanout.backlog == 0
