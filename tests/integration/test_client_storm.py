"""Many Python clients are cut off at once: they come back when they may, and no sooner."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Start
from tests.support.storm import most_within, storm

CLIENTS = 300
RATE, BURST = 100, 50
SETTINGS = {
    "limits": {"per_ip": 5000},
    "pacing": {"rate": RATE, "burst": BURST},
}


@pytest.mark.alone
def test_clients_that_are_cut_off_come_back_at_the_pace_of_the_server(
    many_descriptors: None, serve: Start
) -> None:
    server = serve(SETTINGS)
    seen = asyncio.run(storm(server, CLIENTS))
    assert seen.given_up == 0
    assert seen.early == 0
    # What the server counts within a second as it measures ages to the millisecond.
    assert BURST < seen.most <= (RATE + BURST) * 1.05
    # Each that was refused got a slot, and got in then.
    assert seen.refused <= CLIENTS
    server.wait_open(0, 30)


def test_most_within_a_second_is_found() -> None:
    assert most_within([]) == 0
    assert most_within([0, 0.5, 0.9, 1.0, 1.4, 1.45]) == 5
