"""Three browsers behind one small interface: Chromium, Firefox and WebKitGTK.

Each is asked in its own way: Chromium by its DevTools protocol, Firefox by WebDriver BiDi,
WebKitGTK by WebDriver. A test needs so little of them that no library is installed for it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, TypeVar

from websockets.sync.client import ClientConnection, connect

from tests.support.net import free_port

__all__ = ["BROWSERS", "Browser", "Missing", "Page"]

T = TypeVar("T")
_Lines: TypeAlias = "queue.SimpleQueue[str]"

PATIENCE = 60.0
"""Seconds to wait for anything, on a busy machine."""


class Missing(Exception):
    """The browser is not on this machine."""


class Page(Protocol):
    """One page, in a window or tab of its own."""

    def run(self, script: str, *args: Any) -> Any:
        """Run the body of an async function that has `args`; what it returns, by way of JSON."""

    def screenshot(self) -> bytes:
        """The page as it is now, as PNG."""


class Browser(Protocol):
    """One running browser."""

    @property
    def name(self) -> str:
        """As in `BROWSERS`."""

    def open(self, url: str) -> Page:
        """Open a page."""


def _function(script: str, args: Sequence[Any]) -> str:
    """An expression for a promise of a text: JSON of what the script returns."""
    call = f"(async (...args) => {{ {script} }})(...{json.dumps(list(args))})"
    return f"{call}.then((value) => JSON.stringify(value ?? null))"


def _found(*names: str) -> str:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise Missing(f"{' or '.join(names)} on the PATH")
    return path


class _Channel:
    """Calls and answers in JSON, over a WebSocket. What else comes is dropped."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0

    def call(self, method: str, params: dict[str, Any], **more: Any) -> Any:
        self._calls += 1
        self._socket.send(
            json.dumps({"id": self._calls, "method": method, "params": params} | more)
        )
        end = time.monotonic() + PATIENCE
        while True:
            answer = json.loads(self._socket.recv(max(0.0, end - time.monotonic())))
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise _Refused(answer["error"])
                return answer["result"]


class _Refused(Exception):
    """The browser could not do what it was asked for."""


def _socket(url: str) -> AbstractContextManager[ClientConnection]:
    return connect(url, max_size=None, open_timeout=PATIENCE)


def _tried(work: Callable[[], T], *errors: type[Exception]) -> T:
    """What comes of some work that is done again while it fails so."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except errors:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def _running(
    command: Sequence[str | Path], environment: dict[str, str] | None = None
) -> Iterator[_Lines]:
    """A process of its own group, which ends with all that it has started; what it prints."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    lines: _Lines = queue.SimpleQueue()

    # Read to the end: a browser whose output nobody takes stands still.
    def read(output: IO[str]) -> None:
        with output:
            for line in output:
                lines.put(line)

    assert process.stdout
    reading = threading.Thread(target=read, args=(process.stdout,))
    reading.start()
    try:
        yield lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        reading.join()


def _line(output: _Lines, pattern: str) -> str:
    """The first group of the first line that matches."""
    end = time.monotonic() + PATIENCE
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            if found := re.search(pattern, output.get(timeout=left)):
                return found[1]
    raise AssertionError(f"the browser did not say {pattern}")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # What a browser that was just killed still writes must not fail the test.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


class _ChromiumPage:
    def __init__(self, channel: _Channel, session: str) -> None:
        self._channel = channel
        self._session = session

    def run(self, script: str, *args: Any) -> Any:
        params = {"expression": _function(script, args), "awaitPromise": True}
        answer = self._channel.call("Runtime.evaluate", params, sessionId=self._session)
        assert "exceptionDetails" not in answer, answer
        return json.loads(answer["result"]["value"])

    def screenshot(self) -> bytes:
        shot = self._channel.call("Page.captureScreenshot", {}, sessionId=self._session)
        return base64.b64decode(shot["data"])


class _Chromium:
    name = "chromium"

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def open(self, url: str) -> _ChromiumPage:
        # Windows of their own: what is in the background is slowed down.
        made = {"url": "about:blank", "newWindow": True}
        target = self._channel.call("Target.createTarget", made)["targetId"]
        attached = {"targetId": target, "flatten": True}
        session = self._channel.call("Target.attachToTarget", attached)["sessionId"]
        page = _ChromiumPage(self._channel, session)
        self._channel.call("Page.enable", {}, sessionId=session)
        self._channel.call("Page.navigate", {"url": url}, sessionId=session)
        # A script may run in the page before this one, and end with it.
        _tried(lambda: page.run(_LOADED, url), _Refused)
        return page

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[_Chromium]:
        program = _found("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-dev-shm-usage"]  # containers have little of it
        with (
            _folder() as profile,
            _running([program, *options, f"--user-data-dir={profile}"]) as output,
        ):
            url = _line(output, r"DevTools listening on (ws://\S+)")
            with _socket(url) as socket:
                yield cls(_Channel(socket))


_LOADED = """
while (location.href !== args[0] || document.readyState !== "complete")
  await new Promise((resolve) => setTimeout(resolve, 20));
"""


class _FirefoxPage:
    def __init__(self, channel: _Channel, context: str) -> None:
        self._channel = channel
        self._context = context

    def run(self, script: str, *args: Any) -> Any:
        answer = self._channel.call(
            "script.evaluate",
            {
                "expression": _function(script, args),
                "target": {"context": self._context},
                "awaitPromise": True,
            },
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"]["value"])

    def screenshot(self) -> bytes:
        wanted = {"context": self._context}
        return base64.b64decode(
            self._channel.call("browsingContext.captureScreenshot", wanted)["data"]
        )


class _Firefox:
    name = "firefox"

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def open(self, url: str) -> _FirefoxPage:
        made = self._channel.call("browsingContext.create", {"type": "window"})
        where = {"context": made["context"], "url": url, "wait": "complete"}
        self._channel.call("browsingContext.navigate", where)
        return _FirefoxPage(self._channel, made["context"])

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[_Firefox]:
        program = _found("firefox-esr", "firefox")
        options = ["--headless", "--no-remote", "--remote-debugging-port=0"]
        with (
            _folder() as profile,
            _running(
                [program, *options, "--profile", profile],
                {"HOME": str(profile), "MOZ_HEADLESS": "1"},
            ) as output,
        ):
            url = _line(output, r"WebDriver BiDi listening on (ws://\S+)")
            with _socket(f"{url}/session") as socket:
                channel = _Channel(socket)
                channel.call("session.new", {"capabilities": {}})
                yield cls(channel)


class _WebKitPage:
    def __init__(self, browser: _WebKit, handle: str) -> None:
        self._browser = browser
        self._handle = handle

    def run(self, script: str, *args: Any) -> Any:
        self._browser.choose(self._handle)
        call = f"""
        const done = arguments[0];
        {_function(script, args)}.then(done, (error) => done({{ error: String(error) }}));
        """
        answer = self._browser.ask("execute/async", {"script": call, "args": []})
        assert isinstance(answer, str), answer
        return json.loads(answer)

    def screenshot(self) -> bytes:
        self._browser.choose(self._handle)
        return base64.b64decode(self._browser.ask("screenshot"))


class _WebKit:
    name = "webkit"

    def __init__(self, base: str) -> None:
        self._base = base

    def ask(self, what: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._base}/{what}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise _Refused(error.read().decode()) from None

    def choose(self, handle: str) -> None:
        self.ask("window", {"handle": handle})

    def open(self, url: str) -> _WebKitPage:
        handle = self.ask("window/new", {"type": "window"})["handle"]
        self.choose(handle)
        self.ask("url", {"url": url})
        return _WebKitPage(self, handle)

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[_WebKit]:
        driver = _found("WebKitWebDriver")
        program = next(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"), None)
        if program is None:
            raise Missing("MiniBrowser of libwebkit2gtk-4.1-0")
        screen = [_found("Xvfb"), "-displayfd", "1", "-screen", "0", "1280x1024x24"]
        port = free_port()
        with _folder() as home, _running([*screen, "-nolisten", "tcp"]) as output:
            display = _line(output, r"^(\d+)$")
            environment = {
                "DISPLAY": f":{display}",
                "HOME": str(home),
                "XDG_RUNTIME_DIR": str(home),
                "GDK_BACKEND": "x11",
                "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # root has none
                "LIBGL_ALWAYS_SOFTWARE": "1",
            }
            with _running([driver, f"--port={port}", "--host=127.0.0.1"], environment):
                yield cls._session(f"http://127.0.0.1:{port}", str(program))

    @classmethod
    def _session(cls, base: str, program: str) -> _WebKit:
        options = {"binary": program, "args": ["--automation"]}
        wanted = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
        made = _tried(lambda: cls(base).ask("session", {"capabilities": wanted}), OSError)
        session = cls(f"{base}/session/{made['sessionId']}")
        session.ask("timeouts", {"script": int(PATIENCE * 1000)})
        return session


BROWSERS: Mapping[str, Callable[[], AbstractContextManager[Browser]]] = {
    "chromium": _Chromium.running,
    "firefox": _Firefox.running,
    "webkit": _WebKit.running,
}
"""Each as a context that starts it; raises `Missing` where it is not installed."""
