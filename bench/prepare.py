"""Builds what the benchmarks need into bench/build, once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.process import BUILD, HERE, BenchError

__all__ = ["PEER_PYTHON", "compile_c", "draw", "install_node", "install_python", "version_of"]

PEER_PYTHON = BUILD / "venv" / "bin" / "python"


def _run(command: list[str], cwd: Path = HERE) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=180)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise BenchError(f"{' '.join(command[:4])} ... failed: {done.stderr.strip()[-600:]}")
    return done.stdout


def _once(source: Path, stamp: Path, build: Callable[[], object]) -> None:
    """Call `build` unless it was done for this very content of `source`."""
    wanted = source.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        build()
        stamp.write_text(wanted)


def compile_c() -> None:
    """Compile the load generators and the bare server; BenchError without a C compiler."""
    BUILD.mkdir(exist_ok=True)
    newest_header = max(header.stat().st_mtime for header in HERE.glob("*.h"))
    for source in (HERE / "load.c", HERE / "herd.c", HERE / "servers" / "bare.c"):
        target = BUILD / source.stem
        newest = max(newest_header, source.stat().st_mtime)
        if target.exists() and target.stat().st_mtime >= newest:
            continue
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise BenchError("the load generator needs a C compiler (cc), and there is none")
        _run([compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)])


def install_python() -> None:
    """Install the Python peers at their pinned versions into an environment of their own."""
    requirements = HERE / "requirements.txt"

    def build() -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(BUILD / "venv")])
        pip = [str(PEER_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--requirement", str(requirements)])

    _once(requirements, BUILD / "venv.stamp", build)


def install_node() -> None:
    """Install the npm peer; BenchError without Node.js."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise BenchError("needs Node.js and npm, and they are not here")
    package = HERE / "package.json"

    def build() -> None:
        shutil.copy(package, BUILD / "package.json")
        _run(["npm", "install", "--no-audit", "--no-fund", "--silent"], BUILD)

    _once(package, BUILD / "node.stamp", build)


def draw(figures: Path, picture: Path) -> None:
    """Draw the figures of a storm as a PNG; BenchError when that fails."""
    _run([str(PEER_PYTHON), str(HERE / "picture.py"), str(figures), str(picture)])


def version_of(name: str) -> str:
    """Return the version of an installed peer, or of `node`."""
    if name == "node":
        return _run(["node", "--version"]).strip().removeprefix("v")
    if name == "ws":
        text = (BUILD / "node_modules" / "ws" / "package.json").read_text()
        return str(json.loads(text)["version"])
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return _run([str(PEER_PYTHON), "-c", code]).strip()
