"""`tidegate doctor --through` with real proxies: it finds what each of them does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as other_server

from tests.conftest import Start
from tests.support.certificates import make_certificate
from tests.support.net import free_port
from tests.support.process import Process
from tests.support.proxies import ADDRESS, HOST, UPGRADE, Tool, haproxy, nginx
from tests.support.tokens import SECRET, token

COMMAND = Path(sys.executable).with_name("tidegate")
TRUSTED = {"proxies": {"trusted": ["127.0.0.1"]}, "heartbeat": {"interval": 2.0}}


def through(
    port: int,
    server: Process | None,
    *options: object,
    scheme: str = "ws",
    hold: str = "4s",
    **environment: str,
) -> tuple[set[str], dict[str, Any]]:
    """The ids of what is found about the proxy, and what was seen."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    url = f"{scheme}://127.0.0.1:{port}/ws"
    config = "/dev/null" if server is None else str(server.config)
    done = subprocess.run(
        [COMMAND, "doctor", "--json", "--through", url, "--hold", hold, *map(str, options)],
        capture_output=True,
        text=True,
        env={**own, "TIDEGATE_CONFIG": config, **environment},
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


def test_tls_is_looked_at_with_its_certificate(serve: Start, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = serve({**TRUSTED, "tls": {"certificate": str(certificate), "key": str(key)}})
    ids, seen = through(server.port, server, scheme="wss")
    assert ids == {"through-connect"}
    assert seen["error"] == "its certificate is not trusted: self-signed certificate"
    trust = {"SSL_CERT_FILE": str(certificate)}
    ids, seen = through(server.port, server, scheme="wss", hold="3s", **trust)
    # It is valid for a day.
    assert ids == {"through-certificate"}
    assert 0 < seen["certificate_days"] <= 1
    assert seen["pings"] >= 1


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def test_a_server_of_another_kind_is_seen_as_far_as_it_can_be() -> None:
    with other_server(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            ids, seen = through(server.socket.getsockname()[1], None, hold="1s")
        finally:
            server.shutdown()
            thread.join(10)
    # It does not look at Origin, and takes lines of 8 KiB.
    assert ids <= {"through-origin", "through-heads"}
    assert "through-origin" in ids
    assert (seen["status"], seen.get("native", False)) == (101, False)
    assert seen.get("seen_address", "") == ""


def test_something_that_is_no_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        # On loopback the doctor connects twice: the second time from an address of its own.
        first = threading.Thread(target=lambda: listener.accept()[0].close())
        first.start()
        thread.start()
        ids, seen = through(listener.getsockname()[1], None, hold="1s")
        first.join(10)
        thread.join(10)
    assert ids == {"through-connect"}
    assert seen["error"]
