"""`tidegate serve --app`: the standalone server asks functions of a module."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.raw import TEXT, Raw

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
MODULE = """
import asyncio
import tidegate

app = tidegate.App()

@app.on_connect
async def connect(request, identity):
    if "slow" in request.query:
        await asyncio.sleep(60)
    return request.query_params.get("name")

@app.on_join
async def join(client, room):
    if room == "welcome":
        await app.send(client.user, {"hello": client.user})
    if room == "broken":
        raise ValueError("a secret of ours")
"""


def opened(server: Any, path: str) -> Raw:
    raw: Raw = server.connect()
    raw.open(headers=[NATIVE], path=path)
    assert json.loads(raw.message())["type"] == "connected"
    return raw


def ask(raw: Raw, **message: Any) -> dict[str, Any]:
    raw.send_frame(TEXT, json.dumps(message))
    answer: dict[str, Any] = json.loads(raw.message())
    return answer


def test_functions_of_a_module_are_asked(serve: Start, tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(MODULE)
    settings = {"hooks": {"timeout": 0.3}}
    server = serve(settings, arguments=["--app", "chat:app", "--app-dir", str(tmp_path)])
    server.expects_errors = True
    with opened(server, "/ws?name=ann") as raw:
        assert server.connections()[0]["user"] == "ann"
        assert ask(raw, type="join", room="welcome", id=1)["data"] == {"hello": "ann"}
        assert json.loads(raw.message())["type"] == "ack"
        answer = ask(raw, type="join", room="broken", id=2)
        assert answer["code"] == "unanswered"
        assert "secret" not in json.dumps(answer)
        with server.connect() as other:
            response = other.ask(path="/ws?slow")
            assert (response.status, response.headers["retry-after"]) == (503, "5")
        metrics = server.get("/metrics")[1]
        assert 'websocket_hooks_total{outcome="failed"} 2.0' in metrics
    wait_until(lambda: not server.connections(), 10, "the lease is back")
    assert "a secret of ours" in server.log


def test_module_without_an_app_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text("app = 1")
    tidegate = str(Path(sys.executable).with_name("tidegate"))
    for name, text in (
        ("chat:app", "--app chat:app: it must be a tidegate.App, not int"),
        ("chat:other", "chat:other: "),
    ):
        done = subprocess.run(
            [tidegate, "serve", "--app", name, "--app-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2, done
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_several_workers_with_an_app_are_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(MODULE)
    tidegate = str(Path(sys.executable).with_name("tidegate"))
    done = subprocess.run(
        [tidegate, "serve", "--workers", "2", "--app", "chat:app", "--app-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done
    assert "server.workers: must be 1 with --app" in done.stderr
