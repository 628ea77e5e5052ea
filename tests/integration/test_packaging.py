"""The package as users install it: what is in the wheel, and what works without the extras."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.slow
def test_wheel_installs_slim_and_errors_name_the_extras(tmp_path: Path) -> None:
    wheel = build(tmp_path)
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
    for absent in ("starlette", "uvicorn", "cyclopts", "fastapi", "structlog"):
        assert absent not in listed
    assert run(python, "-W", "error", "-c", ECHO).stdout == "hello\n"
    command = run(place / "bin" / "tidegate", "serve")
    assert command.returncode == 1
    assert "pip install 'tidegate[serve]'" in command.stderr
    assert "Traceback" not in command.stderr
    assert "pip install 'tidegate[asgi]'" in run(python, "-c", RUN).stdout
