"""The clients have the same calls, for every operation of the API, and show no token."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tidegate.api import (
    AsyncServerApi,
    Message,
    Position,
    ServerApi,
    calls,
    figures,
    lists,
    results,
)
from tidegate.api.place import no_answer
from tidegate.api.values import Call, Pages
from tidegate.errors import UsageError
from tidegate.server import openapi

TOKEN = "a-token-of-the-operator"

# Each call once, with the least and what makes it what it is.
EACH: dict[str, Any] = {
    "publish": lambda: calls.publish("a", 1),
    "publish_to_user": lambda: calls.publish_to_user("a", 1),
    "publish_to_all": lambda: calls.publish_to_all(1),
    "publish_batch": lambda: calls.publish_batch([Message(room="a", data=1)]),
    "rooms": lambda: lists.rooms(limit=5, search="x", after="y", name="z", fleet=True),
    "each_room": lambda: lists.each_room(search="x", fleet=True),
    "join": lambda: calls.join("a", user="b", connection="c"),
    "leave": lambda: calls.leave("a", user="b", connection="c"),
    "presence": lambda: calls.presence("a"),
    "history": lambda: calls.history("a", limit=5, since=Position("e", 1)),
    "users": lambda: lists.users(limit=5, search="x", after="y", fleet=True),
    "each_user": lambda: lists.each_user(search="x", fleet=True),
    "ping": lambda: calls.ping("a"),
    "connections": lambda: lists.connections(
        limit=5, after="1:n", user="a", ip="::1", room="b", fleet=True
    ),
    "each_connection": lambda: lists.each_connection(user="a", ip="::1", room="b", fleet=True),
    "disconnect": lambda: calls.disconnect(
        user="a", ip="::1", room="b", connection="c", text="t", may_return=True, code=4000
    ),
    "revoke": lambda: calls.revoke("a", before=1.0),
    "explain": lambda: calls.explain(
        ip="::1", user="a", tier="b", priority=1, origin="c", host="d"
    ),
    "explain_room": lambda: calls.explain_room("a", user="b", claim="c"),
    "refusals": calls.refusals,
    "settings": calls.settings,
    "change_settings": lambda: calls.change_settings({"limits": {"per_ip": 5}}),
    "drain": lambda: calls.drain(window=1.5),
    "drain_progress": calls.drain_progress,
    "rebalance": calls.rebalance,
    "rebalanced": calls.rebalanced,
    "stats": lambda: calls.stats(fleet=True),
    "nodes": calls.nodes,
    "timeline": lambda: calls.timeline(since=1.5),
    "metrics": calls.metrics,
    "health": calls.health,
    "ready": calls.ready,
    "openapi": calls.openapi,
}


def first(name: str) -> Call[Any]:
    made = EACH[name]()
    assert isinstance(made, Call | Pages)
    return made.first if isinstance(made, Pages) else made


def methods(client: type) -> set[str]:
    return {name for name in vars(client) if not name.startswith("_")} - {"close", "send"}


def test_both_clients_have_every_call_with_its_signature_and_docs() -> None:
    assert methods(ServerApi) == methods(AsyncServerApi) == set(EACH)
    for name in EACH:
        for client in (ServerApi, AsyncServerApi):
            method = getattr(client, name)
            assert inspect.signature(method) == inspect.signature(
                getattr(calls, name, None) or getattr(lists, name)
            ), name
            assert method.__doc__, name


def test_every_operation_of_the_document_has_a_call_and_every_call_an_operation() -> None:
    called = {(first(name).method, first(name).path) for name in EACH}
    assert called == {(call.method, call.path) for call in openapi.CALLS}


@pytest.mark.parametrize("name", EACH)
def test_a_call_sends_what_the_server_reads(name: str) -> None:
    call = first(name)
    known = next(one for one in openapi.CALLS if (one.method, one.path) == (call.method, call.path))
    parameters = set() if known.query is None else encoded(known.query)
    assert set(call.query) <= parameters
    assert bool(call.key) is known.repeats
    assert (call.body is None) is (known.body is None)
    if call.body is not None:
        msgspec.json.decode(call.body, type=known.body)
        if name in ("join", "leave", "disconnect", "revoke", "ping"):
            assert set(msgspec.json.decode(call.body)) == encoded(known.body)


RESULTS = {
    "Published": results.Published,
    "Results": results.Outcomes,
    "RoomsPage": results.RoomsPage,
    "Moved": results.Moved,
    "PresenceRow": results.Presence,
    "HistoryRow": results.HistoryPage,
    "UsersPage": results.UsersPage,
    "Pinged": results.Latency,
    "ConnectionsPage": results.ConnectionsPage,
    "Disconnected": results.Disconnected,
    "Revoked": results.Revoked,
    "Explanation": results.Explanation,
    "RoomExplanation": results.RoomExplanation,
    "Refusals": results.Refusals,
    "Settings": results.SettingsView,
    "Applied": results.Applied,
    "DrainProgress": results.DrainProgress,
    "Rebalanced": results.Rebalanced,
    "FleetStats": figures.Stats,
    "NodesPage": figures.NodesPage,
}


def test_results_have_every_field_of_the_answers_and_no_others() -> None:
    for call in openapi.CALLS:
        if call.result is not None:
            same(call.result, RESULTS[call.result.__name__], call.path)


def same(theirs: Any, ours: Any, where: str) -> None:
    """Compare two types, as far as they are structs in structs."""
    there, here = structs(theirs), structs(ours)
    assert len(there) == len(here), where
    for one, other in zip(there, here, strict=True):
        fields = {field.encode_name: field for field in msgspec.structs.fields(other)}
        assert set(fields) == encoded(one), where
        for field in msgspec.structs.fields(one):
            same(field.type, fields[field.encode_name].type, f"{where} {field.encode_name}")


def structs(kind: Any) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for part in getattr(kind, "__args__", ()) for found in structs(part)]


def encoded(kind: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("client", [ServerApi, AsyncServerApi])
@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8001",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://ann:secret@a",
        "http://a?token=secret",
        "",
    ],
)
def test_what_is_no_url_is_refused_and_not_shown(client: type[ServerApi], url: str) -> None:
    with pytest.raises(UsageError, match="must be like") as caught:
        client(url, TOKEN)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("client", [ServerApi, AsyncServerApi])
@pytest.mark.parametrize("token", ["", "a\nb", "ä"])
def test_what_is_no_token_is_refused_and_not_shown(client: type[ServerApi], token: str) -> None:
    with pytest.raises(UsageError, match="token: must have ASCII") as caught:
        client(token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("client", [ServerApi, AsyncServerApi])
def test_bounds_are_checked(client: type[ServerApi]) -> None:
    for options in ({"timeout": 0}, {"timeout": float("nan")}, {"retries": -1}):
        with pytest.raises(UsageError, match="timeout must be"):
            client(**options)


def test_the_token_is_not_shown() -> None:
    with ServerApi("http://127.0.0.1:8001/", TOKEN) as api:
        assert repr(api) == "ServerApi('http://127.0.0.1:8001')"
    assert repr(AsyncServerApi(token=TOKEN)) == "AsyncServerApi('http://127.0.0.1:8001')"


def test_a_request_that_did_not_get_out_is_told_from_one_that_did() -> None:
    assert no_answer(httpx2.ConnectError("refused")) == ("refused", False)
    assert no_answer(httpx2.ConnectTimeout("x")) == ("none in time", False)
    assert no_answer(httpx2.ReadTimeout("x")) == ("none in time", True)
    assert no_answer(httpx2.RemoteProtocolError("")) == ("RemoteProtocolError", True)


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "httpx2.py").write_text("raise ImportError")
    code = "try:\n import tidegate.api\nexcept ImportError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pip install 'tidegate[http]'" in done.stdout
