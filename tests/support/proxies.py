"""HAProxy and nginx in front of a server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.net import free_port, wait_until

__all__ = ["ADDRESS", "HOST", "UPGRADE", "Tool", "fetched", "haproxy", "nginx", "running"]

Tool = Callable[[str], str]

_HAPROXY = """
global
    log stderr local0
    {head}
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel {tunnel}
    {options}
frontend in
    bind 127.0.0.1:{port}
    default_backend tidegate
backend tidegate
    server one 127.0.0.1:{backend}
"""

_NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
    scgi_temp_path s;
    {head}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            {options}
        }}
    }}
}}
"""

UPGRADE = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade"; '
)
HOST = "proxy_set_header Host $http_host; "
ADDRESS = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; "


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """A program that runs for the length of a block, and whose log is shown when it ends early."""
    log = folder / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def haproxy(
    tool: Tool, folder: Path, backend: int, *, tunnel: str = "1h", options: str = "", head: str = ""
) -> Iterator[int]:
    """HAProxy; its port."""
    port = free_port()
    text = _HAPROXY.format(port=port, backend=backend, tunnel=tunnel, options=options, head=head)
    (folder / "haproxy.cfg").write_text(text)
    with running([tool("haproxy"), "-db", "-f", "haproxy.cfg"], folder):
        _wait(port)
        yield port


@contextlib.contextmanager
def nginx(tool: Tool, folder: Path, backend: int, *, options: str, head: str = "") -> Iterator[int]:
    """The port of nginx, with `options` in the location that passes all on."""
    port = free_port()
    text = _NGINX.format(port=port, backend=backend, options=options, head=head)
    (folder / "nginx.conf").write_text(text)
    with running([tool("nginx"), "-p", str(folder), "-c", "nginx.conf"], folder):
        _wait(port)
        yield port


def _wait(port: int) -> None:
    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    wait_until(listens, 15, "the proxy listens")


def fetched(url: str) -> int:
    """The status of a page, 0 while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
