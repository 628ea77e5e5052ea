"""The dashboard in a real browser: no errors, nothing from elsewhere, usable by all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import ROOT, Process
from tests.support.raw import TEXT, Raw
from tests.support.tokens import SECRET, bearer
from tests.support.valkey import valkey
from tidegate.api import ServerApi

TOKEN = "a-token-of-the-operator"
AXE = ROOT / "tests/js/node_modules/axe-core/axe.min.js"
PAGES = (
    "",
    "connections",
    "rooms",
    "room?name=chat",
    "users",
    "user?name=ann",
    "nodes",
    "refusals",
    "explain",
    "settings",
    "drain",
)
NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    rules = [
        {"pattern": "chat", "history_size": 200, "presence": "members", "timestamp": True},
        {"pattern": "news", "publish": "nobody"},
    ]
    settings = {
        "admin": {"token": TOKEN},
        "auth": {"secret": SECRET},
        "limits": {"per_ip": 3},
        "rooms": {"rules": rules},
    }
    return shared_serve(settings, admin=False)


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


def member(server: Process, user: str, *rooms: str) -> Raw:
    raw = server.connect().open(headers=[NATIVE, bearer(user)])
    assert json.loads(raw.message())["type"] == "connected"
    for room in rooms:
        raw.send_frame(TEXT, json.dumps({"type": "join", "room": room, "id": 1}))
        assert json.loads(raw.message())["type"] == "ack"
    return raw


def operator(server: Process) -> ServerApi:
    return ServerApi(f"http://127.0.0.1:{server.admin_port}", TOKEN)


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
    with member(server, "ann", "chat"), operator(server) as api:
        api.publish("chat", {"text": "a word " * 100})
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


def test_room_shows_its_members_presence_and_messages(page: Page, server: Process) -> None:
    log_in(page, server)
    with member(server, "ann", "chat", "lobby") as ann, operator(server) as api:
        before = api.publish("chat", "first").offset or 0
        page.get_by_role("link", name="Rooms").click()
        page.get_by_role("link", name="chat", exact=True).click()
        history = page.get_by_role("region", name="History, the newest first")
        history.get_by_text('"first"').first.wait_for()
        assert page.locator("nav a[aria-current]").inner_text() == "Rooms"
        page.get_by_role("region", name="Presence").get_by_text("ann").wait_for()
        page.get_by_role("region", name="Connections").get_by_text("lobby").wait_for()
        # What is said comes by itself, and what a peer says stays text.
        message = {"type": "room_message", "room": "chat", "data": HOSTILE, "id": 2}
        ann.send_frame(TEXT, json.dumps(message))
        history.get_by_text(HOSTILE).first.wait_for()
        assert page.locator("main img").count() == 0
        # Older ones on request.
        for number in range(60 - (before % 2)):
            api.publish("chat", number)
        history.get_by_text(f"{before + 61 - (before % 2):,}", exact=True).wait_for()
        assert history.locator("tbody tr").count() == 50
        page.get_by_role("button", name="Older messages").press("Enter")
        page.wait_for_function(
            "document.querySelectorAll('[aria-label^=History] tbody tr').length > 50"
        )


def test_room_says_who_may_publish(page: Page, server: Process) -> None:
    log_in(page, server)
    page.goto(f"http://127.0.0.1:{server.admin_port}/#/room?name=news")
    page.get_by_text("publish no:").wait_for()
    page.get_by_text("the rule 'news' has publish = nobody").wait_for()
    page.get_by_text("The rule of this room shows nobody.").wait_for()
    page.get_by_text("The rule of this room keeps no history.").wait_for()
    page.get_by_label("User, none for a client").fill("ann")
    page.get_by_role("button", name="Explain").press("Enter")
    page.get_by_text("join yes:").wait_for()


def test_user_is_found_and_kicked(page: Page, server: Process) -> None:
    log_in(page, server)
    with member(server, HOSTILE, "chat") as client:
        page.get_by_role("link", name="Users").click()
        page.get_by_role("link", name=HOSTILE).click()
        page.get_by_role("listitem").get_by_role("link", name="chat").wait_for()
        assert page.locator("main img").count() == 0
        page.get_by_role("button", name="Disconnect all").press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Disconnect all").press("Enter")
        page.get_by_text("1 connections were closed.").wait_for()
        client.closed(4500)
    with operator(server) as api:
        wait_until(lambda: not api.users().users, 10, "the user is gone")
    page.get_by_role("button", name="Refresh").press("Enter")
    page.get_by_text("The user has no connection.").wait_for()


def test_lists_show_all_nodes_on_request(page: Page, serve: Start, tmp_path: Path) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    with valkey(tmp_path) as between:
        settings = {"backplane": {"url": between.url}, "auth": {"secret": SECRET}}
        first, second = serve(settings), serve(settings)
        wait_until(lambda: len(first.get("/nodes")[1]["nodes"]) == 2, 20)
        (other,) = (row["id"] for row in first.get("/nodes")[1]["nodes"] if not row["own"])
        with member(second, "ann", "chat"):
            page.goto(f"http://127.0.0.1:{first.admin_port}/#/users")
            page.get_by_text("There are no such users.").wait_for()
            page.get_by_label("All nodes").check()
            users = page.get_by_role("region", name="Users")
            users.get_by_text(f"{other} (1)").wait_for()
            # It stays so from page to page.
            page.get_by_role("link", name="ann").click()
            page.get_by_role("region", name="Connections").get_by_text(other, exact=True).wait_for()
            page.get_by_role("listitem").get_by_role("link", name="chat").wait_for()
            page.get_by_role("link", name="Rooms").click()
            rooms = page.get_by_role("region", name="Rooms")
            rooms.get_by_text(f"{other} (1)").wait_for()
            if AXE.exists():
                assert violations(page) == []
            page.get_by_label("All nodes").uncheck()
            page.get_by_text("There are no such rooms.").wait_for()
    assert said == []
