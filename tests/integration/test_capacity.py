"""`tidegate capacity` for real: it measures, writes, and what it writes is in force."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tidegate.capacity.clients import Server
from tidegate.capacity.plan import Generator

COMMAND = [str(Path(sys.executable).with_name("tidegate")), "capacity"]
SECRET = "a secret of thirty-two bytes, or more"


def run(*arguments: str, folder: Path, seconds: float = 90) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.alone
def test_what_it_writes_is_in_force_after_a_start_and_holds(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text(f'[auth]\nsecret = "{SECRET}"  # ours\n')
    done = run(
        *("--quick", "--json", "--write", str(config), "--costs", "costs.json", "--most", "400"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert set(report["knees"]) == {"connections", "connects", "messages", "deliveries"}
    limit = report["settings"]["limits.connections"]
    assert 0 < limit <= 320
    assert "# ours" in config.read_text()
    costs = json.loads((tmp_path / "costs.json").read_text())
    assert 100 < costs["bytes_per_connection"] < 20_000

    port, admin = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("tidegate")), "serve", "--config", str(config)]
    for setting in (
        f"server.port={port}",
        f"admin.port={admin}",
        "limits.per_ip=10000",
        "auth.anonymous=true",
    ):
        command += ["--set", setting]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as server:
        try:
            generator = Generator(Server("127.0.0.1", port, "/ws", offered=("tidegate.v1.json",)))
            try:
                until = time.monotonic() + 20
                while not (held := generator.ask("hold", count=20, rate=500, seconds=5))["open"]:
                    assert time.monotonic() < until, held
                held = generator.ask("hold", count=2 * limit, rate=400, seconds=5)
                assert held["open"] <= limit  # at twice the load it refuses the rest
                assert set(held["refused"]) <= {"server_limit", "rate_limited"}
                assert generator.ask("measure", seconds=1.0)["p99"] < 0.5
            finally:
                generator.stop()
        finally:
            server.send_signal(signal.SIGINT)


def test_it_measures_a_server_that_runs_with_its_limits(serve: Start, tmp_path: Path) -> None:
    server: Process = serve({"limits": {"connections": 300, "per_ip": 1000}})
    done = run("--quick", "--json", "--against", server.url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    knee = json.loads(done.stdout)["knees"]["connections"]
    assert knee["driver"] == "refusals"
    assert "server_limit" in json.loads(done.stdout)["notes"][0]
    assert 150 <= knee["load"] <= 300
    assert server.process.poll() is None


def test_ctrl_c_ends_it_with_what_there_is(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--time", "5m", "--most", "4000", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        started = psutil.Process(process.pid)
        # It tries 1,000 connections, then 2,000: a step is done when there are more.
        wait_until(lambda: any(_open(one) > 1500 for one in started.children()), 60, "two steps")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["complete"] is False
    assert report["knees"]["connections"]["load"] >= 1000
    assert set(report["knees"]) == {"connections"}


def _open(process: psutil.Process) -> int:
    try:
        return int(process.num_fds())
    except psutil.Error:
        return 0


def test_a_server_that_it_started_ends_when_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--time", "5m"], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        started = psutil.Process(process.pid)
        wait_until(lambda: len(started.children()) == 2, 20, "server and generator run")
        children = started.children()
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_a_server_that_still_starts_ends_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--time", "5m"], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        started = psutil.Process(process.pid)
        wait_until(started.children, 20, "the server starts")
        children = started.children()
        process.terminate()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--against", "http://x"), "must be like ws://"),
        (("--safety", "0"), "--safety 0"),
        (("--most", "-1"), "--most -1"),
        (("--time", "1s"), "--time"),
        (("--token", "x"), "are for --against"),
        (("--write", "no/such/file.toml"), "cannot be written"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
