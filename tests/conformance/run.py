"""Run the Autobahn testsuite against two echo servers and judge its verdicts.

One is examples/echo.py, a `tidegate.Server`; the other a Starlette application on `tidegate run`,
for the groups whose names begin with "asgi".

The testsuite needs Python 2.7, which may be on the PATH or held by pyenv. Without one this says
so and succeeds, having tested nothing. The tools are installed once, into build/conformance.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "conformance"
VIRTUALENV = "virtualenv==20.21.1"  # the last that makes environments of Python 2.7
TESTSUITE = "autobahntestsuite==25.10.1"
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
SECONDS = 1800  # for one group; a machine with nothing else to do needs about a third
# Neither those that the tests take nor those that a system gives to outgoing connections.
PORTS = iter(range(16_000, 17_000))


@dataclass(frozen=True)
class Group:
    """Cases that one run of the testsuite covers, and how many there must be."""

    name: str
    cases: tuple[str, ...]
    count: int
    deflate: bool = False
    asgi: bool = False


_PROTOCOL = tuple(f"{n}.*" for n in (1, 2, 3, 4, 5, 6, 7, 10))
_DEFLATE = (
    *("12.1.1", "12.1.6", "12.1.11", "12.2.5", "12.5.13"),
    *(f"13.{n}.1" for n in range(1, 8)),
)

# Groups run at the same time, the longest first.
GROUPS = (
    Group("12-compression", ("12.*",), 90, deflate=True),
    Group("13-compression-a", ("13.1.*", "13.2.*", "13.3.*", "13.4.*"), 72, deflate=True),
    Group("13-compression-b", ("13.5.*", "13.6.*", "13.7.*"), 54, deflate=True),
    Group("9-size-and-speed", ("9.*",), 54),
    Group("1-to-7-and-10", _PROTOCOL, 247),
    # Compression is the same engine's and takes the longest, so there are a few of each kind.
    Group("asgi-9", ("9.*",), 54, asgi=True),
    Group("asgi-1-to-7-and-10", _PROTOCOL, 247, asgi=True),
    Group("asgi-12-and-13", _DEFLATE, 12, deflate=True, asgi=True),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one group: how often each verdict, and what is wrong."""

    group: Group
    verdicts: Counter[str]
    problems: list[str]
    seconds: float


def main() -> int:
    """Run the groups whose names begin with one of the arguments, by default all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="*", help=", ".join(group.name for group in GROUPS))
    wanted = parser.parse_args().groups
    groups = [g for g in GROUPS if not wanted or any(g.name.startswith(name) for name in wanted)]
    if not groups:
        parser.error(f"no group is named {' or '.join(wanted)}")
    python = find_python27()
    if python is None:
        print("SKIPPED: the Autobahn testsuite needs Python 2.7, on the PATH or in pyenv.")
        return 0
    wstest = install(python)
    print(f"{'cases':<18} {'run':>4} {'of':>4} {'OK':>4} {'NON-STRICT':>11} {'INFO':>5}  seconds")
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(lambda group: report(run(wstest, group)), groups))
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems:
        print(problem)
    total = sum(outcome.group.count for outcome in outcomes)
    print(f"{len(problems)} problems" if problems else f"All {total} cases passed.")
    return 1 if problems else 0


def report(outcome: Outcome) -> Outcome:
    """Print the line of one group."""
    verdicts, group = outcome.verdicts, outcome.group
    print(
        f"{group.name:<18} {verdicts.total():>4} {group.count:>4} {verdicts['OK']:>4} "
        f"{verdicts['NON-STRICT']:>11} {verdicts['INFORMATIONAL']:>5}  {outcome.seconds:.0f}",
        flush=True,
    )
    return outcome


def run(wstest: Path, group: Group) -> Outcome:
    """Run one group of cases against a server of its own."""
    started = time.monotonic()
    folder = BUILD / "reports" / group.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = folder / "index.json"
    problems = []
    with (folder / "log.txt").open("wb") as log, echo_server(group, log.fileno()) as port:
        spec = {
            "outdir": str(folder),
            "servers": [{"agent": "tidegate", "url": f"ws://127.0.0.1:{port}"}],
            "cases": group.cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        command = [str(wstest), "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
        try:
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            problems.append(f"{group.name}: not done in {SECONDS} s")
    # Its exit code is 0 even when it could not connect, so only the verdicts count.
    cases = json.loads(index.read_text())["tidegate"] if index.exists() else {}
    verdicts: Counter[str] = Counter()
    for name, case in sorted(cases.items()):
        verdicts[case["behavior"]] += 1
        if case["behavior"] not in GOOD or case["behaviorClose"] not in GOOD:
            verdict = f"{case['behavior']}, close {case['behaviorClose']}"
            problems.append(f"case {name}: {verdict} ({folder / case['reportfile']})")
    if len(cases) != group.count:
        problems.append(f"{group.name}: {len(cases)} of {group.count} cases ran (see {folder})")
    return Outcome(group, verdicts, problems, time.monotonic() - started)


@contextmanager
def echo_server(group: Group, log: int) -> Iterator[int]:
    """Run the server of a group and yield its port."""
    port = next(port for port in PORTS if not listens(port))
    if group.asgi:
        program = ["-m", "tidegate", "run", "echo_asgi:app", "--app-dir", str(HERE)]
        program += ["--config", str(HERE / "echo_asgi.toml"), "--no-access-log"]
        program += ["--set", f"deflate.enabled={json.dumps(group.deflate)}"]
    else:
        program = [str(ROOT / "examples" / "echo.py"), *(["--deflate"] if group.deflate else [])]
    command = [sys.executable, *program, "--port", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 15
        while not listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(command)}: does not serve")
            time.sleep(0.05)
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def listens(port: int) -> bool:
    """Tell whether something accepts connections at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def find_python27() -> Path | None:
    """The Python 2.7 of this machine, if it has one that runs."""
    found: list[str | None] = [shutil.which("python2.7")]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        found += map(str, sorted(Path(root).glob("versions/2.7*/bin/python2.7"), reverse=True))
    for python in filter(None, found):
        # pyenv's shims are there for versions that are not, and fail when they are run.
        check = [python, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
        if subprocess.run(check, capture_output=True).returncode == 0:
            return Path(python)
    return None


def install(python27: Path) -> Path:
    """Install the testsuite, if that was not done before, and return its program."""
    tools, suite = BUILD / "tools", BUILD / "wstest"
    ready = suite / f".ready-{TESTSUITE}"
    if not ready.exists():
        print(f"Installing the Autobahn testsuite into {suite.relative_to(ROOT)} (once)")
        shutil.rmtree(suite, ignore_errors=True)
        call(sys.executable, "-m", "venv", "--clear", tools)
        call(tools / "bin" / "pip", "install", "--quiet", VIRTUALENV)
        call(tools / "bin" / "virtualenv", "--quiet", "--python", python27, suite)
        call(suite / "bin" / "pip", "install", "--quiet", "--no-python-version-warning", TESTSUITE)
        ready.touch()
    return suite / "bin" / "wstest"


def call(*command: str | Path) -> None:
    """Run a command of the set-up, and stop here with what it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        raise SystemExit(f"failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    sys.exit(main())
