"""Out of file descriptors: nobody waits in vain, the processor is idle, and it passes."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process, get
from tests.support.raw import TEXT, Raw, upgrade

CLIENTS = 90
SECONDS = 3.0


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def answer(raw: Raw) -> str:
    try:
        response = raw.response()
    except (OSError, EOFError):
        return "no answer"
    if response.status == 101:
        return "open"
    return response.headers["x-rejection-reason"]


def processor_time(server: Process) -> float:
    times = server.usage.cpu_times()
    return float(times.user + times.system)


def test_ninety_clients_and_sixty_four_descriptors(serve: Start) -> None:
    server = serve({"limits": {"per_ip": 1000}}, prepare=few_descriptors)
    raws = [server.connect(timeout=20) for _ in range(CLIENTS)]
    for raw in raws:
        raw.send(upgrade())
    answers = Counter(map(answer, raws))
    assert answers["open"] > 15

    lines, used, started = server.log.count("\n"), processor_time(server), time.monotonic()
    while time.monotonic() - started < SECONDS:
        # Who gets in stays: descriptors that were in use for a moment may have become free.
        raws.append(server.connect(timeout=20))
        raws[-1].send(upgrade())
        answers[answer(raws[-1])] += 1
        time.sleep(0.1)
    seconds = time.monotonic() - started
    assert answers["server_limit"] > CLIENTS - 64 + 10
    assert answers.total() == answers["open"] + answers["server_limit"], answers
    assert processor_time(server) - used < 0.05 * seconds
    # One line a second for the descriptors, and one for the refusals.
    assert server.log.count("\n") - lines <= 2 * (seconds + 1)

    # Those who got in are served all the time, and places are free again when some leave.
    stays = [raw for raw in raws if raw.sock.fileno() >= 0 and is_open(raw)]
    assert len(stays) == answers["open"]
    for raw in raws[: CLIENTS // 2]:
        raw.close()
    wait_until(lambda: can_open(server), 20, "it serves again")
    for raw in raws:
        raw.close()
    server.wait_open(0)
    again = [server.connect() for _ in range(20)]
    for raw in again:
        raw.open()
        raw.message()
        raw.close()


def is_open(raw: Raw) -> bool:
    try:
        raw.send_frame(TEXT, '{"type": "dance"}')
        while "unknown_type" not in str(raw.message()):
            pass
    except (OSError, EOFError):
        return False
    return True


def can_open(server: Process) -> bool:
    with server.connect(timeout=20) as raw:
        raw.send(upgrade())
        return answer(raw) == "open"


def test_clients_that_wait_silently(serve: Start) -> None:
    """Half of the clients send nothing: they hold descriptors, but not beyond the deadline."""
    server = serve(
        {"limits": {"per_ip": 1000}, "server": {"handshake_timeout": 1}}, prepare=few_descriptors
    )
    silent = [server.connect(timeout=20) for _ in range(CLIENTS)]
    used, started = processor_time(server), time.monotonic()
    assert all(raw.gone() for raw in silent)
    seconds = time.monotonic() - started
    assert processor_time(server) - used < max(0.05 * seconds, 0.1)
    wait_until(lambda: can_open(server), 20, "it serves again")
    for raw in silent:
        raw.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the limits of a process")
def test_the_soft_limit_on_open_files_is_raised(serve: Start) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))

    server = serve(prepare=lower)
    assert server.usage.rlimit(resource.RLIMIT_NOFILE)[0] == 1024
    warnings = [line for line in server.lines if "warning" in line]
    assert len(warnings) == 1
    assert "1024" in warnings[0]
    assert "limits.connections" in warnings[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of a process")
def test_health_answers_when_no_descriptor_is_left_at_all(serve: Start) -> None:
    """As when the application has opened all there are."""
    server = serve({"limits": {"connections": 200, "per_ip": 200}})
    opened = [server.connect().open() for _ in range(20)]
    soft, hard = server.usage.rlimit(resource.RLIMIT_NOFILE)
    server.usage.rlimit(resource.RLIMIT_NOFILE, (server.usage.num_fds(), hard))
    for _ in range(10):
        assert get(server.port, "/health")[0] == 200
    with server.connect() as raw:
        raw.send(upgrade())
        assert answer(raw) == "server_limit"
    assert "out of file descriptors" in server.log
    server.usage.rlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: can_open(server), 20, "it serves again")
    for raw in opened:
        raw.close()
