"""Two servers with one Valkey or NATS between them, as their clients see it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support import aio
from tests.support.native import NativeClient
from tests.support.nats import Nats, nats
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.tokens import SECRET
from tests.support.valkey import Valkey, valkey

SETTINGS: dict[str, dict[str, Any]] = {
    "auth": {"secret": SECRET},
    "limits": {"per_ip": 1000},
    "rooms": {"rules": [{"pattern": "kept*", "history_size": 100}]},
    "sessions": {"enabled": True},
}


def has(message: dict[str, Any], **fields: Any) -> bool:
    return fields.items() <= message.items()


def logged(server: Process, text: str) -> bool:
    return text in server.log


@pytest.fixture(params=[valkey, nats])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Valkey | Nats]:
    with request.param(tmp_path / "backplane") as started:
        yield started


@pytest.fixture
def pair(serve: Start, own: Valkey | Nats) -> tuple[Process, Process]:
    settings = {**SETTINGS, "backplane": {"url": own.url, "timeout": 1}}
    return serve(settings), serve(settings)


def test_rooms_and_messages_span_both(pair: tuple[Process, Process]) -> None:
    async def run() -> None:
        ann = await NativeClient.at(pair[0].url, "ann")
        bob = await NativeClient.at(pair[1].url, "bob")
        for client in (ann, bob):
            for room in ("plain", "kept"):
                assert (await client.ask("join", room=room))["type"] == "ack"
        for room in ("plain", "kept"):
            assert (await ann.ask("room_message", room=room, data=1, echo=False))["type"] == "ack"
            assert (await bob.ask("room_message", room=room, data=2))["type"] == "ack"
            for client, data in ((ann, [2]), (bob, [1, 2])):
                await client.until(partial(has, room=room, data=2))
                assert [one["data"] for one in client.of("room_message", room=room)] == data
        await ann.send("direct_message", user="bob", data={"to": "bob"})
        assert (await bob.until(lambda one: one["type"] == "direct_message"))["from"] == "ann"

        # A client that comes to the other node has missed nothing.
        position = await ann.ask("join", room="kept", history=1)
        await bob.ask("room_message", room="kept", data=3)
        moved = await NativeClient.at(pair[1].url, "ann")
        since = {"epoch": position["epoch"], "offset": position["offset"]}
        assert (await moved.ask("join", room="kept", since=since))["recovered"]
        await moved.until(lambda one: one.get("data") == 3)
        for client in (ann, bob, moved):
            await client.close()

    aio.run(run())


def test_members_are_told_what_the_server_between_them_lost(
    pair: tuple[Process, Process], own: Valkey
) -> None:
    async def run() -> None:
        ann = await NativeClient.at(pair[0].url, "ann")
        bob = await NativeClient.at(pair[1].url, "bob")
        since = {}
        for client in (ann, bob):
            await client.ask("join", room="plain")
            since = await client.ask("join", room="kept", history=1)
        await ann.ask("room_message", room="kept", data=1)
        await bob.until(lambda one: one.get("data") == 1)
        own.kill()
        own.forget()
        while (await ann.ask("room_message", room="kept", data=2))["type"] != "error":
            pass
        for kind, fields in (("room_message", {"data": 1}), ("join", {})):
            answer = await ann.ask(kind, room="new" if kind == "join" else "plain", **fields)
            assert (answer["type"], answer["code"]) == ("error", "backplane_down")
            assert answer["retryAfter"] == 1
        own.start()
        for client in (ann, bob):
            await client.until(lambda one: one == {"type": "gap", "room": "plain"})
            await client.until(lambda one: one == {"type": "gap", "room": "kept"})
        position = {"epoch": since["epoch"], "offset": since["offset"]}
        while (again := await bob.ask("join", room="kept", since=position))["type"] == "error":
            pass
        assert not again["recovered"]
        assert again["epoch"] != position["epoch"]
        while (await ann.ask("room_message", room="kept", data=3))["type"] == "error":
            pass
        await bob.until(lambda one: one.get("data") == 3)
        for client in (ann, bob):
            await client.close()

    aio.run(run())
    for server in pair:
        wait_until(partial(logged, server, "link to the backplane is back"))


@pytest.mark.parametrize("scheme", ["redis", "nats", "kafka"])
def test_server_without_its_backplane_does_not_start(tmp_path: Path, scheme: str) -> None:
    settings = {"backplane": {"url": f"{scheme}://:very-secret@127.0.0.1:1"}}
    server = Process([Path(sys.executable).with_name("tidegate"), "serve"], tmp_path, settings)
    try:
        assert server.process.wait(20) == 1
        wait_until(lambda: "backplane.url: " in server.log)
        assert "very-secret" not in server.log
        assert "Traceback" not in server.log
    finally:
        server.kill()
