"""The line in front of a full server: in order, nobody twice, nobody lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import Raw
from tests.support.tokens import SECRET, bearer

LIMIT, CROWD = 100, 400
NATIVE: Any = ["tidegate.v1.json"]
SETTINGS: dict[str, Any] = {
    "limits": {"connections": LIMIT, "per_ip": 10_000},
    "waiting_room": {"enabled": True, "max_wait": 60.0},
    "pacing": {"enabled": False},
}

pytestmark = pytest.mark.usefixtures("many_descriptors")


class Visitor:
    """A native client: what it is told while it waits, and when it gets in."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.positions: list[int] = []
        self.inside = asyncio.Event()
        self.times_in = 0
        self.socket: ClientConnection | None = None

    async def come(self, server: Process) -> None:
        self.socket = await websockets.connect(server.url, subprotocols=NATIVE, open_timeout=30)
        first = json.loads(await self.socket.recv())
        self._take(first)
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.socket is not None
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "connected":
            self.times_in += 1
            self.inside.set()
        else:
            assert message["type"] == "queue_status", message
            assert not self.inside.is_set(), "it is in already"
            assert 1 <= message["position"] <= message["totalInQueue"]
            self.positions.append(message["position"])

    async def go(self) -> None:
        assert self.socket is not None
        await self.socket.close()
        await self.reader


def test_native_clients_see_their_position_fall_and_all_get_in(serve: Start) -> None:
    server = serve(SETTINGS)

    async def crowd() -> list[Visitor]:
        visitors = [Visitor(number) for number in range(CROWD)]
        for visitor in visitors:
            await visitor.come(server)
        assert [visitor.inside.is_set() for visitor in visitors] == [True] * LIMIT + [False] * 300
        assert [visitor.positions for visitor in visitors[LIMIT:]] == [[n] for n in range(1, 301)]
        inside = visitors[:LIMIT]
        order: list[int] = []
        most = 0
        while inside:
            # Twenty leave, and the next twenty in line are in.
            leaving, inside = inside[:20], inside[20:]
            await asyncio.gather(*(visitor.go() for visitor in leaving))
            expected = visitors[LIMIT + len(order) : LIMIT + len(order) + 20]
            await asyncio.wait_for(asyncio.gather(*(v.inside.wait() for v in expected)), 10)
            inside += expected
            order += [visitor.number for visitor in expected]
            assert [v.number for v in visitors if v.inside.is_set()] == list(
                range(LIMIT + len(order))
            )
            stats = await asyncio.to_thread(server.stats)
            most = max(most, stats["connections"]["peak"])
            if len(order) == 60:
                await asyncio.sleep(1.5)
        assert most == LIMIT
        return visitors

    visitors = asyncio.run(crowd())
    for visitor in visitors:
        assert visitor.times_in == 1, visitor.number
        assert visitor.positions == sorted(set(visitor.positions), reverse=True)
    # Who waited for long has seen it fall.
    assert all(len(visitor.positions) >= 2 for visitor in visitors[-200:])
    server.wait_open(0)
    stats = server.stats()
    assert stats["connections"]["accepted"] == CROWD
    ended = {event: count for event, count in stats["waited"].items() if count}
    assert ended == {"entered": 300, "promoted": 300}
    assert stats["waiting"] == {"now": 0, "kept": 0}


def test_plain_clients_all_get_in_through_tickets(serve: Start) -> None:
    server = serve(SETTINGS)
    got_in: list[int] = []
    positions: dict[int, list[int]] = {}

    async def visit(number: int, leave: asyncio.Event) -> None:
        headers: dict[str, str] = {}
        while True:
            try:
                socket = await websockets.connect(server.url, additional_headers=headers)
            except InvalidStatus as refused:
                answer = refused.response
                assert answer.status_code == 503
                assert answer.headers["X-Rejection-Reason"] == "waiting"
                headers = {"X-Queue-Ticket": answer.headers["X-Queue-Ticket"]}
                positions.setdefault(number, []).append(int(answer.headers["X-Queue-Position"]))
                await asyncio.sleep(int(answer.headers["Retry-After"]))
            else:
                got_in.append(number)
                # The first hundred stay until all the others have come to wait.
                await leave.wait()
                await socket.close()
                return

    async def crowd() -> None:
        leave = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(CROWD):
                group.create_task(visit(number, leave))
                if number < LIMIT:
                    while len(got_in) <= number:
                        await asyncio.sleep(0.002)
                else:
                    while number not in positions:
                        await asyncio.sleep(0.002)
            assert [positions[n][0] for n in range(LIMIT, CROWD)] == list(range(1, 301))
            leave.set()

    asyncio.run(asyncio.wait_for(crowd(), 60))
    assert sorted(got_in) == list(range(CROWD))
    for seen in positions.values():
        assert seen == sorted(seen, reverse=True)
    server.wait_open(0)
    stats = server.stats()
    assert stats["connections"]["accepted"] == CROWD
    assert stats["connections"]["peak"] == LIMIT
    ended = {event: count for event, count in stats["waited"].items() if count}
    assert ended == {"entered": 300, "promoted": 300}


def test_who_leaves_the_line_or_is_cut_off_gives_its_place_up(serve: Start) -> None:
    server = serve({**SETTINGS, "limits": {"connections": 1}})
    with contextlib.ExitStack() as held:
        inside, polite, rude, last = (
            held.enter_context(server.connect()).open(
                headers=[("Sec-WebSocket-Protocol", "tidegate.v1.json")]
            )
            for _ in range(4)
        )
        assert json.loads(inside.message())["type"] == "connected"
        for place, client in enumerate((polite, rude, last), 1):
            assert json.loads(client.message())["position"] == place
        polite.send_close()
        assert polite.closed(1000)
        rude.reset()
        assert json.loads(last.message())["position"] == 1
        # Nothing can be done before one is in, and nothing of it is done later.
        last.send_frame(1, '{"type":"join","room":"lobby","id":7}')
        error = json.loads(last.message())
        assert (error["code"], error["id"]) == ("not_admitted", 7)
        inside.close()
        assert json.loads(last.message())["type"] == "connected"
        last.send_frame(1, '{"type":"join","room":"lobby","id":8}')
        assert json.loads(last.message()) == {"type": "ack", "id": 8, "members": 1}
        assert server.open() == 1
    server.wait_open(0)


def test_the_wait_is_bounded_and_so_are_the_places(serve: Start) -> None:
    server = serve(
        {
            "limits": {"connections": 1},
            "waiting_room": {"enabled": True, "size": 1, "max_wait": 1.0},
        }
    )
    protocol = [("Sec-WebSocket-Protocol", "tidegate.v1.json")]
    with server.connect().open(), server.connect().open(headers=protocol) as waits:
        with server.connect().open(headers=protocol) as refused:
            assert json.loads(refused.closed(1013).reason) == {
                "error": "queue_full",
                "retryAfter": 60,
            }
        with server.connect() as plain:
            answer = plain.ask()
            assert answer.status == 503
            assert answer.headers["retry-after"] == "60"
            assert "x-queue-ticket" not in answer.headers
        started = time.monotonic()
        assert json.loads(waits.closed(1013).reason)["error"] == "wait_timeout"
        assert time.monotonic() - started < 3
    assert server.stats()["rejections"]["wait_timeout"] == 1


def test_a_late_token_is_asked_for_when_the_wait_is_over(serve: Start) -> None:
    server = serve(
        {
            "limits": {"connections": 1},
            "waiting_room": {"enabled": True},
            "auth": {"secret": SECRET, "anonymous": False, "timeout": 0.5},
        }
    )
    protocol = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
    with server.connect() as inside, server.connect() as waits:
        inside.open(headers=[protocol, bearer("ann")])
        waits.open(headers=[protocol])
        assert json.loads(waits.message())["type"] == "queue_status"
        time.sleep(0.8)
        inside.close()
        close = waits.closed(4501)
        assert json.loads(close.reason) == {"error": "auth_timeout", "retryAfter": None}


def test_a_server_that_stops_ends_the_line(serve: Start) -> None:
    server = serve({"limits": {"connections": 1}, "waiting_room": {"enabled": True}})
    protocol = [("Sec-WebSocket-Protocol", "tidegate.v1.json")]
    with server.connect().open(), server.connect().open(headers=protocol) as waits:
        waits.message()
        server.signal(signal.SIGINT)
        assert waits.closed()
        waits.send_close()
    assert server.process.wait(10) == 0


def _storm(server: Process, seconds: float, clients: int) -> tuple[list[float], float]:
    """So many come at once, and then exactly when they are told to.

    Returns when each was admitted, and by how much this may have been seen too late.
    """
    times: list[float] = []
    reasons: set[str] = set()
    lateness = 0.0

    async def visit(start: float) -> None:
        while True:
            try:
                socket = await websockets.connect(server.url, open_timeout=30)
            except InvalidStatus as refused:
                reasons.add(refused.response.headers["X-Rejection-Reason"])
                await asyncio.sleep(int(refused.response.headers["Retry-After"]))
            else:
                times.append(time.monotonic() - start)
                await socket.close()
                return

    async def watch() -> None:
        nonlocal lateness
        while len(times) < clients:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            lateness = max(lateness, time.monotonic() - before - 0.01)

    async def run() -> None:
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            for _ in range(clients):
                group.create_task(visit(start))

    asyncio.run(asyncio.wait_for(run(), seconds))
    assert reasons == {"rate_limited"}
    return sorted(times), lateness


@pytest.mark.alone
def test_a_storm_is_let_in_at_the_rate(serve: Start) -> None:
    rate, burst, clients = 50, 20, 200
    server = serve(
        {
            "limits": {"per_ip": 1000},
            "pacing": {"enabled": True, "rate": float(rate), "burst": burst},
        }
    )
    times, late = _storm(server, 30, clients)
    assert len(times) == clients
    # Never more in a second than the rate and the burst; what the network adds moves a few.
    for index, begin in enumerate(times):
        within = sum(begin <= at < begin + 1.0 for at in times[index:])
        assert within <= (rate * (1.0 + late) + burst) * 1.15, (begin, within, late)
    # The first ones took the burst; all are back when the rate has let them in, to a second.
    assert times[-1] <= (clients - burst) / rate * 1.05 + 2


def test_the_breaker_takes_the_node_out_of_rotation_and_back(serve: Start) -> None:
    server = serve(
        {
            "limits": {"connections": 1},
            "waiting_room": {"enabled": False},
            "breaker": {"enabled": True, "rejections": 3, "open_for": 1.0, "probes": 1},
        }
    )

    def reason() -> str:
        with server.connect() as client:
            answer = client.ask()
            return answer.headers.get("x-rejection-reason", str(answer.status))

    with server.connect().open():
        assert [reason() for _ in range(4)] == ["server_limit"] * 3 + ["breaker"]
        assert server.get("/ready") == (503, {"ready": False, "reason": "breaker"})
    server.wait_open(0)
    assert reason() == "breaker"
    time.sleep(1.1)
    assert server.get("/ready")[0] == 200
    assert reason() == "101"


def test_explain_refusals_and_dry_run(serve: Start) -> None:
    limits = {"connections": 5, "per_user": 1, "dry_run": ["per_ip"], "per_ip": 1}
    server = serve({"limits": limits, "auth": {"secret": SECRET}})
    with contextlib.ExitStack() as held:

        def come(*headers: tuple[str, str]) -> Any:
            return held.enter_context(Raw(server.port)).ask(headers=headers).status

        assert [come(bearer("ann")), come(), come(bearer("ann"))] == [101, 101, 429]
        stats = server.stats()
        assert stats["dryRun"]["per_ip"] == 2
        assert stats["connections"]["current"] == 2
        newest = server.get("/refusals")[1]["refusals"][0]
        assert newest["user"] == "ann"
        assert (newest["reason"], newest["retryAfter"], newest["limit"]) == ("user_limit", 10, 1)
        status, body = server.get("/explain?ip=127.0.0.1&user=ann")
        assert (status, body["outcome"], body["by"]) == (200, "reject", "per_user")
        by_name = {step["name"]: step for step in body["steps"]}
        assert by_name["per_user"]["numbers"] == {"open": 1, "limit": 1}
        assert by_name["per_ip"]["detail"].startswith("dry run, would refuse: 2 of 1")
        assert server.get("/explain?user=bob")[1]["outcome"] == "admit"
        assert server.open() == 2
        assert "dry run: per_ip would have refused" in server.log
