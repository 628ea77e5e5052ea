"""Real HAProxy and nginx in front: health checks, the client's address, WebSockets through them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.proxies import Tool, fetched, running


def addresses_of_client_through(port: int, server: Process) -> list[str]:
    with connect(f"ws://127.0.0.1:{port}/ws", proxy=None, open_timeout=10) as client:
        client.ping().wait(20)
        return [row["address"] for row in server.connections()]


HAPROXY = """
global
    log stderr local0
defaults
    mode {mode}
    log global
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
frontend in
    bind 127.0.0.1:{port}
    default_backend tidegate
backend tidegate
    {check}
    server one 127.0.0.1:{backend} check inter 100ms {options}
frontend status
    mode http
    bind 127.0.0.1:{status}
    http-request return status 200 if {{ nbsrv(tidegate) gt 0 }}
    http-request return status 503
"""


# A plain check asks for OPTIONS / in HTTP/1.0; anything but 2xx and 3xx is DOWN.
@pytest.mark.parametrize(
    "check",
    [
        "option httpchk",
        "option httpchk OPTIONS *",
        "option httpchk GET /ready",
        "option httpchk HEAD /health",
        "option httpchk\n    http-check send meth GET uri /ready ver HTTP/1.1 hdr Host tidegate",
    ],
)
def test_haproxy_with_a_plain_check_finds_the_server_up(
    serve: Start, tool: Tool, tmp_path: Path, check: str
) -> None:
    server = serve({"proxies": {"trusted": ["127.0.0.1"]}})
    port, status = free_port(), free_port()
    config = HAPROXY.format(
        mode="http",
        port=port,
        check=f"option forwardfor\n    {check}",
        backend=server.port,
        options="",
        status=status,
    )
    (tmp_path / "haproxy.cfg").write_text(config)
    with running([tool("haproxy"), "-db", "-f", "haproxy.cfg"], tmp_path):
        wait_until(lambda: fetched(f"http://127.0.0.1:{status}/") == 200, 15, "HAProxy finds it up")
        assert addresses_of_client_through(port, server) == ["127.0.0.1"]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_haproxy_names_the_client_in_a_proxy_header(
    serve: Start, tool: Tool, tmp_path: Path, version: str
) -> None:
    server = serve({"proxies": {"trusted": ["127.0.0.1"], "protocol": True}})
    port, status = free_port(), free_port()
    config = HAPROXY.format(
        mode="tcp",
        port=port,
        check="source 127.0.0.1",
        backend=server.port,
        options=version,
        status=status,
    )
    (tmp_path / "haproxy.cfg").write_text(config)
    with running([tool("haproxy"), "-db", "-f", "haproxy.cfg"], tmp_path):
        wait_until(lambda: fetched(f"http://127.0.0.1:{status}/") == 200, 15, "HAProxy finds it up")
        assert addresses_of_client_through(port, server) == ["127.0.0.1"]


NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
{load}
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
    scgi_temp_path s;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{backend}; }}
        location /ws {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
        location /bare {{ proxy_pass http://127.0.0.1:{backend}/ws; }}
    }}
}}
{stream}
"""


@contextlib.contextmanager
def nginx(
    tool: Tool, folder: Path, backend: int, stream: str = "", load: str = ""
) -> Iterator[int]:
    port = free_port()
    text = NGINX.format(port=port, backend=backend, stream=stream, load=load)
    (folder / "nginx.conf").write_text(text)
    with running([tool("nginx"), "-p", str(folder), "-c", "nginx.conf"], folder):
        wait_until(lambda: fetched(f"http://127.0.0.1:{port}/"), 15, "nginx answers")
        yield port


def test_nginx_as_it_comes_reaches_health_and_says_426_for_a_websocket(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    server = serve({"proxies": {"trusted": ["127.0.0.1"]}})
    with nginx(tool, tmp_path, server.port) as port:
        assert fetched(f"http://127.0.0.1:{port}/health") == 200
        assert fetched(f"http://127.0.0.1:{port}/ready") == 200
        # Without proxy_http_version 1.1, nginx speaks 1.0 and drops the upgrade.
        assert fetched(f"http://127.0.0.1:{port}/bare") == 426
        assert addresses_of_client_through(port, server) == ["127.0.0.1"]


def test_nginx_names_the_client_in_a_proxy_header(serve: Start, tool: Tool, tmp_path: Path) -> None:
    server = serve({"proxies": {"trusted": ["127.0.0.1"], "protocol": True}})
    port = free_port()
    stream = (
        f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_protocol on; "
        f"proxy_pass 127.0.0.1:{server.port}; }} }}"
    )
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {module};" if module.exists() else ""
    with nginx(tool, tmp_path, server.port, stream, load):
        assert addresses_of_client_through(port, server) == ["127.0.0.1"]
