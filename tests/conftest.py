"""Server processes that end with their test, programs that some tests need, tests run alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.alone import among_others, by_itself
from tests.support.net import allow_descriptors, has_address
from tests.support.process import ROOT, Process

Start = Callable[..., Process]

# How long an example takes says more of what else the machine does.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")

# What a shell starts with `&` ignores Ctrl-C, and so would the servers that tests end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Beside a test that is marked `alone`, no other process of `make test` runs a test."""
    with by_itself() if item.get_closest_marker("alone") else among_others():
        return (yield)


@contextmanager
def _processes(folder: Path) -> Iterator[tuple[Start, Start]]:
    """Two ways to start servers; all end here, with exit code 0 and no surprise in the log."""
    started: list[Process] = []

    def serve(settings: Any = None, **options: Any) -> Process:
        started.append(Process.serve(folder, settings, **options))
        return started[-1]

    def program(command: str, settings: Any = None, **options: Any) -> Process:
        process = Process([sys.executable, *command.split()], folder, settings, **options)
        started.append(process.wait_ready())
        return process

    try:
        yield serve, program
        for process in started:
            running = process.process.poll() is None
            code = process.stop()
            assert code == 0 or not running, f"exit code {code}:\n{process.log}"
            assert process.expects_errors or "Traceback" not in process.log, process.log
    finally:
        for process in started:
            process.kill()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    """Starts `tidegate serve` with settings, as often as called."""
    with _processes(tmp_path) as (start, _):
        yield start


@pytest.fixture(scope="module")
def shared_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """The same for a server that all tests of a module share."""
    with _processes(tmp_path_factory.mktemp("shared")) as (start, _):
        yield start


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Start]:
    """Starts a Python program that serves, as in `-m tests.support.handlers`."""
    with _processes(tmp_path) as (_, start):
        yield start


@pytest.fixture(scope="module")
def shared_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """The same for a program that all tests of a module share."""
    with _processes(tmp_path_factory.mktemp("program")) as (_, start):
        yield start


@pytest.fixture
def many_descriptors() -> None:
    """Tests with thousands of sockets need to be allowed to open them."""
    _need(allow_descriptors(6000), "a hard limit of 6000 open files (ulimit -Hn)")


@pytest.fixture
def many_addresses() -> None:
    """Tests that come from several addresses need those: Linux has all of 127.0.0.0/8."""
    _need(has_address("127.0.1.1"), "more loopback addresses than 127.0.0.1")


@pytest.fixture(scope="session")
def node() -> Callable[..., str]:
    """Runs a script of tests/js and returns what it printed."""
    folder = ROOT / "tests" / "js"
    found = shutil.which("node")
    _need(found and (folder / "node_modules" / "ws").is_dir(), "Node.js with npm ('make setup')")

    def run(script: str, *args: str, timeout: float = 30) -> str:
        done = subprocess.run(
            [str(found), folder / script, *args], capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    _need(found, "Chromium or Chrome on the PATH")
    return str(found)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program that some tests need, as in `tool("haproxy")`."""

    def find(name: str) -> str:
        # Debian has servers in folders that are not on everybody's path.
        found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        _need(found, f"{name} on the PATH")
        return str(found)

    return find


def _need(there: object, what: str) -> None:
    """Skip and say why where something is missing, but never where nobody would see it."""
    if not there:
        if os.environ.get("CI") == "true":
            pytest.fail(f"this test needs {what}")
        pytest.skip(f"needs {what}")
