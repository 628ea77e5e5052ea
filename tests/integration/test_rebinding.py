"""Pages whose name points to this machine: they are of their own origin, and not of ours."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

import pytest

from tests.conftest import Start
from tests.support.process import Process, get

EVIL = "evil.example:8000"


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve({"proxies": {"trusted": ["127.0.0.9/32"]}})


@pytest.mark.parametrize(
    ("host", "status"),
    [(EVIL, 403), ("localhost:8000", 101), ("127.0.0.1:8000", 101), ("[::1]:8000", 101)],
)
def test_a_page_connects_by_a_name_of_this_machine_only(
    server: Process, host: str, status: int
) -> None:
    with server.connect() as page:
        assert page.ask(host, headers=[("Origin", f"http://{host}")]).status == status
    with server.connect() as program:  # which could send any Host
        program.open(host)


@pytest.mark.usefixtures("many_addresses")
def test_a_trusted_proxy_may_pass_on_any_name(server: Process) -> None:
    headers = [("Origin", "https://chat.example"), ("X-Forwarded-For", "203.0.113.7")]
    with server.connect(source="127.0.0.9") as proxy:
        proxy.open("chat.example", headers=headers)
    with server.connect() as page:  # no page can send this, and nobody believes it
        assert page.ask("chat.example", headers=headers).status == 403


def test_names_in_the_settings_are_ours(serve: Start) -> None:
    server = serve({"server": {"hosts": ["chat.example"]}})
    for host, status in ((EVIL, 403), ("chat.example", 101), ("chat.example:8000", 101)):
        with server.connect() as page:
            assert page.ask(host, headers=[("Origin", f"http://{host}")]).status == status
    assert asked(server, "GET", "/stats", {"Host": "chat.example"}) == 200
    assert asked(server, "GET", "/stats", {"Host": EVIL}) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/drain"), ("POST", "/disconnect"), ("PATCH", "/settings")]
)
def test_a_page_of_another_site_changes_nothing(
    server: Process, site: str, method: str, path: str
) -> None:
    assert asked(server, method, path, {"Sec-Fetch-Site": site}) == 403
    assert get(server.port, "/ready") == (200, {"ready": True})


def test_health_is_one_word_for_anybody(server: Process) -> None:
    assert get(server.port, "/health") == (200, {"status": "ok"})
    assert server.get("/health")[1].keys() >= {"status", "version", "uptime", "stats"}


def asked(server: Process, method: str, path: str, headers: Mapping[str, str]) -> int:
    """The status of a request to the admin listener."""
    connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()
