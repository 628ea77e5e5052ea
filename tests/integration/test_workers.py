"""Several workers on one port: none of them is missed when it dies or is replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.arrivals import Clients
from tests.support.net import free_port, wait_until
from tests.support.process import ROOT, Process, to_toml
from tests.support.raw import TEXT, Raw
from tests.support.workers import UNBOUND, Crew, crew

TIDEGATE = str(Path(sys.executable).with_name("tidegate"))
THREADS = 6


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != "zombie" for one in processes)


def call(server: Process, path: str, body: Any) -> tuple[int, Any]:
    """Ask the admin API for something to be done."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=20)
    method = "PATCH" if path == "/settings" else "POST"
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    try:
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# Death.


def test_a_worker_that_is_killed_is_back_and_no_waiting_attempt_is_lost(tmp_path: Path) -> None:
    with crew(tmp_path) as them:
        before = them.serving()
        with Clients(them.server.port, THREADS) as clients:
            for number in (1, 2):
                clients.wait_for(clients.ends["101"] + 50)
                os.kill(before[number], signal.SIGKILL)
                wait_until(lambda: them.serving().get(number) not in (None, before[number]), 30)  # noqa: B023
            clients.wait_for(clients.ends["101"] + 50)
        # What the dead had accepted is lost: one of each client, at most, and each time.
        lost = sum(clients.ends.values()) - clients.ends["101"]
        assert lost <= 2 * THREADS, clients.ends
        assert set(clients.ends) <= {"101", "ConnectionResetError", "lost"}, clients.ends
        assert "a worker has died" in them.server.log
        assert "SIGKILL" in them.server.log


def test_attempts_in_the_queue_of_a_dead_worker_are_served_by_the_next(tmp_path: Path) -> None:
    with crew(tmp_path) as them, ExitStack() as open_ones:
        first = them.serving()[1]
        os.kill(first, signal.SIGSTOP)
        waiting = [open_ones.enter_context(Raw(them.server.port, timeout=30)) for _ in range(40)]
        for client in waiting:
            client.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        # The other one has served its own; about half are still in the queue of the first.
        time.sleep(1)
        os.kill(first, signal.SIGKILL)
        assert [client.response().status for client in waiting] == [200] * 40


def test_workers_stop_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with crew(tmp_path) as them:
        workers = them.processes()
        assert len(workers) == 2
        folders = {
            Path(connection.laddr).parent
            for worker in workers
            for connection in worker.net_connections("unix")
            if connection.laddr.endswith(".sock")
        }
        assert len(folders) == 1
        with Raw(them.server.port) as client:
            client.open()
            them.server.process.kill()
            client.closed(1001)
            client.send_close(1001)
        wait_until(lambda: gone(workers), 20, "the workers have ended")
        assert not any(folder.exists() for folder in folders)


# The start.


def test_the_server_fails_with_the_error_of_its_workers(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        to_toml({"server": {"workers": 2, "port": free_port()}, "admin": {"enabled": False}})
    )
    command = [
        TIDEGATE,
        "run",
        "tests.support.no_such_application:app",
        "-c",
        str(tmp_path / "a.toml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert "no_such_application" in done.stderr.splitlines()[-1]


def test_a_port_that_is_in_use_is_an_error(tmp_path: Path) -> None:
    with crew(tmp_path / "a") as them:
        server = {"workers": 2, "port": them.server.port}
        text = to_toml({"server": server, "admin": {"enabled": False}})
        (tmp_path / "b.toml").write_text(text)
        command = [TIDEGATE, "serve", "-c", str(tmp_path / "b.toml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1 port {them.server.port}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--workers", "300"], "server.workers"),
        (["serve", "--workers", "-1"], "server.workers"),
        (["serve", "--workers", "many"], "server.workers"),
        (["run", "a:b", "--workers", "2", "--reload"], "--reload"),
    ],
)
def test_wrong_numbers_of_workers_are_refused(arguments: list[str], said: str) -> None:
    done = subprocess.run([TIDEGATE, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr


def test_one_worker_is_one_process(tmp_path: Path) -> None:
    server = Process.serve(tmp_path, {"server": {"workers": 1}})
    try:
        assert server.usage.children() == []
        assert "workers" not in server.get("/health")[1]
        assert server.stop() == 0
    finally:
        server.kill()


# The end.


def test_a_drain_ends_all_workers_and_leaves_nothing(tmp_path: Path) -> None:
    with crew(tmp_path) as them, ExitStack() as open_ones:
        workers = them.processes()
        clients = [open_ones.enter_context(Raw(them.server.port)).open() for _ in range(20)]
        them.server.wait_open(20)
        them.server.signal(signal.SIGTERM)
        for client in clients:
            client.closed(1012)
            client.send_close(1012)
        assert them.server.process.wait(30) == 0
        assert gone(workers)
        assert "Traceback" not in them.server.log


def test_attempts_are_refused_while_all_workers_drain(tmp_path: Path) -> None:
    with crew(tmp_path, {"drain": {"window": 30}}) as them, Raw(them.server.port) as client:
        client.open()
        them.server.signal(signal.SIGTERM)
        wait_until(lambda: them.server.get("/ready")[0] == 503, 10)
        assert them.server.get("/ready")[1] == {"ready": False, "reason": "draining"}
        wait_until(lambda: len(them.processes()) == 1, 20)

        def refused() -> bool:
            # The socket of the worker that has ended goes a moment later, with who waits in it.
            try:
                with Raw(them.server.port, timeout=20) as late:
                    return late.ask().status == 503
            except ConnectionResetError:
                return False

        wait_until(refused)


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with crew(tmp_path, {"drain": {"window": 60}}) as them, Raw(them.server.port) as client:
        client.open()
        workers = them.processes()
        them.server.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in them.server.log, 10)
        them.server.signal(signal.SIGTERM)
        assert them.server.process.wait(10) == -signal.SIGTERM
        wait_until(lambda: gone(workers), 10, "the workers have ended")


def test_the_drain_command_waits_until_all_workers_have_ended(tmp_path: Path) -> None:
    with crew(tmp_path) as them, ExitStack() as open_ones:
        clients = [open_ones.enter_context(Raw(them.server.port)).open() for _ in range(10)]
        them.server.wait_open(10)
        command = [TIDEGATE, "drain", "--admin", f"127.0.0.1:{them.server.admin_port}"]
        drain = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for client in clients:
            client.closed(1012)
            client.send_close(1012)
        said, _ = drain.communicate(timeout=60)
        assert drain.returncode == 0
        assert said.splitlines()[-1].startswith("drained 10 connections in ")
        assert them.server.process.wait(20) == 0


# New settings.


def test_sighup_replaces_all_workers_and_refuses_nobody(tmp_path: Path) -> None:
    with crew(tmp_path) as them:
        before = them.serving()
        with Clients(them.server.port, THREADS) as clients:
            clients.wait_for(50)
            them.server.configure(
                {**UNBOUND, "server": {"workers": 2}, "limits": {"per_ip": 9_999}}
            )
            them.server.signal(signal.SIGHUP)
            wait_until(lambda: "all workers were replaced" in them.server.log, 60)
            clients.wait_for(clients.ends["101"] + 50)
        assert set(clients.ends) == {"101"}, clients.ends
        after = them.wait_serving(2)
        assert not set(after.values()) & set(before.values())
        settings = them.server.get("/settings")[1]["settings"]
        assert settings["limits.per_ip"]["value"] == 9_999
        metrics = them.server.metrics()
        assert metrics['websocket_limit{setting="per_ip"}'] == 9_999
        # What the workers were asked by the supervisor does not count.
        assert metrics['tidegate_admin_requests_total{route="/settings",status="200"}'] == 1
        assert 'tidegate_admin_requests_total{route="/stats",status="200"}' not in metrics
        # Those that have ended go on to count.
        assert metrics['websocket_connections_total{result="accepted"}'] == clients.ends["101"]
        assert them.server.stats()["connections"]["accepted"] == clients.ends["101"]


def test_sighup_with_settings_that_are_wrong_changes_nothing(tmp_path: Path) -> None:
    with crew(tmp_path) as them:
        before = them.serving()
        them.server.configure({"server": {"workers": 2}, "limits": {"per_ip": -1}})
        them.server.signal(signal.SIGHUP)
        wait_until(lambda: "the settings were not reloaded" in them.server.log, 20)
        assert "limits.per_ip" in them.server.log
        assert them.serving() == before
        # These are seen to be wrong by a worker only.
        no_file = {"certificate": str(tmp_path / "no.pem"), "key": str(tmp_path / "no.key")}
        them.server.configure({**UNBOUND, "server": {"workers": 2}, "tls": no_file})
        them.server.signal(signal.SIGHUP)
        wait_until(lambda: "a new worker did not start" in them.server.log, 30)
        assert them.serving() == before
        # A worker that is started now gets the settings that are in force.
        os.kill(before[1], signal.SIGKILL)
        wait_until(lambda: them.serving().get(1) not in (None, before[1]), 30)


def test_settings_that_belong_to_the_supervisor_stay(tmp_path: Path) -> None:
    with crew(tmp_path) as them:
        them.server.configure({**UNBOUND, "server": {"workers": 3, "port": free_port()}})
        them.server.signal(signal.SIGHUP)
        wait_until(lambda: "all workers were replaced" in them.server.log, 60)
        assert "these settings need a restart to change" in them.server.log
        assert "server.port, server.workers" in them.server.log
        them.wait_serving(2)
        with Raw(them.server.port) as client:
            client.open()


# What operators see and do.


def test_what_operators_see_adds_up(tmp_path: Path) -> None:
    with crew(tmp_path) as them, ExitStack() as open_ones:
        server = them.server
        clients = [open_ones.enter_context(Raw(server.port)).open() for _ in range(30)]
        server.wait_open(30)
        metrics = server.metrics()
        assert metrics['websocket_connections_current{state="open"}'] == 30
        each = [metrics[f'websocket_connections_peak{{worker="{n}"}}'] for n in (1, 2)]
        assert sum(each) == 30
        assert min(each) > 0, "the kernel spreads them"
        assert metrics["websocket_handshake_duration_seconds_count"] == 30
        assert server.stats()["connections"]["accepted"] == 30
        assert server.stats()["connections"]["limit"] == 20_000
        # Page after page, each connection once.
        seen: list[str] = []
        after: int | None = 0
        while after is not None:
            body = server.get(f"/connections?limit=4&after={after}")[1]
            seen += [row["id"] for row in body["connections"]]
            after = body["next"]
        assert len(seen) == len(set(seen)) == 30
        assert server.get("/explain?ip=10.0.0.1")[1]["outcome"] == "admit"
        assert server.get("/connections?nonsense=1")[0] == 400
        assert server.get("/timeline")[1]["moments"]
        assert [client.open for client in clients]


def test_what_operators_do_is_done_in_all_workers(tmp_path: Path) -> None:
    with crew(tmp_path) as them, ExitStack() as open_ones:
        server = them.server
        clients = [open_ones.enter_context(Raw(server.port)).open() for _ in range(20)]
        server.wait_open(20)
        for client in clients:
            client.send_frame(TEXT, json.dumps({"type": "join", "room": "a"}))
            client.message()
        room = {"name": "a", "members": 20, "history": None}
        assert server.get("/rooms")[1]["rooms"] == [room]
        assert server.get("/rooms?after=")[1]["rooms"] == [room]
        assert call(server, "/publish", {"room": "a", "data": 1}) == (200, {"members": 20})
        for client in clients:
            assert json.loads(client.message())["data"] == 1
        status, body = call(server, "/publish/batch", {"messages": [{"all": True, "data": 2}]})
        assert (status, body) == (200, {"results": [{"delivered": 20}]})
        for client in clients:
            assert json.loads(client.message())["data"] == 2
        assert call(server, "/publish", {"data": 1})[0] == 400
        assert call(server, "/settings", {"limits": {"per_ip": 77}})[1]["applied"] == [
            "limits.per_ip"
        ]
        assert server.metrics()['websocket_limit{setting="per_ip"}'] == 77
        # Also for those that are started later.
        before = them.serving()
        os.kill(before[1], signal.SIGKILL)
        wait_until(lambda: them.serving().get(1) not in (None, before[1]), 30)
        assert server.metrics()['websocket_limit{setting="per_ip"}'] == 77
        left = server.open()
        assert 0 < left < 20
        assert call(server, "/disconnect", {"ip": "127.0.0.1"}) == (200, {"count": left})
        # The peak is what there was at one time, in all of them.
        assert server.stats()["connections"]["peak"] == 20


def test_haproxy_is_answered_for_all_workers(tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "agent_check": {"enabled": True, "port": port},
        "limits": {"per_ip": 10_000, "connections": 40},
        "drain": {"window": 3},
    }

    def answer() -> str:
        with socket.create_connection(("127.0.0.1", port), 10) as asked:
            return asked.makefile().readline()

    with crew(tmp_path, settings) as them, ExitStack() as clients:
        them.wait_serving(2)
        wait_until(lambda: answer() == "ready up 100% maxconn:80\n", 30, "both are idle")
        for _ in range(40):
            clients.enter_context(them.server.connect().open())
        # Whichever worker has them: the mean is half.
        wait_until(lambda: answer() == "ready up 50% maxconn:80\n", 30, "it is half full")
        them.server.signal(signal.SIGTERM)
        wait_until(lambda: answer() == "drain\n", 30, "it drains")


def test_logs_say_which_worker_speaks(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"log": {"format": "json"}, "server": {"workers": 2}}
    server = Process.serve(tmp_path, {**UNBOUND, **settings, "drain": {"window": 0}})
    try:
        wait_until(lambda: '"started"' in server.log, 30)
        server.signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        said = [json.loads(line) for line in server.lines if line]
        assert {one.get("worker") for one in said if one["event"] == "draining"} == {None, 1, 2}
    finally:
        server.kill()


# Applications, Unix sockets, systemd.


def test_an_application_runs_in_several_workers(tmp_path: Path) -> None:
    settings = {**UNBOUND, "server": {"workers": 2}}
    command = [TIDEGATE, "run", "tests.support.asgi_app:app", "--app-dir", str(ROOT)]
    server = Process(command, tmp_path, settings).wait_ready()
    try:
        wait_until(lambda: "Press Ctrl-C" in server.log, 30)
        assert len(Crew(server).wait_serving(2)) == 2
        assert server.stop() == 0
    finally:
        server.kill()


def test_workers_share_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "public.sock")
    with crew(tmp_path, {"server": {"host": ["127.0.0.1", f"unix:{path}"]}}) as them:
        them.wait_serving(2)
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(path)
                sock.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert them.server.stop() == 0
    assert not Path(path).exists()
