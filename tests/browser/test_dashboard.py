"""The dashboard in a real browser: no errors, nothing from elsewhere, usable by all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import Start
from tests.support.process import ROOT, Process

TOKEN = "a-token-of-the-operator"
AXE = ROOT / "tests/js/node_modules/axe-core/axe.min.js"
PAGES = ("", "connections", "rooms", "refusals", "explain", "settings", "drain")


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve({"admin": {"token": TOKEN}, "limits": {"per_ip": 3}}, admin=False)


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    # The checker is put into the page, which its policy would not let anybody do.
    context = browser.new_context(color_scheme=request.param, bypass_csp=True)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def log_in(page: Page, server: Process) -> None:
    page.goto(f"http://127.0.0.1:{server.admin_port}/")
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector(".tile")


def violations(page: Page) -> list[Any]:
    page.evaluate(AXE.read_text())
    found: list[Any] = page.evaluate("() => axe.run().then((result) => result.violations)")
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_pages_have_no_errors_and_are_accessible(
    page: Page, server: Process, tmp_path: Path
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (make setup, with npm)")
    said: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(f"http://127.0.0.1:{server.admin_port}/")
    assert violations(page) == []
    log_in(page, server)
    with server.connect() as client:
        client.open()
        for name in PAGES:
            page.goto(f"http://127.0.0.1:{server.admin_port}/#/{name}")
            page.wait_for_selector("main section")
            page.wait_for_timeout(300)
            assert violations(page) == [], name
        page.set_viewport_size({"width": 390, "height": 800})
        for name in PAGES:
            page.goto(f"http://127.0.0.1:{server.admin_port}/#/{name}")
            page.wait_for_selector("main section")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    assert said == []
    assert hosts == {f"127.0.0.1:{server.admin_port}"}


def test_connection_is_found_and_disconnected(page: Page, server: Process) -> None:
    log_in(page, server)
    with server.connect() as client:
        client.open()
        page.get_by_role("link", name="Connections").click()
        page.get_by_role("button", name="Disconnect").first.press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Disconnect").press("Enter")
        page.get_by_text("Disconnected.").wait_for()
        client.closed(4500)


def test_refusal_is_explained(page: Page, server: Process) -> None:
    log_in(page, server)
    clients = [server.connect() for _ in range(4)]
    try:
        for client in clients[:3]:
            client.open()
        assert clients[3].ask().status == 429
        page.get_by_role("link", name="Refusals").click()
        page.get_by_role("link", name="Why").first.click()
        page.get_by_text("It would be refused by per_ip.").wait_for()
    finally:
        for client in clients:
            client.close()


def test_page_of_a_peer_stays_text(page: Page, server: Process) -> None:
    log_in(page, server)
    with server.connect() as client:
        agent = ("User-Agent", "<img src=x onerror=alert(1)>")
        answer = client.ask(headers=[agent, ("Origin", "http://evil.example")])
        assert answer.status == 403
        page.get_by_role("link", name="Refusals").click()
        page.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
        assert page.locator("main img").count() == 0
