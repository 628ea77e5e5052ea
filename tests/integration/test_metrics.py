"""The metrics page, looked at by the real promtool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import httpx

from tests.conftest import Start
from tests.support.tokens import SECRET, bearer
from tidegate.wire.frames import TEXT


def test_metrics_follow_the_conventions_of_prometheus(
    serve: Start, tool: Callable[[str], str]
) -> None:
    promtool = tool("promtool")
    tiers = {"free": {"connections": 5}}
    server = serve({"auth": {"secret": SECRET}, "tiers": tiers})
    with server.connect() as client, server.connect() as other:
        client.open(headers=[bearer("ann"), ("Sec-WebSocket-Protocol", "tidegate.v1.json")])
        assert other.ask(path="/nothing").status == 404
        status, text = server.get("/metrics")
        assert status == 200
        found = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
        )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_ends_are_counted_by_close_code(serve: Start) -> None:
    server = serve()
    assert server.metrics()["websocket_ready"] == 1
    for code in (1000, 4008, 4321, 3999):
        with server.connect() as client:
            client.open()
            client.send_close(code)
            client.closed(code)
    with server.connect() as client:
        client.open()
        client.reset()
    server.wait_open(0)
    metrics = server.metrics()
    closes = {
        code: metrics[f'websocket_closes_total{{code="{code}"}}']
        for code in ("1000", "1001", "1006", "4008", "4xxx", "3xxx")
    }
    assert closes == {"1000": 1, "1001": 0, "1006": 1, "4008": 1, "4xxx": 1, "3xxx": 1}


def test_messages_are_counted_by_who_published_them(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.open(headers=[("Sec-WebSocket-Protocol", "tidegate.v1.json")])
        client.message()
        for number, kind in enumerate(("join", "room_message", "direct_message")):
            to = "user" if kind == "direct_message" else "room"
            client.send_frame(
                TEXT, json.dumps({"type": kind, to: "r", "data": number, "id": number})
            )
        # Acknowledged: the join and the message, which came back too. Refused: it has no user.
        kinds = [json.loads(client.message())["type"] for _ in range(4)]
        assert sorted(kinds) == ["ack", "ack", "error", "room_message"]
    for body in ({"room": "r", "data": 1}, {"user": "ann", "data": 1}, {"all": True, "data": 1}):
        answer = httpx.post(f"http://127.0.0.1:{server.admin_port}/publish", json=body)
        assert answer.status_code == 200
    metrics = server.metrics()
    assert metrics['websocket_published_total{source="client"}'] == 1
    assert metrics['websocket_published_total{source="api"}'] == 3
    name = "tidegate_admin_requests_total"
    assert metrics[name + '{route="/publish",status="200"}'] == 3
