"""The delays, against those that each library's source has (its version is in `behaviours`)."""

from __future__ import annotations

import pytest

from tidegate.sim.behaviours import BEHAVIOURS, Told


def delays(name: str, random: float, told: Told | None = None, count: int = 6) -> list[float]:
    behaviour = BEHAVIOURS[name]
    return [round(behaviour.delay(n, told, lambda: random), 3) for n in range(count)]


@pytest.mark.parametrize(
    ("name", "random", "expected"),
    [
        ("tidegate", 0.0, [0.1] * 6),
        ("tidegate", 0.5, [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]),
        ("centrifuge-js", 0.0, [0.5] * 6),
        ("centrifuge-js", 1.0, [1.0, 1.5, 2.5, 4.5, 8.5, 16.5]),
        ("socket.io-client", 0.0, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]),
        ("socket.io-client", 1.0, [1.5, 3.0, 5.0, 5.0, 5.0, 5.0]),
        ("reconnecting-websocket", 0.0, [1.0, 1.3, 1.69, 2.197, 2.856, 3.713]),
        ("reconnecting-websocket", 1.0, [5.0, 6.5, 8.45, 10.0, 10.0, 10.0]),
        ("pusher-js", 0.7, [1.0] * 6),
        ("phoenix", 0.7, [0.01, 0.05, 0.1, 0.15, 0.2, 0.25]),
        ("browser", 0.7, [1.0] * 6),
    ],
)
def test_behaviour_delays_are_those_of_the_library(
    name: str, random: float, expected: list[float]
) -> None:
    assert delays(name, random) == expected


def test_behaviour_phoenix_ends_at_five_seconds() -> None:
    assert delays("phoenix", 0.0, count=11)[8:] == [2.0, 5.0, 5.0]


def test_behaviour_of_ours_comes_back_at_its_slot() -> None:
    assert delays("tidegate", 0.9, Told(7.3, slot=True)) == [7.3] * 6


def test_behaviour_of_ours_adds_chance_to_what_is_no_slot() -> None:
    assert delays("tidegate", 0.5, Told(5.0, slot=False), 3) == [5.5, 6.0, 7.0]


def test_behaviour_of_ours_does_not_ask_in_a_loop_at_slots_of_no_length() -> None:
    assert delays("tidegate", 0.5, Told(0.0, slot=True), 3) == [0.1, 1.0, 2.0]


def test_behaviour_of_others_sees_nothing_of_what_it_is_told() -> None:
    for name, behaviour in BEHAVIOURS.items():
        if not behaviour.in_band:
            assert delays(name, 0.5, Told(100.0, slot=True)) == delays(name, 0.5)
