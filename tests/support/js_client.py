"""The TypeScript client, as a process that a test drives; and npm."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.process import ROOT

__all__ = ["Driver", "built", "npm"]

FOLDER = ROOT / "clients" / "js"
PATIENCE = 60.0


def npm(*args: str | Path, cwd: Path, timeout: float = 120) -> str:
    """Run npm; what it printed."""
    done = subprocess.run(
        ["npm", *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built() -> Path:
    """Build the client, if something has changed; its folder. Skips the test without Node.js."""
    if not shutil.which("node") or not (FOLDER / "node_modules" / ".ready").exists():
        why = "needs Node.js 20 with npm ('make setup')"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    target = FOLDER / "dist" / "index.cjs"
    sources = [*(FOLDER / "src").iterdir(), FOLDER / "package.json", FOLDER / "tsdown.config.ts"]
    newest = max(path.stat().st_mtime for path in sources)
    if not target.exists() or target.stat().st_mtime < newest:
        npm("run", "--silent", "build", cwd=FOLDER)
    return FOLDER


class Driver:
    """A client in a process of its own. Commands go in and events come out, as lines of JSON."""

    _all: ClassVar[list[Driver]] = []

    def __init__(self, url: str, *, codec: str = "json", tokens: list[str] | None = None) -> None:
        self._process = subprocess.Popen(
            ["node", ROOT / "tests/js/tidegate.mjs", url, codec, json.dumps(tokens)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._events: dict[str, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._calls = 0
        self.last: dict[str, Any] = {}
        """The event that was waited for last."""
        threading.Thread(target=self._read, daemon=True).start()
        self._all.append(self)

    @classmethod
    def end_all(cls) -> None:
        """End all processes."""
        for driver in cls._all:
            driver._process.kill()
            driver._process.communicate()
        cls._all.clear()

    def begin(self, what: str, *args: Any) -> str:
        """Begin an action; its name, for `result`."""
        self._calls += 1
        name = f"call {self._calls}"
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"what": what, "args": args, "name": name}) + "\n")
        self._process.stdin.flush()
        return name

    def result(self, name: str) -> Any:
        """Wait for what came of an action."""
        answer = self._queue(name).get(timeout=PATIENCE)
        assert "error" not in answer, answer
        return answer.get("value")

    def do(self, what: str, *args: Any) -> Any:
        """Carry out an action."""
        return self.result(self.begin(what, *args))

    def wait(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for the next event of this kind with these fields; those before it are dropped."""
        while True:
            found = self._queue(event).get(timeout=PATIENCE)
            if fields.items() <= found.items():
                self.last = found
                return found

    def _queue(self, name: str) -> queue.SimpleQueue[dict[str, Any]]:
        with self._lock:
            return self._events.setdefault(name, queue.SimpleQueue())

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            event = json.loads(line)
            self._queue(event["event"]).put(event["of"])
