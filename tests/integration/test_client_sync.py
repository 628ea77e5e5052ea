"""The Python client for scripts: a thread of its own, and nothing left of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from inspect import signature
from typing import get_type_hints

import pytest

from tests.conftest import Start
from tests.support.net import free_port
from tests.support.process import Process
from tidegate.client import Client as AsyncClient
from tidegate.client import ClientClosed, ClientError, Direct, Joined, State, StateChange
from tidegate.client.options import Options
from tidegate.client.room import Room as AsyncRoom
from tidegate.client.sync import Client, Room, connect
from tidegate.errors import UsageError

SETTINGS = {"rooms": {"rules": [{"pattern": "*", "history_size": 100, "presence": "members"}]}}
PATIENCE = 30.0


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(SETTINGS)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_script_publishes_and_reads(server: Process) -> None:
    with connect(server.url) as client, client.room("script") as room:
        assert room.joined
        assert room.publish({"n": 1}).offset == 1
        for message in room:
            assert message.data == {"n": 1}
            break
        client.publish("script", 2)
        client.publish("script", 3)
        assert [room.receive(PATIENCE).data for _ in range(2)] == [2, 3]
        with pytest.raises(TimeoutError):
            room.receive(0.01)
        client.publish("script", 4)
        assert room.receive(PATIENCE).data == 4
        assert [kept.data for kept in room.history(2).messages] == [3, 4]
        assert room.position is not None
        assert room.position.offset == 4
        with pytest.raises(ClientError, match="not_allowed"):
            client.direct("ann", 1)  # it is anonymous
        assert client.ping() >= 0
        assert client.info is not None
    assert client.state is State.CLOSED


def test_listeners_and_feeds_are_told(server: Process) -> None:
    client = Client(server.url)
    states: list[State] = []
    client.on(StateChange, lambda change: states.append(change.state))
    changes = client.events(StateChange)
    directs = client.events(Direct)
    with client:
        assert changes.receive(PATIENCE).state is State.CONNECTING
        assert changes.receive(PATIENCE).state is State.OPEN
        room = client.room("told", presence=True)
        joins = room.events(Joined)
        end = room.on(Joined, lambda _: states.clear())
        room.join()
        end()
        assert joins.receive(PATIENCE).members == 1
        assert states == []
    assert states == [State.CLOSED]
    for feed in (changes, directs):
        with pytest.raises(ClientClosed):
            feed.receive()


def test_call_from_a_listener_is_refused_and_does_not_hang(server: Process) -> None:
    found: list[Exception] = []
    client = Client(server.url)

    def listener(_: StateChange) -> None:
        try:
            client.ping()
        except UsageError as error:
            found.append(error)

    client.on(StateChange, listener)
    with client:
        assert "must not wait" in str(found[0])


def test_threads_share_a_client(server: Process) -> None:
    with connect(server.url) as client:
        room = client.room("shared")
        room.join()

        def publish() -> None:
            for number in range(10):
                room.publish(number, timeout=PATIENCE)

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        found = [room.receive(PATIENCE).data for _ in range(40)]
        for thread in threads:
            thread.join()
        assert sorted(found) == sorted([*range(10)] * 4)


def test_closed_client_ends_loops_in_other_threads_and_refuses_calls(server: Process) -> None:
    found: list[object] = []
    with connect(server.url) as client:
        room = client.room("ends")
        room.join()
        reader = threading.Thread(target=lambda: found.extend(room))
        reader.start()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert found == []
    with pytest.raises(ClientClosed):
        client.ping()
    with pytest.raises(ClientClosed):
        room.receive()
    with client:  # and it can be used again
        client.ping()


def test_refused_client_raises(server: Process) -> None:
    with pytest.raises(ClientClosed, match="not_found"), connect(f"{server.url}/nowhere"):
        pass
    with pytest.raises(ClientError, match="room"), connect(server.url) as client:
        client.publish("", 1)


def test_server_that_is_away_is_waited_for_so_long() -> None:
    client = Client(f"ws://127.0.0.1:{free_port()}/ws")
    client.start()
    with pytest.raises(TimeoutError):
        client.ready(0.2)
    assert client.state in (State.CONNECTING, State.BACKOFF)
    client.close()
    client.close()


SCRIPT = """
import sys
from tidegate.client.sync import connect
try:
    with connect(sys.argv[1]) as client:
        print("ready", flush=True)
        for message in client.room("quiet"):
            pass
except KeyboardInterrupt:
    print("interrupted", client.state)
"""


def test_ctrl_c_ends_a_script_that_waits(server: Process) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, server.url]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert script.stdout is not None
    try:
        assert script.stdout.readline() == "ready\n"
        time.sleep(0.2)  # it waits by then; if not, it is interrupted all the same
        script.send_signal(signal.SIGINT)
        assert script.wait(PATIENCE) == 0
        assert script.stdout.read() == "interrupted closed\n"
    finally:
        script.kill()
        script.wait()
        script.stdout.close()


def test_script_that_forgets_its_client_ends(server: Process) -> None:
    script = f"from tidegate.client.sync import Client; Client({server.url!r}).start()"
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE, check=False)
    assert done.returncode == 0


def test_options_are_the_arguments_of_the_other_client() -> None:
    arguments = signature(AsyncClient.__init__).parameters
    assert [*Options.__annotations__] == [*arguments][2:]
    hints = get_type_hints(AsyncClient.__init__)
    assert get_type_hints(Options) == {name: hints[name] for name in [*arguments][2:]}


@pytest.mark.parametrize(("here", "there"), [(Client, AsyncClient), (Room, AsyncRoom)])
def test_calls_are_those_of_the_other_client(here: type, there: type) -> None:
    inside = {"ask_for", "receive", "connected", "lost", "closed"}
    names = {name for name in vars(there) if not name.startswith("_")} - inside
    assert names <= {name for name in vars(here) if not name.startswith("_")}
    for name in names:
        if callable(getattr(there, name)):
            assert [*signature(getattr(here, name)).parameters] == [
                *signature(getattr(there, name)).parameters
            ] or name == "ready"
