"""`tidegate doctor` on this machine: the lines that it prints fix what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.valkey import valkey

COMMAND = Path(sys.executable).with_name("tidegate")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

Result = subprocess.CompletedProcess[str]


def doctor(*arguments: object, prefix: tuple[str, ...] = (), **environment: str) -> Result:
    own = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    return subprocess.run(
        [*prefix, str(COMMAND), "doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**own, "TIDEGATE_CONFIG": "/dev/null", **environment},
        timeout=60,
    )


def findings(*arguments: object, prefix: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    done = doctor("--json", *arguments, prefix=prefix)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert done.returncode == report["exitCode"]
    return {row["id"]: row for row in report["findings"]}


@contextlib.contextmanager
def sleeping(soft: int, hard: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with limits on its descriptors."""
    process = subprocess.Popen(
        ["sleep", "60"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@needs_linux
def test_the_line_for_descriptors_fixes_a_running_process() -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit")
    with sleeping(64, 4096) as process:
        found = findings("--for", 1000, "--pid", process.pid)["descriptors"]
        assert found["severity"] == "error"
        assert "may have 64 descriptors" in found["title"]
        subprocess.run(["sh", "-c", found["fix"]], check=True, timeout=10)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (2048, 2048)
        assert "descriptors" not in findings("--for", 1000, "--pid", process.pid)


@needs_linux
def test_a_shell_with_a_low_hard_limit_is_told() -> None:
    low = ("sh", "-c", 'ulimit -n 256 && exec "$@"', "sh")
    assert "256 descriptors" in findings("--for", 1000, prefix=low)["descriptors"]["title"]
    assert "descriptors" not in findings("--for", 100, prefix=low)


def in_namespace() -> bool:
    """Whether a network namespace of our own can be made, and its sysctls changed."""
    if shutil.which("unshare") is None or shutil.which("sysctl") is None:
        return False
    command = "unshare -n sysctl -w net.core.somaxconn=100"
    return subprocess.run(command.split(), capture_output=True, timeout=10).returncode == 0


@needs_linux
def test_the_line_for_somaxconn_fixes_a_network_namespace(tmp_path: Path) -> None:
    if not in_namespace():
        pytest.skip("needs root, unshare and sysctl")
    script = tmp_path / "script.sh"
    script.write_text(
        f"""
        sysctl -w net.core.somaxconn=128 >&2
        {COMMAND} doctor --json > before.json
        {sys.executable} -c 'import json
found = {{row["id"]: row for row in json.load(open("before.json"))["findings"]}}
print(found["somaxconn"]["fix"])' > fix.sh
        sh fix.sh >&2
        {COMMAND} doctor --json > after.json
        cat /proc/sys/net/core/somaxconn
        """
    )
    environment = {**os.environ, "TIDEGATE_CONFIG": "/dev/null"}
    done = subprocess.run(
        ["unshare", "-n", "sh", "script.sh"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "4096", done.stderr
    after = json.loads((tmp_path / "after.json").read_text())
    assert "somaxconn" not in {row["id"] for row in after["findings"]}


@needs_linux
def test_an_accept_queue_that_nobody_empties_is_found() -> None:
    # More than other programs on this machine are likely to let wait.
    with socket.create_server(("127.0.0.1", 0), backlog=400) as listener:
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as clients:
            for _ in range(300):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            found = findings("--set", "server.backlog=400")["accept-queue"]
    assert found["title"] == f"300 connections wait on port {port} to be accepted"


# All modules are loaded before root is given up: others may not be able to read them.
AS_NOBODY = """
import os, sys
from tidegate.cli.main import run
run(["doctor", "--json", "--for", "1"])
print("begin")
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(run(["doctor", "--pid", "1", "--for", "100"]))
"""


@needs_linux
def test_without_root_it_says_what_it_cannot_see() -> None:
    if os.geteuid():
        pytest.skip("needs root, to give it up")
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "COLUMNS": "60"},
        timeout=60,
    )
    said = done.stdout.partition("begin")[2]
    assert "Not seen" in said, done.stderr
    assert "descriptors of process 1: Permission denied (root can)" in said.replace("\n ", "")
    assert done.stderr == ""


def test_facts_that_were_recorded_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    here = findings("--record", file, "--for", 12_345)
    again = findings("--facts", file, "--for", 12_345)
    assert again == here


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--for", "0"], "--for 0: must be a number from 1 to 100,000,000"),
        (["--pid", "999999999"], "--pid 999999999: there is no such process"),
        (["--pid", "0"], "--pid 0: there is no such process"),
        (["--facts", "no-such.json"], "--facts no-such.json: No such file or directory"),
        (["--facts", __file__], "these are no facts of a machine"),
        (["--hold", "5s"], "--hold: is for --through"),
        (["--through", "http://a"], "must be a URL such as wss://chat.example.com/ws"),
        (["--through", "ws://a:b/"], "must be a URL such as wss://chat.example.com/ws"),
        (["--through", "ws://127.0.0.1:1/", "--token-file", "none"], "--token-file none"),
        (["--through", "ws://127.0.0.1:1/", "--hold", "0s"], "--hold 0s: must be a number"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], said: str) -> None:
    done = doctor(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_for_people_ends_with_a_summary() -> None:
    done = doctor("--facts", Path(__file__).parents[1] / "support/machines/somaxconn_128.json")
    assert done.returncode == 1
    assert "sysctl -w net.core.somaxconn=4096" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 warning; ")


def test_the_backplane_is_looked_at_where_one_is_set(tmp_path: Path) -> None:
    with valkey(tmp_path, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "50mb") as server:
        options = ("--json", "--set", f"backplane.url=redis://u:secret@127.0.0.1:{server.port}/0")
        wrong = json.loads(doctor(*options).stdout)
        assert "backplane-reach" in [row["id"] for row in wrong["findings"]]
        done = doctor("--json", "--set", f"backplane.url={server.url}")
        report = json.loads(done.stdout)
        seen = report["backplane"]
        assert (seen["server"], seen["memory"]) == ("valkey", 50 * 1024 * 1024)
        found = {row["id"] for row in report["findings"]}
        assert {"backplane-eviction", "backplane-persistence"} <= found
        assert "backplane-reach" not in found
        shown = doctor("--set", f"backplane.url={server.url}").stdout
        assert f"Backplane redis://127.0.0.1:{server.port}/0: Valkey " in shown
    gone = doctor(*options)
    assert gone.returncode == 2
    assert "secret" not in gone.stdout + gone.stderr
    assert "backplane-reach" in gone.stdout
