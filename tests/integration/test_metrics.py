"""The metrics page, looked at by the real promtool."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.conftest import Start
from tests.support.tokens import SECRET, bearer


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
