"""The TypeScript client: its own tests, its package, and how it lives with a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.js_client import Driver, built, npm
from tests.support.net import wait_until
from tests.support.process import ROOT, Process
from tests.support.tokens import SECRET, token

CLIENT = ROOT / "clients" / "js"
HISTORY = [{"pattern": "*", "history_size": 1000, "history_ttl": 300}]
ESM = """
import { connect, MOVES, TidegateError } from "tidegate";
import { msgpack } from "tidegate/msgpack";
import WebSocket from "ws";
"""
CJS = """
const { connect, MOVES, TidegateError } = require("tidegate");
const { msgpack } = require("tidegate/msgpack");
const WebSocket = require("ws");
"""
USE = """
const client = connect(process.argv[2], { WebSocket, codec: msgpack });
const room = client.join("r");
room.on("message", ({ data }) => {
  console.log(JSON.stringify([data.text, [...data.bytes], Object.keys(MOVES).length]));
  client.close();
});
room.publish({ text: "hello", bytes: new Uint8Array([1, 2, 3]) }).catch((error) => {
  console.error(error instanceof TidegateError, error);
  process.exit(1);
});
setTimeout(() => process.exit(2), 30_000).unref();
"""


@pytest.fixture(scope="module")
def client() -> Path:
    """The client's folder, with the client built."""
    return built()


@pytest.fixture
def driver(client: Path) -> Iterator[type[Driver]]:
    """Makes clients that the test drives; all end here."""
    yield Driver
    Driver.end_all()


def test_its_own_tests(client: Path) -> None:
    npm("test", "--silent", "--", "--reporter=dot", cwd=client, timeout=400)


def test_package_in_an_empty_project(client: Path, serve: Start, tmp_path: Path) -> None:
    (packed,) = json.loads(npm("pack", "--json", "--pack-destination", tmp_path, cwd=client))
    names = {file["path"] for file in packed["files"]}
    assert {"README.md", "LICENSE", "package.json", "dist/index.js", "dist/index.cjs"} <= names
    assert not {name for name in names if name.startswith(("src/", "test/", "node_modules/"))}
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "empty", "private": true}')
    npm("install", "--offline", "--no-audit", tmp_path / packed["filename"], cwd=project)
    assert [path.name for path in (project / "node_modules").iterdir() if path.is_dir()] == [
        "tidegate"
    ]
    shutil.copytree(client / "node_modules" / "ws", project / "node_modules" / "ws")
    server = serve()
    for name, head in (("use.mjs", ESM), ("use.cjs", CJS)):
        (project / name).write_text(head + USE)
        done = subprocess.run(
            ["node", name, server.url], cwd=project, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == ["hello", [1, 2, 3], 5]


@pytest.mark.parametrize("runtime", [["deno", "run", "--allow-all"], ["bun"]], ids=["deno", "bun"])
def test_package_in_another_runtime(
    client: Path, serve: Start, tmp_path: Path, runtime: list[str]
) -> None:
    program = shutil.which(runtime[0])
    if program is None:
        pytest.skip(f"needs {runtime[0]} on the PATH (npm install --global {runtime[0]})")
    project = tmp_path / "node_modules" / "tidegate"
    shutil.copytree(client / "dist", project / "dist")
    shutil.copy(client / "package.json", project)
    (tmp_path / "package.json").write_text('{"private": true}')
    # With the WebSocket of the runtime.
    (tmp_path / "use.mjs").write_text(
        'import { connect, MOVES } from "tidegate";\nimport { msgpack } from "tidegate/msgpack";\n'
        + USE.replace("WebSocket, ", "")
    )
    done = subprocess.run(
        [program, *runtime[1:], "use.mjs", serve().url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path), "DENO_NO_UPDATE_CHECK": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["hello", [1, 2, 3], 5]


def test_types_in_an_empty_project(client: Path, tmp_path: Path) -> None:
    project = tmp_path / "node_modules" / "tidegate"
    shutil.copytree(client / "dist", project / "dist")
    shutil.copy(client / "package.json", project)
    use = """
    import { connect, type Publication, type Room, type State } from "tidegate";
    import { msgpack } from "tidegate/msgpack";
    const client = connect("ws://x", { codec: msgpack, token: async () => "t" });
    const room: Room<{ text: string }> = client.join<{ text: string }>("r");
    room.on("message", (message: Publication<{ text: string }>) => message.data.text.length);
    const state: State = client.state;
    // @ts-expect-error: there is no such event
    client.on("opened", () => {});
    // @ts-expect-error: that is no such data
    room.publish({ test: 1 });
    void state;
    """
    for name in ("use.mts", "use.cts"):
        (tmp_path / name).write_text(use)
    compiler = str(client / "node_modules/typescript/bin/tsc")
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"]
    options += ["--lib", "es2022,dom"]
    subprocess.run(
        ["node", compiler, *options, "use.mts", "use.cts"],
        cwd=tmp_path,
        check=True,
        timeout=120,
    )


def settings(**more: Mapping[str, Any]) -> dict[str, Any]:
    return {"rooms": {"rules": HISTORY}, "limits": {"per_ip": 100}, **more}


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_two_clients_chat(driver: type[Driver], serve: Start, codec: str) -> None:
    server = serve(settings(auth={"secret": SECRET}))
    ann = driver(server.url, codec=codec, tokens=[token("ann")])
    bob = driver(server.url)
    for one in (ann, bob):
        one.do("join", "lobby")
        one.wait("joined", room="lobby")
    assert ann.do("publish", "lobby", {"text": "hello"})["offset"] == 1
    for one in (ann, bob):
        assert one.wait("message")["data"] == {"text": "hello"}
    assert ann.do("direct", "nobody", 1)["delivered"] == 0
    assert ann.do("history", "lobby", 10)["messages"][0]["data"] == {"text": "hello"}
    ann.do("ping")
    ann.do("close")
    server.wait_open(1, 30)


def test_killed_server_comes_back_and_messages_flow_again(
    driver: type[Driver], serve: Start, tmp_path: Path
) -> None:
    server = serve(settings())
    ann, bob = driver(server.url), driver(server.url)
    for one in (ann, bob):
        one.do("join", "lobby")
        one.wait("joined")
    ann.do("publish", "lobby", 1)
    assert bob.wait("message")["data"] == 1
    server.kill()
    for one in (ann, bob):
        one.wait("state", state="backoff")
    waiting = ann.begin("publish", "lobby", 2, {"timeout": 60})
    again = Process.serve(tmp_path / "again", settings(), port=server.port)
    try:
        # Its memory is lost with it, and the clients say so.
        for one in (ann, bob):
            assert one.wait("joined") | {"recovered": None} == {
                "again": True,
                "recovered": None,
                "members": one.last["members"],
                "room": "lobby",
            }
        assert ann.result(waiting)["offset"] == 1
    finally:
        again.kill()


def test_cut_line_is_resumed_and_nothing_is_missed(driver: type[Driver], serve: Start) -> None:
    server = serve(settings(sessions={"enabled": True}))
    ann, bob = driver(server.url), driver(server.url)
    ann.wait("connected")
    first = bob.wait("connected")
    for one in (ann, bob):
        one.do("join", "lobby")
        one.wait("joined")
    for round_ in range(3):
        bob.do("cut")
        for number in range(10):
            ann.do("publish", "lobby", [round_, number])
        back = bob.wait("connected")
        assert back["resumed"]
        assert back["connectionId"] == first["connectionId"]
        assert bob.wait("joined")["recovered"]
        got = [bob.wait("message")["data"] for _ in range(10)]
        assert got == [[round_, number] for number in range(10)]


def test_cut_line_without_sessions_recovers(driver: type[Driver], serve: Start) -> None:
    server = serve(settings())
    ann, bob = driver(server.url), driver(server.url)
    for one in (ann, bob):
        one.do("join", "lobby")
        one.wait("joined")
    bob.do("cut")
    for number in range(100):
        ann.do("publish", "lobby", number)
    assert bob.wait("joined") == {"again": True, "recovered": True, "members": 2, "room": "lobby"}
    assert [bob.wait("message")["data"] for _ in range(100)] == list(range(100))


def test_waiting_room_shows_the_position_and_admits(driver: type[Driver], serve: Start) -> None:
    server = serve({"limits": {"connections": 1}, "waiting_room": {"enabled": True, "size": 10}})
    first = driver(server.url)
    first.wait("connected")
    second = driver(server.url)
    second.wait("state", state="waiting")
    assert second.wait("waiting")["position"] == 1
    first.do("close")
    second.wait("state", state="open")


def test_refused_client_obeys_the_delay(driver: type[Driver], serve: Start) -> None:
    server = serve({"limits": {"connections": 1}})
    first = driver(server.url)
    first.wait("connected")
    second = driver(server.url)
    change = second.wait("state", state="backoff")
    assert change["loss"]["error"] == "server_limit"
    assert 5 <= change["delay"] <= 6
    refused = driver(f"{server.url}/nowhere")
    assert refused.wait("state", state="closed")["loss"]["code"] in (1006, 1008)


def test_token_is_renewed_after_a_revocation(driver: type[Driver], serve: Start) -> None:
    server = serve({"auth": {"secret": SECRET}})
    ann = driver(server.url, tokens=["nonsense", token("ann"), token("ann")])
    assert ann.wait("state", state="backoff")["loss"]["code"] == 4501
    assert ann.wait("connected")["userId"] == "ann"


def test_drained_client_keeps_its_slot(driver: type[Driver], serve: Start) -> None:
    server = serve({"drain": {"window": 2}})
    ann = driver(server.url)
    ann.wait("connected")
    server.signal(15)
    slot = ann.wait("shutdown")["reconnectDelay"]
    change = ann.wait("state", state="backoff")
    assert change["loss"]["error"] == "drained"
    assert 0 <= slot <= 3
    assert change["delay"] == pytest.approx(0.1, abs=0.01)
    wait_until(lambda: server.process.poll() is not None, 30, "the server has drained")
