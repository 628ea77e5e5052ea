"""How many HTTP connections one address may have, and which of them make room."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.settings import LimitsSettings
from tidegate.engine.streams import Streams


class Stream:
    def __init__(self, idle: bool = False) -> None:
        self.idle = idle
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def make(most: int = 3000, **limits: Any) -> Any:
    return Streams(most, LimitsSettings(**limits))


@pytest.mark.parametrize(
    ("most", "setting", "of_one"), [(100_000, 1000, 1000), (300, 1000, 100), (3, 9, 4), (300, 0, 0)]
)
def test_bound_of_an_address_is_the_setting_or_a_third(
    most: int, setting: int, of_one: int
) -> None:
    assert make(most, http_per_ip=setting).of_one == of_one


def test_an_address_that_has_its_part_is_full_until_one_has_ended() -> None:
    streams = make(http_per_ip=2)
    one, two = Stream(), Stream()
    streams.add(one, "192.0.2.1")
    assert not streams.full("192.0.2.1")
    streams.add(two, "192.0.2.1")
    assert streams.full("192.0.2.1")
    assert not streams.full("192.0.2.2")
    streams.remove(one)
    streams.remove(one)
    assert not streams.full("192.0.2.1")
    streams.remove(two)
    assert len(streams) == 0
    assert not streams._counts


def test_networks_count_as_one_address_and_proxies_not_at_all() -> None:
    streams = make(http_per_ip=1)
    streams.add(Stream(), "2001:db8::1")
    assert streams.full("2001:db8::2")
    proxied = Stream()
    for _ in range(5):
        streams.add(proxied, None)
    assert not streams.full(None)
    streams.remove(proxied)
    assert len(streams) == 1


def test_an_idle_one_makes_room() -> None:
    streams = make()
    busy, idle, later = Stream(), Stream(idle=True), Stream(idle=True)
    for stream in (busy, idle, later):
        streams.add(stream, "192.0.2.1")
    assert streams.make_room()
    assert (busy.aborted, idle.aborted, later.aborted) == (False, True, False)  # one in eight
    assert streams.make_room()
    assert later.aborted
    assert not streams.make_room()
    assert len(streams) == 1


def test_the_next_look_is_at_others() -> None:
    streams = make(http_per_ip=1000)
    for _ in range(100):
        streams.add(Stream(), "192.0.2.1")
    idle = Stream(idle=True)
    streams.add(idle, "192.0.2.1")
    assert not streams.make_room()
    assert streams.make_room()
    assert idle.aborted
    assert len(streams) == 100


def test_another_limit_holds_at_once() -> None:
    streams = make(http_per_ip=10)
    streams.add(Stream(), "192.0.2.1")
    streams.apply(LimitsSettings(http_per_ip=1))
    assert streams.full("192.0.2.1")
    streams.share(90, LimitsSettings())
    assert streams.of_one == 30


def test_one_in_eight_makes_room_at_a_time() -> None:
    streams = make(http_per_ip=1000)
    for _ in range(100):
        streams.add(Stream(idle=True), "192.0.2.1")
    assert streams.make_room()
    assert len(streams) == 87
