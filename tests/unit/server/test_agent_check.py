"""What HAProxy is told when it asks, and the bounds of who asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.support.aio import in_loop
from tidegate.core.settings import AgentCheckSettings
from tidegate.node.control import Standing
from tidegate.server.agent_check import Agent, serve_agent
from tidegate.server.listener import StartError


def good(pressure: float = 0.0, zone: str = "normal", limit: int = 1000) -> Standing:
    return Standing(True, "", zone, pressure, 10, limit)


def bad(reason: str) -> Standing:
    return Standing(False, reason, "normal", 0.0, 10, 1000)


@pytest.mark.parametrize(
    ("standings", "line"),
    [
        ([good()], "ready up 100% maxconn:1000"),
        ([good(0.5)], "ready up 50% maxconn:1000"),
        ([good(0.75, "warning")], "ready up 20% maxconn:1000"),
        ([good(0.9, "critical")], "ready up 10% maxconn:1000"),
        ([good(0.97, "emergency")], "ready up 0%"),
        # A limit that is only tried out.
        ([good(limit=0)], "ready up 100%"),
        ([bad("server_limit")], "ready up 0%"),
        ([bad("draining")], "drain"),
        ([bad("breaker")], "ready down #breaker"),
        ([bad("not listening")], "maint"),
        # Workers.
        ([good(), good(0.5)], "ready up 80% maxconn:2000"),
        ([good(), bad("draining")], "ready up 50% maxconn:2000"),
        ([good(), bad("server_limit")], "ready up 50% maxconn:2000"),
        ([good(), good(limit=0)], "ready up 100%"),
        ([bad("draining"), bad("draining")], "drain"),
        ([bad("server_limit"), bad("not listening")], "ready up 0%"),
        ([bad("breaker"), bad("not listening")], "maint"),
    ],
)
def test_agent_line_says_what_a_node_should_get(standings: list[Standing], line: str) -> None:
    assert Agent(lambda: standings, lambda: False).line(0.0) == line


def test_agent_line_of_a_server_that_ends_is_drain() -> None:
    assert Agent(lambda: [good()], lambda: True).line(0.0) == "drain"


def test_agent_line_after_a_drain_that_was_taken_back_says_ready() -> None:
    standing = [bad("draining")]
    agent = Agent(lambda: standing, lambda: False)
    assert agent.line(0.0) == "drain"
    standing[:] = [good()]
    assert agent.line(1.0).startswith("ready up ")


Address = tuple[str, int]


@asynccontextmanager
async def serving() -> AsyncIterator[Address]:
    settings = AgentCheckSettings(enabled=True, port=0)
    async with serve_agent(Agent(lambda: [good()], lambda: False), settings) as addresses:
        (address,) = addresses
        yield address


async def asked(address: Address, sent: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@in_loop
async def test_agent_is_off_unless_it_is_enabled() -> None:
    async with serve_agent(Agent(list, lambda: False), AgentCheckSettings()) as addresses:
        assert list(addresses) == []


@in_loop
async def test_agent_answers_each_connection_with_one_line() -> None:
    async with serving() as address:
        for sent in (b"", b"tidegate-1\n"):
            assert await asked(address, sent) == b"ready up 100% maxconn:1000\n"


@in_loop
async def test_agent_cuts_off_who_sends_without_end() -> None:
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address)
        await reader.readline()
        async with asyncio.timeout(30):
            while not writer.is_closing():
                writer.write(b"x" * 1024)
                await asyncio.sleep(0.01)


@in_loop
async def test_agent_cuts_off_who_stays() -> None:
    async with serving() as address:
        with socket.create_connection(address) as peer:
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(peer, 100) == b"ready up 100% maxconn:1000\n"
            assert await loop.sock_recv(peer, 100) == b""
            await _until_reset(peer)


async def _until_reset(peer: socket.socket) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                peer.send(b".")
            except OSError:
                return
            await asyncio.sleep(0.1)


@in_loop
async def test_agent_has_32_connections_at_most() -> None:
    async with serving() as address:
        peers = [await asyncio.open_connection(*address) for _ in range(32)]
        assert {await reader.readline() for reader, _ in peers} == {b"ready up 100% maxconn:1000\n"}
        assert await _answer(address) == b""
        for _, writer in peers:
            writer.close()
        async with asyncio.timeout(30):
            while await _answer(address) == b"":
                await asyncio.sleep(0.05)


async def _answer(address: Address) -> bytes:
    try:
        return await asked(address)
    except OSError:
        return b""


@in_loop
async def test_agent_whose_port_is_taken_says_which_setting() -> None:
    async with serving() as address:
        settings = AgentCheckSettings(enabled=True, port=address[1])
        with pytest.raises(StartError, match="agent_check"):
            async with serve_agent(Agent(_nothing, lambda: False), settings):
                pass


@in_loop
async def test_agents_that_take_turns_follow_each_other_at_one_address() -> None:
    async with serving() as (host, port):
        pass
    settings = AgentCheckSettings(enabled=True, port=port)
    ends = [False, False]
    first = Agent(lambda: [good(0.5)], lambda: ends[0])
    second = Agent(lambda: [good()], lambda: ends[1])
    async with (
        serve_agent(first, settings, takes_turns=True),
        serve_agent(second, settings, takes_turns=True),
    ):
        await _until(host, port, b"ready up 50% maxconn:1000\n")
        # The first one begins to drain, and the second one takes connections by then.
        ends[0] = True
        await _until(host, port, b"ready up 100% maxconn:1000\n")


async def _until(host: str, port: int, line: bytes) -> None:
    async with asyncio.timeout(30):
        while await _answer((host, port)) != line:
            await asyncio.sleep(0.05)


def _nothing() -> Sequence[Standing]:
    return []
