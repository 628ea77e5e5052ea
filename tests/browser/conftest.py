"""A browser, and pages of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["Visit"]

Visit = Callable[[str], Page]

# What a console or an application would do, in a few words.
HELPERS = """
window.opened = (url, protocols) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url, protocols ?? []);
  socket.binaryType = "arraybuffer";
  socket.arrived = [];
  socket.waiting = [];
  socket.onmessage = ({ data }) =>
    socket.waiting.length ? socket.waiting.shift()(data) : socket.arrived.push(data);
  socket.next = () => socket.arrived.length
    ? Promise.resolve(socket.arrived.shift())
    : new Promise((done) => socket.waiting.push(done));
  socket.closed = new Promise((done) => {
    socket.onclose = ({ code, reason, wasClean }) => done({ code, reason, wasClean });
  });
  socket.onopen = () => resolve(socket);
  socket.onerror = () => reject(new Error("refused"));
});
"""


# Not for the whole session: as long as Playwright runs, no other test can run an event loop.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    arguments = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a page in a context of its own, ready to make connections."""
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(15_000)

    def visit(url: str) -> Page:
        page = context.new_page()
        page.add_init_script(HELPERS)
        page.goto(url)
        return page

    yield visit
    context.close()
