"""The TypeScript client as built, in Chromium, Firefox and WebKitGTK."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_try import development
from tests.conftest import Start
from tests.support.browsers import BROWSERS, Browser, Missing, Page
from tests.support.cutting import Line
from tests.support.net import free_port
from tests.support.process import ROOT, Process
from tests.support.valkey import valkey
from tidegate.api import ServerApi

CLIENT = ROOT / "src/tidegate/server/dashboard/static/vendor"
PATIENCE = 60.0
ORIGINS = {"origins": ["http://127.0.0.1:*"]}

BEGIN = """
const [url, name = "lobby"] = args;
const { connect } = await import("/tidegate.js");
window.client = connect(url, { backoff: { base: 0.2, cap: 1 } });
window.room = client.room(name);
window.heard = [];
window.states = [];
window.joins = [];
client.on("state", ({ state, loss }) => states.push([state, loss?.error ?? loss?.code ?? null]));
client.on("waiting", ({ position, totalInQueue }) => states.push([position, totalInQueue]));
client.on("connected", ({ resumed }) => { window.resumed = resumed ?? false; });
room.on("joined", (joined) => joins.push(joined));
room.on("message", ({ data }) => heard.push(data));
window.until = async (holds) => {
  const end = performance.now() + 50_000;
  while (!holds()) {
    const known = [heard, states, joins];
    if (performance.now() > end) throw new Error(`${holds}: ${JSON.stringify(known)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const joined = room.join();
"""
JOIN = BEGIN + "await joined; return client.state;"
SAY = "await room.publish(args[0]);"
SAY_LATER = "window.sent = room.publish(args[0], { timeout: 60 }); return client.state;"
HEARD = "await until(() => heard.length >= args[0]); return heard;"
LOST = "await until(() => client.state === 'backoff');"


@pytest.fixture(scope="module", params=BROWSERS)
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with contextlib.ExitStack() as running:
        try:
            browser: Browser = running.enter_context(BROWSERS[request.param]())
        except Missing as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"this test needs {missing}")
            pytest.skip(f"needs {missing}")
        yield browser


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Where a page is, and the client beside it."""

    class Site(SimpleHTTPRequestHandler):
        extensions_map = {".js": "text/javascript", ".html": "text/html"}  # noqa: RUF012

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(CLIENT))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        # The list of the folder is as good a page as any.
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    rules = [{"pattern": "*", "history_size": 100, "history_ttl": 300, "presence": "members"}]
    return shared_serve(development(rooms={"rules": rules}))


@contextlib.contextmanager
def limited(server: Process, **limits: int) -> Iterator[None]:
    """Other limits of the server for a while."""
    with ServerApi(f"http://127.0.0.1:{server.admin_port}") as api:
        before = {name: api.settings().settings[f"limits.{name}"].value for name in limits}
        api.change_settings({"limits": limits})
        yield
        api.change_settings({"limits": before})


def joined(browser: Browser, site: str, url: str, room: str = "lobby") -> Page:
    page = browser.open(site)
    assert page.run(JOIN, url, room) == "open"
    return page


class Pair:
    """Two servers that share a Valkey; the first can be killed and started again."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = settings
        self._starts = 0
        self.first = self._start(free_port())
        self.other = self._start(free_port())

    def start_first(self) -> None:
        self.first = self._start(self.first.port)

    def end(self) -> None:
        self.first.kill()
        self.other.kill()

    def _start(self, port: int) -> Process:
        self._starts += 1
        return Process.serve(self._folder / str(self._starts), self._settings, port=port)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    rules = [{"pattern": "*", "history_size": 100, "history_ttl": 300}]
    with valkey(folder / "valkey") as shared:
        backplane = {"url": shared.url}
        pair = Pair(folder, {"server": ORIGINS, "rooms": {"rules": rules}, "backplane": backplane})
        yield pair
        pair.end()


def test_killed_server_comes_back_and_no_message_is_lost(
    browser: Browser, site: str, pair: Pair
) -> None:
    room = browser.name
    pages = [joined(browser, site, pair.first.url, room) for _ in range(2)]
    pages[0].run(SAY, "from the one")
    pages[1].run(SAY, "from the other")
    pair.first.kill()
    for page in pages:
        page.run(LOST)
    # One message waits in a page, another one comes to the room by another server.
    pages[0].run(SAY_LATER, "while it is away")
    with ServerApi(f"http://127.0.0.1:{pair.other.admin_port}") as api:
        api.publish(room, "from a server")
    pair.start_first()
    pages[0].run("await sent;")
    said = ["from the one", "from the other", "from a server", "while it is away"]
    for page in pages:
        assert page.run(HEARD, 4) == said
        last = page.run("return joins.at(-1)")
        assert (last["again"], last["recovered"]) == (True, True)
        page.run("client.close()")


def test_line_that_was_cut_is_resumed_and_no_message_is_lost(
    browser: Browser, site: str, server: Process
) -> None:
    with Line(server.port) as line:
        near = joined(browser, site, server.url, browser.name)
        distant = server.url.replace(str(server.port), str(line.port))
        far = joined(browser, site, distant, browser.name)
        for number in range(3):
            line.cut()
            far.run(LOST)
            near.run(SAY, number)
            far.run(SAY_LATER, f"{number} from afar")
            line.restore()
            far.run("dispatchEvent(new Event('online'));")  # as the browser does
            far.run("await sent;")
        every = [said for number in range(3) for said in (number, f"{number} from afar")]
        for page in (near, far):
            assert page.run(HEARD, 6) == every
        assert far.run("return resumed")
        assert all(join["recovered"] for join in far.run("return joins"))
        for page in (near, far):
            page.run("client.close()")
        server.wait_open(0, PATIENCE)


def test_waiting_room_shows_the_position_and_admits(
    browser: Browser, site: str, server: Process
) -> None:
    with limited(server, connections=1):
        first = joined(browser, site, server.url)
        second = browser.open(site)
        second.run(BEGIN, server.url)
        second.run("await until(() => client.state === 'waiting')")
        assert second.run("await until(() => states.length >= 2); return states.at(-1)") == [1, 1]
        first.run("client.close()")
        second.run("await until(() => client.state === 'open')")
        second.run("client.close()")
        server.wait_open(0, PATIENCE)


def test_refused_page_is_told_why(browser: Browser, site: str, server: Process) -> None:
    with limited(server, per_ip=1):
        first = joined(browser, site, server.url)
        second = browser.open(site)
        second.run(BEGIN, server.url)
        second.run(LOST)
    # WebKitGTK takes 1012 to 1014 for an error of the protocol, and shows its pages 1006.
    seen = 1006 if browser.name == "webkit" else "ip_limit"
    assert second.run("return states[0]") == ["backoff", seen]
    for page in (first, second):
        page.run("client.close()")
    server.wait_open(0, PATIENCE)


TRY = """
window.until = async (holds) => {
  const end = performance.now() + 50_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`${holds}: ${document.body.innerText}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
window.all = (selector) => [...document.querySelectorAll(selector)];
window.badges = () => all(".badge").map((badge) => badge.textContent).join();
window.button = (name) => document.querySelector(`button[aria-label="${name}"]`);
await until(() => document.querySelector("main form button"));
document.querySelector("input[value=try]").value = args[0]; // the room
const connect = document.querySelector("main form button");
connect.click();
connect.click();
await until(() => badges() === "open,open");
const said = document.querySelector("input[aria-label='Message of 1: ann']");
said.value = "hello";
said.form.requestSubmit();
await until(() => document.querySelectorAll(".log li").length === 2);
button("Cut: 2: ann").click();
await until(() => document.querySelectorAll(".log")[1].innerText.includes("nothing was missed"));
return document.querySelectorAll(".log")[1].innerText.trim().split("\\n");
"""


def test_page_to_try_it(browser: Browser, server: Process) -> None:
    page = browser.open(f"http://127.0.0.1:{server.admin_port}/try")
    assert page.run(TRY, f"try {browser.name}") == [
        "ann: hello",
        "The connection was cut",
        "Resumed the session",
        "Back in the room, nothing was missed",
    ]
    assert page.screenshot().startswith(b"\x89PNG")
    page.run("for (const card of all('.client')) card.querySelector('.row').lastChild.click();")
    server.wait_open(0, PATIENCE)
