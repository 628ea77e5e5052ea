"""Build the image of the Dockerfile, run it, and look at how it behaves.

It needs root, buildah and debootstrap, and takes three minutes. Without them this says so and
succeeds, having tested nothing. No registry of images is asked: the base is a Debian that is made
here once, in build/image, under the name that the Dockerfile asks for.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "image"
BASE = "docker.io/library/python:3.13-slim"
IMAGE = "localhost/tidegate"
USER = 65532
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def buildah(*arguments: str | Path) -> list[str]:
    """The command, with a storage of its own."""
    storage = ("--storage-driver", "vfs", "--root", BUILD / "store", "--runroot", BUILD / "run")
    return ["buildah", *(str(part) for part in (*storage, *arguments))]


def done(*arguments: str | Path, seconds: float = 600) -> str:
    """Run buildah to its end; what it prints."""
    result = subprocess.run(
        buildah(*arguments), capture_output=True, text=True, timeout=seconds, check=False
    )
    if result.returncode:
        sys.exit(f"buildah {arguments[0]}: {result.stderr}")
    return result.stdout.strip()


def make_base() -> None:
    """Make the base image, unless it is there."""
    if BASE.partition(":")[0] in done("images", "--format", "{{.Name}}"):
        return
    system = BUILD / "debian"
    shutil.rmtree(system, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(system)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    (system / "usr/bin/python").symlink_to("python3")
    container = done("from", "scratch")
    done("add", container, system, "/")
    done("commit", container, BASE)
    done("rm", container)
    shutil.rmtree(system)


def build() -> None:
    """Build the image as the Dockerfile says, with the proxies and certificates of this machine."""
    options: list[str | Path] = ["--format", "docker", "--isolation", "chroot", "--pull-never"]
    for name in PROXIES:
        if name in os.environ:
            options += ["--build-arg", f"{name}={os.environ[name]}"]
    if CERTIFICATES.exists():
        pip = BUILD / "pip.conf"
        pip.write_text(f"[global]\ncert = {CERTIFICATES}\n")
        options += ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "-v", f"{pip}:/etc/pip.conf:ro"]
    done("bud", *options, "--network", "host", "-t", IMAGE, ROOT)


@contextmanager
def serving(container: str, port: int, log: Path) -> Iterator[psutil.Process]:
    """The server in a container, as the process that it is on this machine."""
    variables = {"TIDEGATE_SERVER_PORT": port, "TIDEGATE_DRAIN_WINDOW": 2}
    options = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    command = ["run", "--isolation", "chroot", "--network", "host", *options, container, "--"]
    with log.open("wb") as out:
        runner = subprocess.Popen(
            buildah(*command, "tidegate", "serve"), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as page:
                assert page.status == 200
                break
            if runner.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server does not answer:\n{log.read_text()}")
            time.sleep(0.2)
        own = [
            child
            for child in psutil.Process(runner.pid).children(recursive=True)
            if "tidegate" in " ".join(child.cmdline()) and "buildah" not in child.cmdline()[0]
        ]
        yield own[-1]
        code = runner.wait(30)
        assert code == 0, f"exit code {code}:\n{log.read_text()}"
    finally:
        for child in (
            psutil.Process(runner.pid).children(recursive=True) if runner.poll() is None else ()
        ):
            child.kill()
        runner.kill()
        runner.wait()


def look() -> None:
    """Run the image: who it runs as, what it answers, what it writes, how it ends."""
    container = done("from", "--pull-never", IMAGE)
    try:
        mounted = Path(done("mount", container))
        before = time.time()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with serving(container, port, BUILD / "log.txt") as process:
            assert process.uids().real == USER, process.uids()
            check = ["run", "--isolation", "chroot", "--network", "host", container, "--"]
            done(*check, *health_check())
            process.send_signal(signal.SIGTERM)
        written = [
            path
            for path in (mounted / "opt", mounted / "tmp", mounted / "home", mounted / "var")
            for path in path.rglob("*")
            if path.is_file() and path.stat().st_mtime > before
        ]
        assert written == [], written
    finally:
        done("rm", container)


def health_check() -> list[str]:
    """The command of HEALTHCHECK, as the image has it."""
    import json

    found = json.loads(done("inspect", "--type", "image", IMAGE))
    kind, *command = found["Docker"]["config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    return [str(part) for part in command]


def main() -> int:
    """Build and look; the exit code."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing or os.getuid():
        print(f"not tested: it needs {' and '.join(missing) or 'root'}")
        return 0
    BUILD.mkdir(parents=True, exist_ok=True)
    make_base()
    print("building")
    build()
    print("running")
    look()
    print("The image is built, runs as its own user, answers, writes nothing and drains.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
