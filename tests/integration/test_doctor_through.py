"""`tidegate doctor --through` with real proxies: it finds what each of them does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port
from tests.support.process import Process
from tests.support.proxies import ADDRESS, HOST, UPGRADE, Tool, haproxy, nginx
from tests.support.tokens import SECRET, token

COMMAND = Path(sys.executable).with_name("tidegate")
TRUSTED = {"proxies": {"trusted": ["127.0.0.1"]}, "heartbeat": {"interval": 2.0}}


def through(
    port: int, server: Process, *options: object, path: str = "/ws", hold: str = "4s"
) -> tuple[set[str], dict[str, Any]]:
    """The ids of what is found about the proxy, and what was seen."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    url = f"ws://127.0.0.1:{port}{path}"
    done = subprocess.run(
        [COMMAND, "doctor", "--json", "--through", url, "--hold", hold, *map(str, options)],
        capture_output=True,
        text=True,
        env={**own, "TIDEGATE_CONFIG": str(server.config)},
        timeout=90,
    )
    assert done.stderr == ""
    report = json.loads(done.stdout)
    ids = {row["id"] for row in report["findings"] if row["id"].startswith("through-")}
    return ids, report["through"]


def test_a_haproxy_that_does_all_right_has_no_finding(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    server = serve(TRUSTED)
    with haproxy(tool, tmp_path, server.port, options="option forwardfor") as port:
        ids, seen = through(port, server)
    assert ids == set(), seen
    assert seen["status"] == 101
    assert seen["native"]
    assert seen["seen_address"] == seen["own_address"] == "127.77.0.1"
    assert seen["foreign_reason"] == "origin"
    # Its buffer has 16 KiB, of which one is for headers that it adds.
    assert seen["largest_head"] > 8000
    assert seen["pings"] >= 1
    assert not seen.get("cut")
    assert 0 < seen["round_trip"] < 5


def test_an_nginx_that_does_all_right_has_no_finding(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    server = serve(TRUSTED)
    options = UPGRADE + HOST + ADDRESS
    head = "large_client_header_buffers 4 16k;"
    with nginx(tool, tmp_path, server.port, options=options, head=head) as port:
        ids, seen = through(port, server)
    assert ids == set(), seen
    assert seen["server"].startswith("nginx")
    assert seen["seen_address"] == "127.77.0.1"


def test_an_nginx_as_it_comes_drops_the_upgrade(serve: Start, tool: Tool, tmp_path: Path) -> None:
    server = serve(TRUSTED)
    with nginx(tool, tmp_path, server.port, options="") as port:
        ids, seen = through(port, server)
    assert ids == {"through-connect"}
    assert (seen["status"], seen["reason"]) == (426, "upgrade_required")


def test_an_nginx_with_upgrade_only_hides_host_and_client(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    # The name of its upstream is sent as Host, and what a client claims is passed on as it is.
    server = serve(TRUSTED)
    head = "large_client_header_buffers 4 2k; client_header_buffer_size 1k;"
    with nginx(tool, tmp_path, server.port, options=UPGRADE, head=head) as port:
        ids, seen = through(port, server, hold="1s")
    assert ids == {"through-host", "through-address", "through-heads"}
    assert seen["seen_address"] == seen["forged_address"]
    assert (seen["page_status"], seen["page_reason"]) == (403, "origin")
    assert 1024 < seen["largest_head"] < seen["refused_head"] <= 2500
    assert seen["refused_head_status"] == 400


def test_a_proxy_that_is_not_trusted_is_taken_for_the_client(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    server = serve({"heartbeat": {"interval": 2.0}})
    with haproxy(tool, tmp_path, server.port, options="option forwardfor") as port:
        ids, seen = through(port, server, hold="1s")
    assert ids == {"through-address"}
    assert seen["seen_address"] == "127.0.0.1"


def test_a_timeout_below_the_heartbeat_is_found_and_measured(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    server = serve({**TRUSTED, "heartbeat": {"interval": 30.0}})
    with haproxy(tool, tmp_path, server.port, tunnel="1500ms", options="option forwardfor") as port:
        ids, seen = through(port, server, hold="20s")
    assert ids == {"through-idle"}
    assert seen["cut"]
    assert seen.get("close_code") is None
    assert 1.4 < seen["longest_silence"] < 15


def test_pages_of_any_site_are_noticed(serve: Start, tool: Tool, tmp_path: Path) -> None:
    server = serve(TRUSTED)
    options = UPGRADE + HOST + ADDRESS + 'proxy_set_header Origin "";'
    head = "large_client_header_buffers 4 16k;"
    with nginx(tool, tmp_path, server.port, options=options, head=head) as port:
        ids, _ = through(port, server, hold="1s")
    assert ids == {"through-origin"}


def test_a_server_that_asks_for_a_token_gets_the_one_of_the_file(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    server = serve({**TRUSTED, "auth": {"secret": SECRET, "anonymous": False}})
    file = tmp_path / "token.txt"
    file.write_text(token("ann") + "\n")
    with haproxy(tool, tmp_path, server.port, options="option forwardfor") as port:
        ids, _ = through(port, server, "--token-file", file, hold="1s")
    assert ids == set()


@pytest.mark.parametrize("answers", [True, False])
def test_a_proxy_without_a_server_behind_it_and_no_proxy_at_all(
    serve: Start, tool: Tool, tmp_path: Path, answers: bool
) -> None:
    server = serve(TRUSTED)
    if answers:
        with haproxy(tool, tmp_path, free_port()) as port:
            ids, seen = through(port, server)
        assert seen["status"] == 503
    else:
        ids, seen = through(free_port(), server)
        assert seen["error"] == "Connection refused"
    assert ids == {"through-connect"}
