"""`tidegate run`: applications, options, logs and ends, as somebody sees them who knows uvicorn."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.certificates import client_context, make_certificate
from tests.support.net import is_listening, wait_until
from tests.support.process import ROOT, Process

RUN = "-m tidegate run"
APP = "tests.support.asgi_programs:app"
SHOWS = "tests.support.asgi_programs:shows"


def body(server: Process, path: str = "/", **headers: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read().decode()


def test_run_serves_http_and_websockets_and_drains(program: Start) -> None:
    server = program(f"{RUN} {APP}", {"drain": {"window": 0.5}})
    assert body(server) == "hello"
    url = f"ws://127.0.0.1:{server.port}/echo"
    with connect(url, proxy=None) as client:
        client.send("one")
        assert client.recv(10) == "one"
        assert server.open() == 1
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert server.process.wait(20) == 0
    assert f"serves  {APP} on http://127.0.0.1:{server.port}" in server.log
    assert '"GET / HTTP/1.1" 200' in server.log
    assert "the application has shut down" in server.log
    assert "disconnect 1012" in server.log
    assert "0.0.0.0" not in server.log


def test_run_limits_and_says_why(program: Start) -> None:
    server = program(f"{RUN} {APP} --no-access-log --set limits.per_ip=1")
    url = f"ws://127.0.0.1:{server.port}/echo"
    with connect(url, proxy=None):
        with pytest.raises(InvalidStatus) as refused, connect(url, proxy=None):
            pass
        assert refused.value.response.headers["X-Rejection-Reason"] == "ip_limit"
    body(server)
    assert "GET /" not in server.log


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("nowhere:app", 2, 'nowhere:app: Could not import module "nowhere"'),
        (f"{APP}x", 2, 'Attribute "appx" not found'),
        ("tests.support.asgi_programs", 2, '"<module>:<attribute>"'),
        ("tests.support.asgi_programs:no_application", 2, "it is no application, but of type int"),
        ("tests.support.asgi_programs:fails", 1, "the application did not start"),
        ("tests.support.asgi_broken:app", 1, "asgi_broken:app: it cannot be imported"),
        ("tests.support.asgi_programs:no_database --factory", 1, "the factory failed"),
        (f"{APP} --port 70000", 2, "server.port = 70000 (--port)"),
        (f"{APP} --fd 999", 2, "--fd 999: Bad file descriptor"),
        (f"{APP} --host a --uds b", 2, "--host or --uds"),
        (f"{APP} --fd 3 --reload", 2, "--fd does not work with --reload"),
        (f"{APP} --reload --reload-dir /nowhere", 2, "there is no such directory"),
        (f"{APP} --env-file /nowhere", 2, "there is no such file"),
        (f"{APP} --timeout-keep-alive -1", 2, "--timeout-keep-alive"),
        (f"{APP} --forwarded-allow-ips nobody", 2, "proxies.trusted"),
        (f"{APP} --ssl-certfile /nowhere --ssl-keyfile /nowhere", 2, "tls.certificate"),
        ("", 2, "APP is missing"),
    ],
)
def test_run_of_what_cannot_run_says_why(arguments: str, code: int, says: str) -> None:
    done = subprocess.run(
        [sys.executable, *RUN.split(), *arguments.split(), "--set", "admin.port=0"],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    if code == 2:
        assert "Traceback" not in done.stderr


def test_run_shows_why_the_application_did_not_start() -> None:
    done = subprocess.run(
        [sys.executable, *RUN.split(), "tests.support.asgi_programs:fails"],
        env={**os.environ, "TIDEGATE_ADMIN_PORT": "0", "TIDEGATE_SERVER_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "\n    Traceback (most recent call last):\n      the database is down\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "file", "error"),
    [
        ("asgi_broken:app", "asgi_broken.py", "RuntimeError: of the module"),
        ("asgi_programs:no_database --factory", "asgi_programs.py", "OSError: no database"),
    ],
)
def test_run_shows_the_traceback_of_the_application_and_nothing_of_ours(
    arguments: str, file: str, error: str
) -> None:
    done = subprocess.run(
        [sys.executable, *RUN.split(), *f"tests.support.{arguments}".split()],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    lines = done.stderr.splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert f"/tests/support/{file}" in lines[2]
    assert lines[-1] == f"    {error}"
    assert "src/tidegate" not in done.stderr
    assert "importlib" not in done.stderr


def test_run_takes_the_options_of_uvicorn(program: Start, tmp_path: Path) -> None:
    env = tmp_path / "own.env"
    env.write_text("SHOWN=from-the-file\nTIDEGATE_LIMITS_PER_IP=7\n")
    server = program(
        f"{RUN} {SHOWS} --env-file {env} --root-path /api --proxy-headers --lifespan off"
    )
    assert body(server, "/x", **{"X-Forwarded-For": "192.0.2.9"}) == "from-the-file /api 192.0.2.9"
    assert server.get("/settings")[1]["settings"]["limits.per_ip"]["value"] == 7


def test_run_believes_no_proxy_that_it_was_not_told_of(program: Start) -> None:
    server = program(f"{RUN} {SHOWS}")
    assert body(server, "/x", **{"X-Forwarded-For": "192.0.2.9"}).split() == ["127.0.0.1"]


def test_run_listens_on_a_unix_socket(program: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = Process(
        [sys.executable, *RUN.split(), SHOWS, "--uds", str(path)], tmp_path, admin=False
    )
    try:
        wait_until(lambda: is_listening(path), 20, "it listens")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert server.stop() == 0
    finally:
        server.kill()


def test_run_takes_over_a_socket(program: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        command = [sys.executable, *RUN.split(), SHOWS, "--fd", str(passed.fileno())]
        server = Process(command, tmp_path, port=port, admin=False, pass_fds=[passed.fileno()])
        try:
            assert "127.0.0.1" in body(server)  # it waits in the queue until it is served
            assert server.stop() == 0
        finally:
            server.kill()


def test_run_serves_tls(program: Start, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = program(f"{RUN} {APP} --ssl-certfile {certificate} --ssl-keyfile {key}")
    url = f"wss://127.0.0.1:{server.port}/echo"
    with connect(url, ssl=client_context(certificate), proxy=None) as client:
        client.send("one")
        assert client.recv(10) == "one"


def test_run_makes_an_application_by_its_factory(program: Start) -> None:
    assert body(program(f"{RUN} tests.support.asgi_programs:make --factory")) == "hello"


def test_run_begins_anew_when_a_file_changes(program: Start, tmp_path: Path) -> None:
    own = tmp_path / "reloaded.py"
    text = "from tests.support.asgi_programs import {} as app\n"
    own.write_text(text.format("shows"))
    server = program(f"{RUN} reloaded:app --app-dir {tmp_path} --reload", admin=False)
    assert body(server) != "hello"

    written = 0.0

    def changed() -> bool:
        nonlocal written
        if time.monotonic() > written + 8:  # again, because it may not have watched yet
            own.write_text(text.format("app"))
            written = time.monotonic()
        time.sleep(0.2)
        with contextlib.suppress(OSError, http.client.HTTPException):
            return body(server) == "hello"
        return False

    wait_until(changed, 60, "the new file is served")


def test_run_in_python(program: Start) -> None:
    server = program("-m tests.support.run_in_python", admin=False)
    assert body(server) == "hello"
