"""`tidegate serve` as a process, and Tidegate without uvloop."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT, Process

WITHOUT_UVLOOP = 'import sys; sys.modules["uvloop"] = None\n'

USE = """
import asyncio
import tidegate

for name in tidegate.__all__:
    getattr(tidegate, name)

async def main():
    async with tidegate.Server({"server": {"port": 0}}) as server:
        assert server.ready == (True, "")

asyncio.run(main())
"""

SERVE = 'from tidegate.cli.main import run; sys.exit(run(["serve"]))\n'


def test_the_library_without_uvloop_serves() -> None:
    command = [sys.executable, "-c", WITHOUT_UVLOOP + USE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_tidegate_serve_without_uvloop_serves_and_stops(tmp_path: Path) -> None:
    server = Process([sys.executable, "-c", WITHOUT_UVLOOP + SERVE], tmp_path).wait_ready()
    try:
        with server.connect() as client:
            client.open()
            server.wait_open(1)
        server.wait_open(0)
        assert server.stop() == 0
        assert "Traceback" not in server.log
    finally:
        server.kill()


def test_uvloop_is_imported_in_one_place() -> None:
    importing = {
        path.relative_to(ROOT / "src" / "tidegate").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"^\s*(import|from) uvloop", path.read_text(), re.MULTILINE)
    }
    assert importing == {"node/loop.py"}
