"""The admin API: its paths, who may ask, and what is said of wrong questions."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import to_builtins

from tests.unit.server.admin_world import TOKEN, ask, node_of
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Reject
from tidegate.core.codes import RATE_LIMITED
from tidegate.node.control import Applied, Control, RefusedRow, Status

# What is shown.


def test_stats_are_the_snapshot() -> None:
    node = node_of(limits={"connections": 7})
    try:
        found = ask("/stats", node.control).json()
        assert found["connections"]["limit"] == 7
        expected = to_builtins(node.control.snapshot())
        expected["load"]["since"] = found["load"]["since"]
        assert found == expected
    finally:
        node.engine.shared.poller.close()


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", b"\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n"),
        ("application/openmetrics-text", "application/openmetrics-text", b"# EOF\n"),
        ("", "text/plain", b"\n"),
        ("text/html, */*;q=0.8", "text/plain", b"\n"),
        # What Prometheus 2.42 and 3.0 send.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
            "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0",
            b"# EOF\n",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/"
            "openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;"
            "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0",
            b"# EOF\n",
        ),
        # A weight decides, and 0 is "not this" (RFC 9110, section 12.4.2).
        ("application/openmetrics-text;q=0.3, text/plain;q=0.5", "text/plain", b"\n"),
        ("application/openmetrics-text;q=0", "text/plain", b"\n"),
        # What makes no sense, or is another version, is passed over.
        ("application/openmetrics-text; version=abc", "text/plain", b"\n"),
        ("application/openmetrics-text; version=2.0.0", "text/plain", b"\n"),
        ("application/openmetrics-text; version=", "text/plain", b"\n"),
        ("application/openmetrics-text; q=abc", "text/plain", b"\n"),
        ("application/openmetrics-text; q=nan", "text/plain", b"\n"),
        ("application/openmetrics-text; escaping=\x80;;;=,,", "application/openm", b"# EOF\n"),
        ("text/plain; version=abc; escaping=nothing", "text/plain", b"\n"),
        (",;=;q=;version", "text/plain", b"\n"),
    ],
)
def test_metrics_have_the_format_that_is_asked_for(
    accept: str, content_type: str, end: bytes
) -> None:
    answer = ask("/metrics", headers={"Accept": accept.encode("latin-1")})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.content.endswith(end)
    assert b'websocket_connections_current{state="open"} 0.0' in answer.content


def test_health_and_ready_are_mirrored() -> None:
    class Ready(Control):
        said = Status("1.2.3", 4.0, True, "", ())

        def status(self) -> Status:
            return self.said

    node = node_of()
    control = Ready(node)
    try:
        healthy = ask("/health", control).json()
        assert healthy.pop("stats").keys() == to_builtins(node.control.snapshot()).keys()
        assert healthy == {
            "status": "ok",
            "version": "1.2.3",
            "uptime": 4.0,
            "ready": True,
            "reason": "",
            "down": [],
        }
        ready = ask("/ready", control)
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
        control.said = Status("1.2.3", 4.0, False, "draining", ())
        ready = ask("/ready", control)
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "draining"})
    finally:
        node.engine.shared.poller.close()


def test_connections_of_none_is_an_empty_page() -> None:
    assert ask("/connections").json() == {"connections": [], "next": None}


def test_explain_room_says_what_a_client_may_do() -> None:
    answer = ask("/explain/room?room=lobby&user=ann&claim=chat:*").json()
    assert (answer["room"], answer["user"]) == ("lobby", "ann")
    assert [(step["name"], step["passed"]) for step in answer["steps"]] == [
        ("join", True),
        ("publish", True),
        ("presence", False),
        ("history", False),
        ("members", True),
        ("user_members", True),
        ("user_rooms", True),
        ("publish_rate", True),
    ]
    assert answer["steps"][0]["detail"].startswith("no rule matches, so join is anyone")
    assert ask("/explain/room").status_code == 400


def test_explain_shows_the_decision_and_its_steps() -> None:
    answer = ask("/explain?ip=::ffff:192.0.2.1&user=ann&tier=gold&priority=7").json()
    assert (answer["outcome"], answer["by"]) == ("admit", None)
    assert answer["attempt"] == {
        "ip": "192.0.2.1",
        "user": "ann",
        "tier": "gold",
        "priority": 7,
        "origin": None,
        "host": "localhost",
    }
    assert all(set(step) == {"name", "passed", "detail", "numbers"} for step in answer["steps"])


@pytest.mark.parametrize(
    ("query", "outcome", "said"),
    [
        ("origin=http://localhost", "admit", "pages of this origin may connect"),
        ("origin=https://app.example", "reject", "the page is not of the Host"),
        ("origin=https://app.example&host=app.example", "reject", "no name of this machine"),
        ("origin=https://app.example&host=app.example&ip=192.0.2.1", "admit", "may connect"),
    ],
)
def test_explain_says_which_pages_may_connect(query: str, outcome: str, said: str) -> None:
    answer = ask(f"/explain?{query}").json()
    assert answer["outcome"] == outcome
    step = answer["steps"][0]
    assert (step["name"], step["passed"]) == ("origin", outcome == "admit")
    assert said in step["detail"]


HEADERS = {
    "host": "chat.example",
    "origin": "https://chat.example",
    "sec-websocket-protocol": "a, tidegate.token.swordfish",
    "user-agent": "x" * 5000,
    "cookie": "swordfish",
}


def test_refusals_begin_with_the_newest() -> None:
    node = node_of()
    try:
        for at, address, reject in (
            (1.0, "192.0.2.1", Reject(RATE_LIMITED, 2.5)),
            (2.0004, "192.0.2.2", Reject(RATE_LIMITED, 7)),
        ):
            headers = HEADERS if at > 1 else None
            node.refusals.add(Attempt(address, "/ws", ANONYMOUS), reject, at, headers)
        answer = ask("/refusals", node.control).json()
        found = answer["refusals"]
        assert found[0] == {
            "at": 2.0,
            "ip": "192.0.2.2",
            "user": None,
            "tier": None,
            "reason": "rate_limited",
            "message": RATE_LIMITED.message,
            "retryAfter": 7,
            "limit": None,
            "path": "/ws",
            "host": "chat.example",
            "origin": "https://chat.example",
            "subprotocols": "a, tidegate.token.********",
            "userAgent": "x" * 200,
            "detail": "",
        }
        assert found[1]["retryAfter"] == 2.5
        assert found[1]["origin"] == ""
        assert set(found[0]) == set(RefusedRow.__struct_encode_fields__)
        assert answer["reasons"] == {"rate_limited": {"count": 2, "last": found[0]}}
    finally:
        node.engine.shared.poller.close()


# Wrong questions.


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/x", "GET", 404), ("/stats", "POST", 405)]
)
def test_errors_are_json(path: str, method: str, status: int) -> None:
    answer = ask(path, method=method)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("connections?limit=0", 'limit: "0" is not a whole number from 1 to 1000'),
        ("connections?limit=1001", 'limit: "1001" is not'),
        ("connections?limit=-1", 'limit: "-1" is not'),
        ("connections?limit=1.0", 'limit: "1.0" is not'),
        ("connections?limit=", 'limit: "" is not'),
        ("connections?limit=%D9%A3", 'limit: "٣" is not'),
        ("connections?limit=" + "9" * 5000, 'limit: "999'),
        ("connections?after=-1", 'after: "-1" is not a whole number from 0'),
        ("connections?after=x", 'after: "x" is not'),
        ("connections?after=9223372036854775808", 'after: "9223372036854775808" is not'),
        ("connections?ip=alice", 'ip: "alice" is neither an IP address nor a network'),
        ("connections?ip=192.0.2.1:80", 'ip: "192.0.2.1:80" is neither'),
        ("connections?ip=" + "1" * 5000, 'ip: "111'),
        ("connections?user=a&user=b", "user: given twice"),
        (
            "connections?rooms=a",
            'unknown parameter "rooms"; there are limit, after, user, ip, room',
        ),
        ("explain?ip=nowhere", 'ip: "nowhere" is not an IP address'),
        ("explain?priority=101", 'priority: "101" is not a whole number from 0 to 100'),
        ("explain?priority=-1", 'priority: "-1" is not a whole number from 0 to 100'),
        ("explain?user=a&user=b", "user: given twice"),
        ("explain?colour=red", 'unknown parameter "colour"; there are ip, user, tier, priority'),
    ],
)
def test_wrong_parameters_are_named(query: str, said: str) -> None:
    answer = ask(f"/{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)
    assert len(answer.content) < 200


# Who may ask.


@pytest.mark.parametrize(
    "given",
    [
        None,
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/stats"),
        ("GET", "/metrics"),
        ("GET", "/connections"),
        ("GET", "/settings"),
        ("PATCH", "/settings"),
        ("POST", "/disconnect"),
        ("GET", "/nothing"),
    ],
)
def test_a_token_that_is_set_is_asked_for(given: str | None, method: str, path: str) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answer = ask(path, None, method, token=TOKEN, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens(scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert ask("/stats", token=TOKEN, headers=headers, base="http://gate.example").is_success


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_need_no_token(path: str) -> None:
    assert ask(path, token=TOKEN, base="http://gate.example").status_code in (200, 503)


@pytest.mark.parametrize(
    ("token", "given", "base"),
    [
        (TOKEN, None, "http://127.0.0.1:8001"),
        (TOKEN, "Bearer wrong", "http://127.0.0.1:8001"),
        (None, None, "http://evil.example"),
    ],
)
def test_health_tells_others_no_more_than_that(
    token: str | None, given: str | None, base: str
) -> None:
    headers = {} if given is None else {"Authorization": given}
    answer = ask("/health", token=token, headers=headers, base=base)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_health_tells_the_operator_more() -> None:
    told = ask("/health", token=TOKEN, headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert told.keys() == {"status", "version", "uptime", "ready", "reason", "down", "stats"}


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        (["ops.example"], "ops.example:8001", 200),
        (["ops.example"], "localhost:8001", 200),
        (["ops.example"], "evil.example:8001", 403),
        (["*"], "evil.example:8001", 403),
    ],
)
def test_without_a_token_names_of_the_settings_are_good_too(
    hosts: list[str], host: str, status: int
) -> None:
    assert ask("/stats", hosts=hosts, headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8001", "localhost:9", "LOCALHOST", "[::1]:8001", "[::1]"]
)
def test_without_a_token_names_of_this_machine_are_good(host: str) -> None:
    assert ask("/stats", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "192.0.2.1", "[::2]", ""],
)
def test_without_a_token_other_names_are_not(host: str) -> None:
    answer = ask("/stats", headers={"Host": host})
    assert answer.status_code == 403
    assert "Host" in answer.json()["error"]


CHANGES: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/drain", {}, 202),
    ("POST", "/disconnect", {"json": {"user": "ann"}}, 200),
    ("PATCH", "/settings", {"json": {"limits": {"per_ip": 5}}}, 200),
]


@pytest.mark.parametrize(("method", "path", "options", "status"), CHANGES)
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8001"}, True),
        ({"Origin": "http://127.0.0.1:9000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "Cross-Site"}, False),
        ({"Sec-Fetch-Site": "something new"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8001"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, False),
    ],
)
def test_pages_of_other_sites_may_change_nothing(
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
    headers: dict[str, str],
    allowed: bool,
) -> None:
    calls: list[str] = []

    class Noting(Control):
        def drain(self, window: float | None = None) -> Any:
            calls.append("drain")

        async def disconnect(self, selector: Any, *_: Any, **__: Any) -> Any:
            calls.append("disconnect")

        def apply(self, changes: Any) -> Any:
            calls.append("settings")
            return Applied([], [])

    node = node_of()
    try:
        answer = ask(path, Noting(node), method, headers=headers, **options)
        assert answer.status_code == (status if allowed else 403)
        assert calls == ([path[1:]] if allowed else [])
    finally:
        node.engine.shared.poller.close()
