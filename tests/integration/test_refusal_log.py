"""What the log and `/refusals` say of attempts that were refused."""

from __future__ import annotations

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.tokens import SECRET


def test_refusals_are_in_the_log_with_an_example(serve: Start) -> None:
    server = serve({"server": {"origins": ["https://good.example"]}, "auth": {"secret": SECRET}})
    headers = [
        ("Origin", "https://evil.example"),
        ("User-Agent", "A browser/1.0 \x9b[2J \xe4" + "x" * 5000),
        ("Sec-WebSocket-Protocol", "chat, tidegate.token.swordfish"),
    ]
    for _ in range(20):
        with server.connect() as page:
            assert page.ask(path="/ws?token=swordfish", headers=headers).status == 403
    with server.connect() as client:
        assert client.ask(replace={"Sec-WebSocket-Key": "short"}).status == 400
    with server.connect() as other:
        other.send(b"\x16\x03\x01 this is TLS, to a plain port\r\n\r\n")
        assert other.response().status == 400

    def lines(reason: str) -> list[str]:
        return [line for line in server.lines if f"refused reason={reason}" in line]

    wait_until(lambda: lines("origin") and lines("bad_request"), 20, "both are logged")
    last = lines("origin")[-1]
    assert 'detail="the origin is not in server.origins" address=127.0.0.1 path=/ws' in last
    assert " host=127.0.0.1 origin=https://evil.example " in last
    assert ' subprotocols="chat, tidegate.token.********" ' in last
    assert r'user_agent="A browser/1.0 \x9b[2J ' in last
    assert len(last) < 1000
    assert len(lines("origin")) <= 3
    told = server.get("/refusals")[1]["reasons"]
    assert told["origin"]["count"] == 20
    assert told["origin"]["last"]["origin"] == "https://evil.example"
    details = {row["detail"] for row in server.get("/refusals")[1]["refusals"]}
    assert "Sec-WebSocket-Key must be 16 bytes in base64" in details
    assert "this is not an HTTP request" in details
    assert "swordfish" not in server.log + str(server.get("/refusals"))
