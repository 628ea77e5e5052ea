"""The fallback in Chromium: the page of the examples, and EventSource."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import Start
from tests.support.local_http import Handler, LocalHttp
from tests.support.net import free_port
from tests.support.process import ROOT, Process

PAGE = ROOT / "examples" / "fallback.html"
SECONDS = 30_000

EVENTS = """async (url) => {
  const source = new EventSource(url);
  const next = (name) => new Promise((done) => source.addEventListener(name,
    (event) => done(JSON.parse(event.data)), { once: true }));
  const { key } = await next("opened");
  const welcome = await next("message");
  const answer = next("message");
  const posted = await fetch(url, { method: "POST", headers: { "X-Stream-Key": key },
    body: JSON.stringify({ type: "join", room: "r", id: 1 }) });
  const found = [welcome.type, posted.status, (await answer).type];
  source.close();
  return found;
}"""


class Pages(Handler):
    """Serves the page of the example."""

    def do_GET(self) -> None:
        self.respond(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE.read_bytes())


@pytest.fixture
def visit(chromium: str) -> Iterator[Callable[[str], Page]]:
    """Opens pages, of which each must log no error."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def opened(url: str) -> Page:
            page = browser.new_page()
            page.goto(url)
            return page

        yield opened
        browser.close()


def origin_of(site: LocalHttp) -> str:
    return f"http://127.0.0.1:{site.port}"


def serve_to(start: Start, origin: str, port: int | None = None) -> Process:
    return start({"server": {"sse": "/sse", "origins": [origin]}}, port=port)


def test_guide_and_example_have_the_same_function() -> None:
    guide = (ROOT / "docs" / "guide" / "fallback.md").read_text()
    begin = guide.index("async function connect(")
    function = guide[begin : guide.index("```", begin)].rstrip()
    assert function in PAGE.read_text()


def test_two_pages_of_another_origin_chat_and_come_back(
    serve: Start, visit: Callable[[str], Page]
) -> None:
    with LocalHttp(Pages) as site:
        port = free_port()
        server = serve_to(serve, origin_of(site), port)
        url = f"{origin_of(site)}/?url=http://127.0.0.1:{port}/sse"
        pages = [visit(url), visit(url)]
        for page in pages:
            expect(page.get_by_role("status")).to_have_text("Connected", timeout=SECONDS)
        say(pages[0], "<b>hello</b>")
        for page in pages:
            expect(page.locator("li")).to_have_text(["<b>hello</b>"], timeout=SECONDS)
        assert {row["transport"] for row in server.connections()} == {"sse"}
        server.kill()
        for page in pages:
            expect(page.get_by_role("status")).not_to_have_text("Connected", timeout=SECONDS)
        serve_to(serve, origin_of(site), port)
        for page in pages:
            expect(page.get_by_role("status")).to_have_text("Connected", timeout=SECONDS)
        say(pages[1], "again")
        expect(pages[0].locator("li")).to_have_text(["<b>hello</b>", "again"], timeout=SECONDS)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_event_source_gets_messages_and_posts_its_own(
    serve: Start, visit: Callable[[str], Page]
) -> None:
    with LocalHttp(Pages) as site:
        server = serve_to(serve, origin_of(site))
        page = visit(f"{origin_of(site)}/?url=http://127.0.0.1:{server.port}/nowhere")
        found = page.evaluate(EVENTS, f"http://127.0.0.1:{server.port}/sse")
        assert found == ["connected", 204, "ack"]
