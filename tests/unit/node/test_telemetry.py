"""Traces: what spans there are of attempts and publications, and what is in them."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.aio import run
from tests.support.clients import Client, run_guarded, until
from tests.unit.node.door import PEER, Door, Promise, bearer
from tidegate.core.admission.attempt import Identity
from tidegate.core.codes import DECISION_TIMEOUT
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import Settings
from tidegate.errors import ConfigError
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.node.telemetry.attempts import Attempts, bounded
from tidegate.node.telemetry.start import traces_of
from tidegate.node.telemetry.traced import TracedDoor
from tidegate.node.telemetry.traces import Traces, sampler
from tidegate.wire.codecs import JSON_V1

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Exported:
    """Spans that have ended, in memory."""

    def __init__(self, share: float = 1.0) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(sampler(share), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.traces = Traces(provider, provider.shutdown)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._memory.get_finished_spans()

    def take(self) -> tuple[ReadableSpan, dict[str, Any]]:
        """The one span that has ended since the last call, and its attributes."""
        (span,) = self.spans
        self._memory.clear()
        return span, dict(span.attributes or {})


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.fixture
def traced(exported: Exported) -> Callable[..., Door]:
    attempts = Attempts(exported.traces, lambda: "warning")
    return partial(Door, subprotocols=(JSON_V1,), make=partial(TracedDoor, attempts))


# Attempts.


def test_attempt_that_is_admitted_has_a_span(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door = traced()
    before = time.time_ns()
    agent = ("User-Agent", "chat/1.0 \x9b2J" + "x" * 500)
    door.let_in(bearer(door.token("ann\u202e", tier="gold")), agent, path="/ws?access_token=secret")
    span, attributes = exported.take()
    assert (span.name, span.kind, span.parent) == ("attempt", SpanKind.SERVER, None)
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time is not None
    assert span.end_time is not None
    assert before - 1_000_000 <= span.start_time <= span.end_time <= time.time_ns()
    assert attributes.pop("user_agent.original") == ("chat/1.0 ?2J" + "x" * 500)[:200]
    assert 0 <= attributes.pop("tidegate.waited") < 5
    assert attributes == {
        "network.protocol.name": "websocket",
        "client.address": PEER,
        "url.path": "/ws",
        "url.scheme": "ws",
        "user.id": "ann?",
        "tidegate.tier": "gold",
        "tidegate.zone": "warning",
        "tidegate.decision": "admit",
    }


def test_attempt_that_is_refused_has_its_reason_and_is_no_error(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door = traced(limits={"per_ip": 1})
    door.fill(1)
    door.refused(protocols=JSON_V1)
    span, attributes = exported.take()
    assert span.status.status_code is StatusCode.UNSET
    assert attributes["tidegate.decision"] == "reject"
    assert attributes["tidegate.reason"] == "ip_limit"
    assert attributes["tidegate.limit"] == 1
    assert attributes["tidegate.subprotocol"] == JSON_V1
    assert "user.id" not in attributes


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        ([("traceparent", f"00-{TRACE}-{PARENT}-01")], PARENT),
        ([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=b")], PARENT),
        ([("traceparent", f"00-{TRACE}-{'0' * 16}-01")], None),
        ([("traceparent", "nonsense")], None),
        ([("traceparent", f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01")], None),
        ([("tracestate", "a=b")], None),
        ([], None),
    ],
)
def test_attempt_is_part_of_the_trace_of_its_client(
    traced: Callable[..., Door],
    exported: Exported,
    headers: list[tuple[str, str]],
    parent: str | None,
) -> None:
    traced().let_in(*headers)
    span, _ = exported.take()
    found = span.parent
    assert (None if found is None else f"{found.span_id:016x}") == parent
    own = span.get_span_context()
    assert own is not None
    assert (f"{own.trace_id:032x}" == TRACE) == (parent is not None)


def test_attempt_that_the_trace_of_its_client_leaves_out_has_no_span(
    traced: Callable[..., Door], exported: Exported
) -> None:
    traced().let_in(("traceparent", f"00-{TRACE}-{PARENT}-00"))
    assert exported.spans == ()


def test_sample_of_nothing_makes_no_span_whatever_clients_send() -> None:
    exported = Exported(0.0)
    attempts = Attempts(exported.traces, lambda: "normal")
    door = Door(make=partial(TracedDoor, attempts))
    door.let_in()
    door.let_in(("traceparent", f"00-{TRACE}-{PARENT}-01"))
    assert exported.spans == ()


def test_attempt_that_is_sent_away_has_its_position(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door = traced(limits={"connections": 1}, waiting_room={"enabled": True})
    door.fill(1)
    door.refused()
    _, attributes = exported.take()
    assert (attributes["tidegate.decision"], attributes["tidegate.position"]) == ("wait", 1)
    assert attributes["tidegate.retry_after"] >= 1


def test_request_that_is_no_attempt_has_its_reason(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door = traced()
    assert door.refused(path="/elsewhere").status == 404
    _, attributes = exported.take()
    assert attributes["url.path"] == "/elsewhere"
    assert attributes["client.address"] == PEER
    assert (attributes["tidegate.decision"], attributes["tidegate.reason"]) == (
        "reject",
        "not_found",
    )
    door.door.timed_out(PEER)
    _, attributes = exported.take()
    assert attributes["tidegate.reason"] == "handshake_timeout"


def late(traced: Callable[..., Door]) -> tuple[Door, Promise]:
    promise = Promise()
    return traced(identifier=promise), promise


def test_attempt_that_is_decided_late_has_one_span_with_its_wait(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door, promise = late(traced)
    undecided = door.undecided()
    assert exported.spans == ()
    undecided.then(lambda: None)
    time.sleep(0.02)
    promise.keep(Identity("ann"))
    door.go_on(undecided)
    span, attributes = exported.take()
    assert attributes["tidegate.decision"] == "admit"
    assert attributes["user.id"] == "ann"
    assert attributes["tidegate.waited"] >= 0.02
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time >= 20_000_000


def test_attempt_that_cannot_be_decided_is_an_error_without_its_text(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door, promise = late(traced)
    undecided = door.undecided()
    undecided.then(lambda: None)
    promise.keep(RuntimeError("the password"))
    door.go_on(undecided)
    span, attributes = exported.take()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes["error.type"] == "RuntimeError"
    assert attributes["tidegate.reason"] == "internal_error"
    assert "password" not in span.to_json()


def test_attempt_that_is_given_up_has_the_reason(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door, _ = late(traced)
    door.undecided().refuse(DECISION_TIMEOUT)
    _, attributes = exported.take()
    assert attributes["tidegate.reason"] == "decision_timeout"


def test_attempt_whose_client_leaves_is_abandoned(
    traced: Callable[..., Door], exported: Exported
) -> None:
    door, promise = late(traced)
    door.undecided().cancel()
    assert promise.cancelled == 1
    _, attributes = exported.take()
    assert attributes["tidegate.decision"] == "abandoned"
    assert "tidegate.reason" not in attributes


def test_no_token_is_in_any_span(traced: Callable[..., Door], exported: Exported) -> None:
    door = traced(auth={"query_token": True})
    token, old = door.token("ann"), door.token("bob", lifetime=-1)
    door.let_in(bearer(token))
    door.refused(bearer(old))
    door.let_in(path=f"/ws?access_token={token}")
    door.let_in(protocols=f"{JSON_V1}, tidegate.token.{token}")
    assert len(exported.spans) == 4
    for span in exported.spans:
        assert token not in span.to_json()
        assert old not in span.to_json()


# A whole node.


class World:
    """A node that traces, and its clients."""

    def __init__(self, exported: Exported, **sections: Mapping[str, object]) -> None:
        self.node = Node(
            Settings.from_mapping(
                {
                    "server": {"port": 0, "shutdown_timeout": 1.0},
                    "telemetry": {"traces": True},
                    **sections,
                }
            ),
            NativeApplication,
        )
        self.exported = exported

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.node.stop()

    async def client(self) -> Client:
        client = await Client.open(self.node.addresses[0][1], JSON_V1)
        await client.text()  # the greeting, or the position
        return client

    def attributes(self, name: str) -> list[dict[str, Any]]:
        return [dict(span.attributes or {}) for span in self.exported.spans if span.name == name]


@pytest.fixture
def world(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    monkeypatch.setattr(Traces, "start", lambda share: exported.traces)
    return partial(World, exported)


async def ask(client: Client, message: dict[str, object]) -> None:
    await client.say(json.dumps({**message, "id": 1}))
    while json.loads(await client.text()).get("id") != 1:
        pass


def test_publication_has_a_span(world: Callable[..., World]) -> None:
    async def main() -> None:
        async with world() as node:
            ann, bob = await node.client(), await node.client()
            room = "tea\u202e" + "x" * 100
            for client in (ann, bob):
                await ask(client, {"type": "join", "room": room})
            await ask(ann, {"type": "room_message", "room": room, "data": "hi", "echo": False})
            await ask(ann, {"type": "room_message", "room": room, "data": "hi"})
            quiet, loud = node.attributes("publish")
            assert isinstance(quiet.pop("messaging.client.id"), str)
            assert quiet == {
                "messaging.system": "tidegate",
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.destination.name": "tea?" + "x" * 100,
                "messaging.message.body.size": 4,
                "tidegate.members": 2,
                "tidegate.deliveries": 1,
            }
            assert (loud["tidegate.members"], loud["tidegate.deliveries"]) == (2, 2)
            assert "hi" not in str(node.exported.spans[-1].to_json())
            span = node.exported.spans[-1]
            assert (span.kind, span.status.status_code) == (SpanKind.PRODUCER, StatusCode.UNSET)

    run_guarded(main())


def test_publication_within_a_span_of_the_application_is_part_of_it(
    world: Callable[..., World],
) -> None:
    async def main() -> None:
        async with world() as node:
            context = trace.SpanContext(int(TRACE, 16), int(PARENT, 16), False, trace.TraceFlags(1))
            with trace.use_span(trace.NonRecordingSpan(context)):
                node.node.delivery.publish(Publication("room", b"1"), lambda fault: None)
            span = node.exported.spans[-1]
            assert span.parent == context

    run_guarded(main())


def test_client_that_waits_has_one_span_that_ends_with_its_wait(
    world: Callable[..., World],
) -> None:
    async def main() -> None:
        room = {"enabled": True}
        async with world(limits={"connections": 1}, waiting_room=room) as node:
            first = await node.client()
            second, third, fourth = [await node.client() for _ in range(3)]
            assert len(node.attributes("attempt")) == 1
            third.leave()
            await until(lambda: len(node.attributes("attempt")) == 2)
            first.leave()
            await until(lambda: len(node.attributes("attempt")) == 3)
            assert json.loads(await second.text())["type"]
            await node.node.stop()
            assert fourth
        decisions = [each["tidegate.decision"] for each in node.attributes("attempt")]
        assert decisions[:3] == ["admit", "abandoned", "admit"]
        assert node.attributes("attempt")[2]["tidegate.waited"] > 0

    run_guarded(main())


def test_node_without_traces_has_no_traced_part() -> None:
    node = Node(Settings.from_mapping({"server": {"port": 0}}), NativeApplication)
    parts = (node.delivery, node.waiting, node._door)
    assert not any(type(part).__name__.startswith("Traced") for part in parts)


# The provider.


def test_traces_without_opentelemetry_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tidegate.node.telemetry.traces", None)
    settings = Settings.from_mapping({"telemetry": {"traces": True}})
    with pytest.raises(ConfigError, match=r"telemetry\.traces.*pip install 'tidegate\[otel\]'"):
        traces_of(settings)
    assert traces_of(Settings()) is None


def test_provider_of_the_application_gets_the_spans(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    traces = Traces.start(0.0)
    run(traces.close())
    traces.message("publish").end()
    assert [span.name for span in memory.get_finished_spans()] == ["publish"]


def test_close_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tidegate.node.telemetry.traces._FLUSH_SECONDS", 0.05)
    over = threading.Event()

    def stuck() -> None:
        over.wait(10)

    traces = Traces(TracerProvider(shutdown_on_exit=False), stuck)
    try:
        run(traces.close())
        assert "the last traces were not sent" in caplog.text
    finally:
        over.set()


def test_bounded_is_printable_and_short() -> None:
    assert bounded("a\x1b\ud800b" + "x" * 500) == "a??b" + "x" * 196
