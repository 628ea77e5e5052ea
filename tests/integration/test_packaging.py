"""The package as users install it: what is in the wheel, and what works without the extras."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.process import ROOT

ECHO = """
import asyncio
from tidegate import Server
from tidegate.policies import ConnectionTracker
from websockets.asyncio.client import connect

async def main():
    server = Server(port=0, per_ip=2, on_message=lambda one, message: one.send(message))
    async with server:
        port = server.addresses[0][1]
        async with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as client:
            await client.send("hello")
            print(await client.recv())

asyncio.run(main())
"""
RUN = """
import tidegate
try:
    tidegate.run
except ImportError as error:
    print(error)
"""
TRACES = """
from tidegate import Server, Settings
from tidegate.errors import ConfigError
try:
    Server(Settings.from_mapping({"telemetry": {"traces": True}}))
except ConfigError as error:
    print(error)
"""

USE = """
import asyncio
from collections.abc import Awaitable
from typing import assert_type

from tidegate.client import (
    Ack,
    Client,
    ClientClosed,
    Direct,
    Feed,
    Joined,
    Loss,
    Publication,
    State,
    StateChange,
    connect,
)
from tidegate.client import sync


async def get_token() -> str | None:
    return "t"


async def main() -> None:
    async with connect("ws://a", token=get_token, codec="json") as client:
        assert_type(client, Client)
        assert_type(client.state, State)
        async for message in client.room("news", history=10):
            assert_type(message, Publication)
            assert_type(message.sender, str | None)
        async with client.room("news") as room:
            assert_type(await room.publish({"a": 1}), Ack)
            assert_type(await room.join(), Joined)
        assert_type(client.events(Direct), Feed[Direct])
        client.on(StateChange, lambda change: assert_type(change.loss, Loss | None))
        direct: Awaitable[Ack] = client.direct("ann", 1)
        await direct
    try:
        await client.ready()
    except ClientClosed as closed:
        assert_type(closed.loss, Loss | None)


def script() -> None:
    with sync.connect("ws://a", token="t") as client:
        for message in client.room("news"):
            assert_type(message, Publication)
        assert_type(client.events(StateChange).receive(1.0), StateChange)
        assert_type(client.ping(), float)


asyncio.run(main())
"""
WRONG = """
from tidegate.client import StateChange, connect, sync


def listener(change: int) -> None: ...


client = connect("ws://a", codec="xml")
connect("ws://a", tokens="t")
client.on(StateChange, listener)
sync.connect("ws://a", queue_policy="drop")
client.room("a", history="all")
client.state = "open"
"""
MISTAKES = {8, 9, 10, 11, 12, 13}
"""The lines of `WRONG` in which a type checker finds something."""


def build(folder: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(done.stderr)
        pytest.skip(f"no wheel could be built here: {done.stderr.strip()[-200:]}")
    (wheel,) = folder.glob("tidegate-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project, with an environment that has the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("project")
    venv.create(folder / "venv")
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # Where a path is named so, what is installed there in place, such as ours, does not count.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def strictly_checked(project: Path, text: str) -> list[str]:
    """What mypy says of a program."""
    (project / "program.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file="]
    done = subprocess.run(
        [*command, "--python-executable", "venv/bin/python", "program.py"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_client_is_strictly_typed_in_an_empty_project(project: Path) -> None:
    lines = strictly_checked(project, USE + WRONG)
    right = len(USE.splitlines())
    found = {int(line.split(":")[1]) - right for line in lines if ": error: " in line}
    assert found == MISTAKES, lines


@pytest.mark.slow
def test_wheel_installs_slim_and_errors_name_the_extras(wheel: Path, tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "tidegate/server/dashboard/static/index.html" in names
    assert "tidegate/server/dashboard/static/vendor/uPlot.LICENSE" in names
    assert not [name for name in names if name.startswith(("tests", "bench"))]

    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=180, cwd=tmp_path
        )

    installed = run(python, "-m", "pip", "install", "--quiet", wheel)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"nothing can be installed here: {installed.stderr.strip()[-200:]}")
    assert installed.returncode == 0, installed.stderr
    listed = run(python, "-m", "pip", "list").stdout.lower()
    for absent in ("starlette", "uvicorn", "cyclopts", "fastapi", "structlog", "opentelemetry"):
        assert absent not in listed
    assert run(python, "-W", "error", "-c", ECHO).stdout == "hello\n"
    command = run(place / "bin" / "tidegate", "serve")
    assert command.returncode == 1
    assert "pip install 'tidegate[serve]'" in command.stderr
    assert "Traceback" not in command.stderr
    assert "pip install 'tidegate[asgi]'" in run(python, "-c", RUN).stdout
    assert "pip install 'tidegate[otel]'" in run(python, "-c", TRACES).stdout
