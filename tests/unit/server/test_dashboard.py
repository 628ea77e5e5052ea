"""The dashboard: its files, the login, and what is open without one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.aio import in_loop
from tests.unit.server.admin_world import LOCAL, TOKEN, ask, node_of
from tidegate.core.settings import Settings
from tidegate.server.admin import admin_app
from tidegate.server.dashboard.pages import FILES, _content
from tidegate.server.dashboard.sessions import COOKIE, Sessions
from tidegate.server.dashboard.trying import allowed_source, public_url
from tidegate.server.timeline import Timeline

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


def with_client(test: Callable[[httpx.AsyncClient], Any], token: str | None = TOKEN) -> None:
    """Run a test with a client that keeps its cookies."""

    async def run() -> None:
        node = node_of()
        settings = Settings.from_mapping({"admin": {"token": token}})
        app = admin_app(node.control, settings, lambda: (0,) * 7, Timeline(node.control.sample))
        try:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as client:
                await test(client)
        finally:
            node.engine.shared.poller.close()

    asyncio.run(run())


def test_without_the_token_there_is_only_the_login() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        home = await client.get("/")
        assert home.status_code == 200
        assert 'action="/login"' in home.text
        assert "app.js" not in home.text
        assert (await client.get("/static/style.css")).status_code == 200
        for path in ("/static/app.js", "/static/index.html", "/stats", "/timeline", "/rooms"):
            assert (await client.get(path)).status_code == 401, path

    with_client(test)


def test_login_opens_everything_until_the_logout() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        entered = await client.post("/login", data={"token": TOKEN}, headers=SAME_SITE)
        assert (entered.status_code, entered.headers["Location"]) == (303, "/")
        cookie = entered.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert "app.js" in (await client.get("/")).text
        assert (await client.get("/stats")).status_code == 200
        own = client.cookies[COOKIE]
        left = await client.post("/logout", headers=SAME_SITE)
        assert left.status_code == 303
        again = await client.get("/stats", headers={"Cookie": f"{COOKIE}={own}"})
        assert again.status_code == 401, "the session is over, whoever kept its cookie"

    with_client(test)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "\udcff", "é" * 2000])
def test_login_with_another_token_is_refused(token: str) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        body = {"token": token.encode(errors="surrogatepass")}
        answer = await client.post("/login", data=body, headers=SAME_SITE)
        assert answer.status_code in (401, 413)
        assert "Set-Cookie" not in answer.headers
        assert (await client.get("/stats")).status_code == 401

    with_client(test)


def test_login_by_guessing_is_slowed_down() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        codes = [
            (await client.post("/login", data={"token": str(n)}, headers=SAME_SITE)).status_code
            for n in range(12)
        ]
        assert codes == [401] * 10 + [429] * 2

    with_client(test)


def test_change_by_a_page_of_another_site_is_refused_with_the_cookie_too() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        await client.post("/login", data={"token": TOKEN}, headers=SAME_SITE)
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            assert (await client.post("/drain", headers=headers)).status_code == 403
            forged = await client.post("/login", data={"token": TOKEN}, headers=headers)
            assert forged.status_code == 403

    with_client(test)


def test_without_a_token_set_the_dashboard_is_open_on_this_machine() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        assert "app.js" in (await client.get("/")).text
        elsewhere = await client.get("/", headers={"Host": "evil.example"})
        assert elsewhere.status_code == 403
        answer = await client.post("/login", data={"token": ""}, headers=SAME_SITE)
        assert answer.status_code == 401

    with_client(test, None)


def test_every_file_is_served_and_asks_for_nothing_outside() -> None:
    for name in FILES():
        answer = ask(f"/static/{name}")
        assert answer.status_code == 200, name
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        if not name.startswith("vendor/"):
            addresses = re.findall(r"https?://[\w.]+", answer.text)
            assert set(addresses) <= {"http://www.w3.org"}, name
    for name in ("nothing.js", "../pages.py", "vendor/uPlot.LICENSE", "%2e%2e/sessions.py"):
        assert ask(f"/static/{name}").status_code == 404, name


def test_page_to_try_it_may_ask_the_public_listener_and_nobody_else() -> None:
    answer = ask("/try")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"].split("; ")
    # The node of this test listens nowhere.
    assert "connect-src 'self'" in policy
    assert 'name="public-url" content=""' in answer.text
    assert "PUBLIC_URL" not in answer.text


def test_page_to_try_it_asks_for_the_login() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        assert 'action="/login"' in (await client.get("/try")).text
        assert (await client.get("/static/try.js")).status_code == 401
        await client.post("/login", data={"token": TOKEN}, headers=SAME_SITE)
        assert "try.js" in (await client.get("/try")).text

    with_client(test)


@pytest.mark.parametrize(
    ("addresses", "host", "url", "source"),
    [
        ([("127.0.0.1", 80)], "localhost:1", "ws://127.0.0.1:80/ws", "ws://127.0.0.1:80"),
        ([("0.0.0.0", 80)], "a.example:1", "ws://a.example:80/ws", "ws://a.example:80"),
        ([("::", 80)], "[::1]:1", "ws://[::1]:80/ws", "ws://*:80"),
        ([("", 80)], "a; script-src *", "ws://127.0.0.1:80/ws", "ws://127.0.0.1:80"),
        ([("unix:/s", 0), ("::1", 80)], "localhost", "ws://[::1]:80/ws", "ws://*:80"),
    ],
)
def test_public_url_is_that_of_a_listener_and_no_policy_can_be_written_into_it(
    addresses: list[tuple[str, int]], host: str, url: str, source: str
) -> None:
    assert public_url(Settings(), addresses, host) == url
    assert allowed_source(url) == source


def test_public_url_of_tls_and_of_a_unix_socket() -> None:
    tls = Settings.from_mapping({"tls": {"certificate": "a.pem", "key": "b.pem"}})
    assert public_url(tls, [("127.0.0.1", 443)], "localhost") == "wss://127.0.0.1:443/ws"
    assert public_url(Settings(), [("unix:/run/t.sock", 0)], "localhost") == ""


def test_licence_of_what_is_vendored_is_beside_it() -> None:
    from importlib.resources import files

    text = (files("tidegate.server.dashboard") / "static/vendor/uPlot.LICENSE").read_text()
    assert "MIT" in text


# Sessions.


def test_session_ends_by_itself_and_the_oldest_makes_room() -> None:
    now = 0.0
    sessions = Sessions(TOKEN, lambda: now)
    first = sessions.log_in(TOKEN)
    assert isinstance(first, str)
    assert sessions.knows(first)
    assert not sessions.knows("")
    now = 12 * 3600.0
    assert not sessions.knows(first)
    kept = []
    for _ in range(101):
        now += 10.0
        kept.append(sessions.log_in(TOKEN))
    assert [sessions.knows(str(each)) for each in kept] == [False] + [True] * 100


def test_nobody_logs_in_where_there_is_no_token() -> None:
    assert Sessions(None).log_in("") is None


# What it shows.


def test_rooms_are_listed_by_size_and_by_name() -> None:
    node = node_of()
    try:
        for count, name in [(1, "b"), (3, "a"), (2, "c<b>")]:
            for _ in range(count):
                node.rooms.join(type("Member", (), {"rooms": ()})(), name)
        found = ask("/rooms", node.control).json()
        assert [(room["name"], room["members"]) for room in found["rooms"]] == [
            ("a", 3),
            ("c<b>", 2),
            ("b", 1),
        ]
        assert (found["total"], found["next"]) == (3, None)
        page = ask("/rooms?after=&limit=2", node.control).json()
        assert ([room["name"] for room in page["rooms"]], page["next"]) == (["a", "b"], "b")
        rest = ask(f"/rooms?after={page['next']}", node.control).json()
        assert [room["name"] for room in rest["rooms"]] == ["c<b>"]
        assert [room["name"] for room in ask("/rooms?search=c", node.control).json()["rooms"]] == [
            "c<b>"
        ]
        assert ask("/rooms?limit=0", node.control).status_code == 400
    finally:
        node.engine.shared.poller.close()


def test_settings_say_where_they_come_from() -> None:
    body = ask("/settings").json()
    assert body["sources"] == {"limits.per_ip": "a.toml:3"}
    assert body["settings"]["limits.per_ip"]["value"] == 100


@in_loop
async def test_timeline_has_what_happened_between_two_samples() -> None:
    node = node_of()
    try:
        timeline = Timeline(node.control.sample)
        timeline.take()
        node.stats.accepted += 5
        node.stats.loop_lag.observe(0.003)
        await asyncio.sleep(0.002)
        timeline.take()
        before, after = timeline.since(0.0).moments
        assert (before.sample.accepted, after.sample.accepted) == (0, 5)
        assert (before.sample.lag, after.sample.lag) == (0.0, 0.005)
        assert after.memory > 0
        assert timeline.since(before.at).moments == [after]
    finally:
        node.engine.shared.poller.close()


def test_pages_lead_to_the_same_pages() -> None:
    pages = [_content(name).decode() for name in ("index.html", "try.html")]
    found = [re.findall(r'<a href="/?([^"]+)"', page.partition("</nav>")[0]) for page in pages]
    assert found[0] == found[1]
    assert len(found[0]) == 10
