"""A server that a firewall cuts off from the Valkey between them, and lets back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.integration.backplane.test_fleet_limits import (
    PER_USER,
    SECONDS,
    STRICT,
    counted,
    settings_of,
    wait,
)
from tests.support import aio
from tests.support.fleet import Watcher
from tests.support.net import wait_until
from tests.support.network import Firewall, own_network
from tests.support.proxies import Tool
from tests.support.valkey import valkey

ALL = 60
USERS = [f"u{number}" for number in range(12)]


@pytest.fixture
def firewall(tool: Tool) -> Iterator[Firewall]:
    with own_network(tool) as found:
        yield found


def test_limits_hold_while_a_server_is_cut_off_and_when_it_is_back(
    firewall: Firewall, serve: Start, tmp_path: Path
) -> None:
    watcher = Watcher(PER_USER, ALL)
    fleet = {**STRICT, "connections": ALL}
    # The second server knows the Valkey by an address of its own, which the firewall knows.
    with valkey(tmp_path / "valkey", "--bind", "127.0.0.1 127.0.0.2") as between:
        url = between.url
        urls = (url, url.replace("127.0.0.1", "127.0.0.2"))
        first, second = [
            serve(settings_of(between, fleet=fleet, backplane={"url": url, "timeout": 1}))
            for url in urls
        ]
        ports = [first.port, second.port]

        async def run() -> None:
            await watcher.fill(USERS, ports)
            held = watcher.at(second.port)
            assert held
            firewall.cut("127.0.0.2", between.port)
            # It gives up what it holds, in time for the others to take it.
            await asyncio.wait_for(asyncio.gather(*(one.watch for one in held)), SECONDS)
            await watcher.fill(USERS, [first.port], SECONDS)
            watcher.told.clear()
            await watcher.crowd([(user, second.port) for user in USERS])
            assert watcher.told == {"fleet_down": len(USERS)}
            firewall.lift()
            await wait(lambda: second.get("/ready")[0] == 200)
            for visitor in watcher.at(first.port)[:30]:
                visitor.leave()
            await watcher.fill(USERS, [second.port], SECONDS)
            assert len(watcher.at(second.port)) == 30
            await watcher.crowd([(user, port) for user in USERS for port in ports])
            await watcher.leave_all()

        aio.run(run())
        assert not watcher.broken, watcher.broken[:5]
        wait_until(
            lambda: not first.open() + second.open() and b"$1\r\nc\r\n" not in counted(between)
        )
