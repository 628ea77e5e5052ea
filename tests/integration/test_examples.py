"""Every program of examples/ runs."""

from __future__ import annotations

import json
from contextlib import ExitStack

import httpx
import pytest
import socketio
from playwright.sync_api import sync_playwright
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.aio import run
from tests.support.net import free_port, wait_until


def test_echo(program: Start) -> None:
    port = free_port()
    server = program(f"examples/echo.py --port {port}", port=port, admin=False)
    with connect(f"ws://127.0.0.1:{port}/some/path", proxy=None) as client:
        client.send("text")
        assert client.recv(20) == "text"
        assert not client.protocol.extensions
    assert server.stop() == 0


def test_echo_with_compression(program: Start) -> None:
    port = free_port()
    program(f"examples/echo.py --port {port} --deflate", port=port, admin=False)
    with connect(f"ws://127.0.0.1:{port}", proxy=None) as client:
        client.send(b"binary " * 1000)
        assert client.recv(20) == b"binary " * 1000
        assert client.protocol.extensions


def test_gate_around_websockets_closes_what_is_too_much_with_reason_and_delay(
    program: Start,
) -> None:
    port = free_port()
    server = program(f"examples/gate_websockets.py {port}", port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/"
    with ExitStack() as held:
        for _ in range(20):
            client = held.enter_context(connect(url, proxy=None))
            client.send("hello")
            assert client.recv(20) == "hello"
        refused = held.enter_context(connect(url, proxy=None))
        with pytest.raises(ConnectionClosed) as closed:
            refused.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert json.loads(closed.value.rcvd.reason) == {"error": "ip_limit", "retryAfter": 10}
    server.kill()  # `websockets` may wait for its connections for longer than a test should


def test_gate_around_aiohttp_refuses_before_the_upgrade(program: Start) -> None:
    port = free_port()
    program(f"examples/gate_aiohttp.py {port}", port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/"
    with ExitStack() as held:
        for _ in range(20):
            client = held.enter_context(connect(url, proxy=None))
            client.send("hello")
            assert client.recv(20) == "hello"
        with pytest.raises(InvalidStatus) as refused:
            connect(url, proxy=None)
        response = refused.value.response
        assert response.status_code == 429
        assert response.headers["X-Rejection-Reason"] == "ip_limit"
        assert response.headers["Retry-After"] == "10"


def test_fastapi_chat(program: Start, chromium: str) -> None:
    port = free_port()
    command = f"-m uvicorn examples.fastapi_chat:app --port {port} --log-level warning"
    program(command, port=port, admin=False)
    url = f"http://127.0.0.1:{port}/?lobby=tea&user="
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        ann, bob, again = (browser.new_page() for _ in range(3))
        ann.goto(f"{url}ann")
        ann.get_by_text("chat: in tea: ann", exact=True).wait_for(timeout=10_000)
        bob.goto(f"{url}bob")
        bob.get_by_text("chat: in tea: ann, bob").wait_for(timeout=10_000)
        bob.fill("#text", "hello <b>")
        bob.press("#text", "Enter")
        ann.get_by_text("bob: hello <b>").wait_for(timeout=10_000)
        bob.fill("#text", "")
        bob.press("#text", "Enter")
        bob.get_by_text("text: String should have at least 1 character").wait_for(timeout=10_000)
        said = httpx.post(f"http://127.0.0.1:{port}/lobbies/tea?text=tea%20time", timeout=10)
        assert said.json() == {"reached": 2}
        ann.get_by_text("system: tea time").wait_for(timeout=10_000)
        again.goto(f"{url}ann")
        again.get_by_text("chat: in tea").wait_for(timeout=10_000)
        third = browser.new_page()
        third.goto(f"{url}ann")
        third.get_by_text('closed: 1013 {"error":"user_limit"').wait_for(timeout=10_000)
        browser.close()


def test_server_login(program: Start) -> None:
    port = free_port()
    server = program(f"examples/server_login.py {port}", port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/echo"
    cookie = {"Cookie": "theme=dark; session=5f3a9c"}
    with ExitStack() as held:
        for _ in range(2):
            client = held.enter_context(connect(url, additional_headers=cookie, proxy=None))
            client.send("hello")
            assert client.recv(20) == "hello"
        for headers, reason in ((cookie, "user_limit"), ({"Cookie": "session=x"}, "unauthorized")):
            with pytest.raises(InvalidStatus) as refused:
                connect(url, additional_headers=headers, proxy=None)
            assert refused.value.response.headers["X-Rejection-Reason"] == reason
    assert server.stop() == 0


def test_server_chat(program: Start) -> None:
    port = free_port()
    server = program(f"examples/server_chat.py {port}", port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/chat"
    with (
        connect(f"{url}/tea?name=ann", proxy=None) as ann,
        connect(f"{url}/tea?name=bob", proxy=None) as bob,
        connect(f"{url}/coffee", proxy=None) as cid,
    ):
        ann.send('{"text": 5}')
        said = json.loads(ann.recv(20))
        assert (said["type"], said["code"], said["field"]) == ("error", "invalid_field", "text")
        # Each reads its own, so all three have joined before the last one is sent.
        for client, name in ((ann, "ann"), (bob, "bob"), (cid, "somebody")):
            client.send('{"text": "here"}')
            while json.loads(client.recv(20)) != {"by": name, "text": "here"}:
                pass
        bob.send('{"text": "hello"}')
        while json.loads(ann.recv(20)) != {"by": "bob", "text": "hello"}:
            pass
        with pytest.raises(TimeoutError):
            cid.recv(0.2)
    assert server.stop() == 0


def test_server_ticker(program: Start) -> None:
    port = free_port()
    server = program(f"examples/server_ticker.py {port}", port=port, admin=False)
    with (
        connect(f"ws://127.0.0.1:{port}/prices/7", proxy=None) as first,
        connect(f"ws://127.0.0.1:{port}/prices/8", proxy=None) as second,
    ):
        assert second.recv(20) == "0 users are here"
        first.send("?")
        while (said := first.recv(20)) == "0 users are here":
            pass
        assert json.loads(said) == {"item": 7, "price": 4.2}
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{port}/prices/cheap", proxy=None)
    assert refused.value.response.status_code == 404
    assert server.stop() == 0


RUN = "-m tidegate run --no-access-log examples."


def test_fastapi_login(program: Start) -> None:
    server = program(f"{RUN}fastapi_login:app")
    url = f"ws://127.0.0.1:{server.port}/echo"
    cookie = {"Cookie": "session=5f3a9c"}
    with ExitStack() as held:
        for _ in range(2):
            client = held.enter_context(connect(url, additional_headers=cookie, proxy=None))
            client.send("hello")
            assert client.recv(20) == "hello"
        for headers, status in ((cookie, 429), ({"Cookie": "session=x"}, 401)):
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(url, additional_headers=headers, proxy=None),
            ):
                pass
            assert refused.value.response.status_code == status


def test_fastapi_rooms(program: Start) -> None:
    server = program(f"{RUN}fastapi_rooms:app")
    url = f"ws://127.0.0.1:{server.port}/chat/tea"
    with connect(f"{url}?name=ann", proxy=None) as ann, connect(url, proxy=None) as bob:
        for client, name in ((ann, "ann"), (bob, "somebody")):
            client.send('{"text": "here"}')
            while json.loads(client.recv(20)) != {"by": name, "text": "here"}:
                pass
        ann.send('{"text": 5}')
        while json.loads(ann.recv(20)).get("type") != "error":
            pass


def test_fastapi_ticker(program: Start) -> None:
    server = program(f"{RUN}fastapi_ticker:app")
    with connect(f"ws://127.0.0.1:{server.port}/prices/7", proxy=None) as client:
        client.send("?")
        assert client.recv(20) == "1 are here" or client.recv(20) == "1 are here"
        while (said := client.recv(20)) == "1 are here":
            client.send("?")
        assert json.loads(said) == {"item": 7, "price": 4.2}


def test_hello(program: Start) -> None:
    port = free_port()
    server = program("examples/hello.py", port=port, admin=False, environment={"PORT": str(port)})
    with connect(f"ws://127.0.0.1:{server.port}/hello/ann", proxy=None) as client:
        assert client.recv(20) == "hello, ann"
        client.send("hi")
        assert client.recv(20) == "ann said: 'hi'"


def test_chat_with_a_page(program: Start, chromium: str) -> None:
    port = free_port()
    program("examples/chat.py", port=port, admin=False, environment={"PORT": str(port)})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = [browser.new_page(), browser.new_page()]
        for name, page in zip(("ann", "bob"), pages, strict=True):
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_label("Name").fill(name)
            page.get_by_role("button", name="Enter").click()
            page.get_by_text(f"{name} came").wait_for()
        pages[0].get_by_label("Message").fill("<b>hello</b>")
        pages[0].get_by_role("button", name="Send").click()
        pages[1].get_by_text("ann: <b>hello</b>").wait_for()
        pages[0].close()
        pages[1].get_by_text("ann left").wait_for()
        browser.close()


def test_llm_stream_cancels_the_answer_that_nobody_waits_for(program: Start) -> None:
    port = free_port()
    server = program(f"examples/llm_stream.py {port}", port=port, admin=False)
    with connect(f"ws://127.0.0.1:{port}/ask", proxy=None) as client:
        client.send("first")
        for token in ("You ", "asked: ", "first "):
            assert json.loads(client.recv(20)) == {"token": token}
        client.send("second")
        while json.loads(client.recv(20)) != {"token": "second "}:
            pass
        wait_until(lambda: server.log.count("cancelled after") == 1, 20)
    wait_until(lambda: server.log.count("cancelled after") == 2, 20)
    assert "exception" not in server.log
    assert server.stop() == 0


def test_server_token(program: Start, chromium: str) -> None:
    port = free_port()
    program(f"examples/server_token.py {port}", port=port, admin=False)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{port}/hi", proxy=None)
    assert refused.value.response.status_code == 401
    for wrong in ({}, {"Authorization": "Basic ?"}, {"Authorization": "Basic ZXZlOg=="}):
        answer = httpx.get(f"http://127.0.0.1:{port}/login", headers=wrong, timeout=10)
        assert answer.status_code == 401
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        first, second = browser.new_page(), browser.new_page()
        for page, password in ((first, "coffee"), (first, "tea"), (second, "tea")):
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_label("Name").fill("ann")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Log in").click()
            wanted = "wrong name" if password == "coffee" else "hello, ann"
            page.get_by_text(wanted).wait_for(timeout=10_000)
        first.get_by_text("hello, ann, on 2 devices").wait_for(timeout=10_000)
        browser.close()


def test_socketio_chat(program: Start) -> None:
    server = program(f"{RUN}socketio_chat:app")

    async def main() -> None:
        async with socketio.AsyncSimpleClient() as ann, socketio.AsyncSimpleClient() as bob:
            url = f"http://127.0.0.1:{server.port}"
            for client, user in ((ann, "ann"), (bob, "bob")):
                await client.connect(url, transports=["websocket"], auth={"user": user})
            await ann.emit("say", "hello")
            while await bob.receive(5) != ["said", {"by": "ann", "text": "hello"}]:
                pass
        async with socketio.AsyncSimpleClient() as nobody:
            with pytest.raises(socketio.exceptions.ConnectionError):
                await nobody.connect(url, transports=["websocket"])

    run(main())
    server.wait_open(0)


@pytest.mark.parametrize("on", ["tidegate run", "daphne behind the middleware"])
def test_channels_chat(program: Start, on: str) -> None:
    if on == "tidegate run":
        server = program(f"{RUN}channels_chat:app")
    else:
        port = free_port()
        command = f"-m daphne tests.support.channels_guarded:app -v 0 -p {port}"
        server = program(command, port=port, admin=False)
    url = f"ws://127.0.0.1:{server.port}/chat"
    with (
        connect(f"{url}/tea/", proxy=None) as ann,
        connect(f"{url}/tea/", proxy=None) as bob,
        connect(f"{url}/coffee/", proxy=None) as cid,
    ):
        ann.send('{"text": "hello"}')
        assert json.loads(ann.recv(20)) == json.loads(bob.recv(20)) == {"text": "hello"}
        with pytest.raises(TimeoutError):
            cid.recv(0.2)
        assert "WebSocket" in httpx.get(f"http://127.0.0.1:{server.port}/").text


def test_one_line(program: Start) -> None:
    port = free_port()
    command = f"-m uvicorn examples.one_line:app --log-level warning --port {port}"
    program(command, port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/echo"
    with ExitStack() as held:
        for _ in range(20):
            client = held.enter_context(connect(url, proxy=None))
            client.send("hello")
            assert client.recv(20) == "hello"
        with pytest.raises(InvalidStatus) as refused, connect(url, proxy=None):
            pass
        assert refused.value.response.headers["Retry-After"] == "10"
