"""The page to try the server on, as somebody uses it who has only a keyboard."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.test_dashboard import AXE, violations
from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import ROOT, Process

DEVELOPMENT = ROOT / "examples" / "development.toml"
PATIENCE_MS = 30_000


def development(**more: Any) -> dict[str, Any]:
    """The settings of `make run`, and some more."""
    return {**tomllib.loads(DEVELOPMENT.read_text()), **more}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    # What a browser says of a server that has ended is none of the page's.
    assert [text for text in said if "ERR_CONNECTION_REFUSED" not in text] == []


def opened(page: Page, server: Process) -> Page:
    page.goto(f"http://127.0.0.1:{server.admin_port}/try")
    page.get_by_role("button", name="Connect", exact=True).wait_for()
    return page


def connect(page: Page, user: str = "", *, tier: str = "", many: int = 1) -> None:
    page.get_by_label("User", exact=True).fill(user)
    page.get_by_label("Tier", exact=True).fill(tier)
    page.get_by_label("How many").fill(str(many))
    page.get_by_role("button", name="Connect", exact=True).press("Enter")


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name)


def is_in(page: Page, name: str, state: str) -> None:
    expect(card(page, name).locator(".badge")).to_have_text(state)


def limit(page: Page, connections: int) -> None:
    page.get_by_label("Connections at most").fill(str(connections))
    page.get_by_role("button", name="Set").press("Enter")
    page.get_by_text(f"The server has room for {connections} connections now").wait_for()


def test_clients_talk_and_one_resumes_after_a_cut(serve: Start, page: Page) -> None:
    server = serve(development())
    opened(page, server)
    connect(page, "ann", tier="gold")
    connect(page, "bob")
    expect(card(page, "2: bob")).to_contain_text("ann, bob")
    assert {row["user"] for row in server.connections()} == {"ann", "bob"}
    page.get_by_role("button", name="Go offline: 2: bob").press("Enter")
    is_in(page, "2: bob", "coming back")
    page.get_by_label("Message of 1: ann").fill("<b>hello</b>")
    page.get_by_label("Message of 1: ann").press("Enter")
    expect(card(page, "1: ann")).to_contain_text("ann: <b>hello</b>")
    page.get_by_role("button", name="Go online: 2: bob").press("Enter")
    is_in(page, "2: bob", "open")
    log = page.get_by_role("log", name="Messages of 2: bob")
    expect(log).to_contain_text("ann: <b>hello</b>")
    expect(log).to_contain_text("Resumed the session")
    expect(log).to_contain_text("Back in the room, nothing was missed")
    page.get_by_role("button", name="Cut: 2: bob").press("Enter")
    expect(log.get_by_text("Resumed the session")).to_have_count(2)
    expect(card(page, "2: bob")).to_contain_text(re.compile(r"Round trip[\d.]+ ms"))


def test_waiting_room_shows_the_position_and_admits(serve: Start, page: Page) -> None:
    opened(page, serve(development()))
    connect(page)
    is_in(page, "1: anonymous", "open")
    limit(page, 1)
    connect(page)
    connect(page)
    expect(card(page, "2: anonymous")).to_contain_text("Position 1 of")
    expect(card(page, "3: anonymous")).to_contain_text("Position 2 of 2")
    page.get_by_role("button", name="Close: 1: anonymous").press("Enter")
    is_in(page, "2: anonymous", "open")
    expect(card(page, "3: anonymous")).to_contain_text("Position 1 of 1")
    page.get_by_role("button", name="Remove: 2: anonymous").press("Enter")
    is_in(page, "3: anonymous", "open")
    page.get_by_role("button", name="Connect: 1: anonymous").press("Enter")
    is_in(page, "1: anonymous", "waiting")


def test_refused_client_shows_why_and_when_it_comes_back(serve: Start, page: Page) -> None:
    opened(page, serve(development(limits={"per_user": 1})))
    connect(page, "ann", many=2)
    expect(card(page, "2: ann")).to_contain_text("user_limit")
    expect(card(page, "2: ann")).to_contain_text("Comes back in")
    row = page.get_by_role("row").filter(has_text="user_limit")
    assert re.search(r"2: ann\s+1013\s+user_limit\s+1\d s", row.first.inner_text())


def test_server_drains_when_that_is_confirmed(serve: Start, page: Page) -> None:
    server = serve(development(drain={"window": 1}))
    opened(page, server)
    connect(page, many=3)
    is_in(page, "3: anonymous", "open")
    page.get_by_role("button", name="Drain this server").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").press("Enter")
    page.get_by_role("button", name="Drain this server").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Drain").press("Enter")
    log = page.get_by_role("log", name="Messages of 1: anonymous")
    expect(log).to_contain_text("The server goes away")
    is_in(page, "1: anonymous", "coming back")
    # What follows is the browser's word on a server that has ended.
    page.goto("about:blank")
    wait_until(lambda: server.process.poll() == 0, 30, "the server has drained")


def test_page_names_the_setting_where_its_origin_is_refused(serve: Start, page: Page) -> None:
    server = serve({})
    opened(page, server)
    expect(page.get_by_text("every client is anonymous")).to_be_visible()
    expect(page.get_by_label("User", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Connect", exact=True).press("Enter")
    is_in(page, "1: anonymous", "closed")
    origin = f"http://127.0.0.1:{server.admin_port}"
    expect(page.get_by_text(f"--set 'server.origins=[\"{origin}\"]'")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_and_fits_a_phone(
    serve: Start, browser: Browser, scheme: Any, request: pytest.FixtureRequest
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (make setup, with npm)")
    server = serve(development(limits={"connections": 2, "per_user": 1}))
    # The checker is put into the page, which its policy would not let anybody do.
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    request.addfinalizer(context.close)
    context.set_default_timeout(PATIENCE_MS)
    page = opened(context.new_page(), server)
    assert violations(page) == []
    connect(page, "ann", many=2)
    connect(page, many=2)
    is_in(page, "4: anonymous", "waiting")
    expect(card(page, "2: ann")).to_contain_text("user_limit")
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
