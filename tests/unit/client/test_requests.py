"""Requests: the queue, and those that wait for their answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.virtual_clock import VirtualClock
from tidegate.client import ClientError
from tidegate.client.requests import QueuePolicy, Requests, outcome


class Wire:
    """Takes what is sent, while it is open."""

    def __init__(self, limit: int = 2, policy: QueuePolicy = "refuse") -> None:
        self.open = True
        self.sent: list[str | bytes] = []
        self.clock = VirtualClock()
        self.requests = Requests(self.clock, limit, policy, self.send)
        self.results: dict[str, Any] = {}

    def send(self, data: str | bytes, urgent: bool) -> bool:
        if self.open:
            self.sent.append(data)
        return self.open

    def add(self, name: str, **options: Any) -> Any:
        def done(result: Any) -> None:
            self.results[name] = result.code if isinstance(result, ClientError) else result

        return self.requests.add(lambda id_: f"{name} {id_}", done, **options)


def test_answers_go_to_their_requests() -> None:
    wire = Wire()
    wire.add("a")
    wire.add("b")
    assert wire.sent == ["a 1", "b 2"]
    assert wire.requests.answer({"type": "ack", "id": 2, "offset": 5})
    assert wire.requests.answer({"type": "error", "id": 1, "code": "not_allowed"})
    assert not wire.requests.answer({"type": "ack", "id": 2})
    assert not wire.requests.answer({"type": "ack", "id": [1]})
    assert not wire.requests.answer({"type": "ack"})
    assert wire.results == {"a": "not_allowed", "b": {"type": "ack", "id": 2, "offset": 5}}
    assert not len(wire.clock)


def test_request_without_ack_is_done_when_it_is_sent() -> None:
    wire = Wire()
    wire.add("a", ack=False)
    assert (wire.sent, wire.results) == (["a None"], {"a": None})
    assert not len(wire.clock)


def test_queue_goes_out_in_order_as_far_as_it_can() -> None:
    wire = Wire(limit=3)
    wire.open = False
    for name in "abc":
        wire.add(name, ack=False)
    wire.open = True
    wire.requests.flush()
    assert wire.sent == ["a None", "b None", "c None"]


@pytest.mark.parametrize(
    ("policy", "results"),
    [("refuse", {"c": "queue_full"}), ("drop_oldest", {"a": "dropped"})],
)
def test_queue_that_is_full_follows_its_policy(policy: QueuePolicy, results: Any) -> None:
    wire = Wire(2, policy)
    wire.open = False
    for name in "abc":
        wire.add(name)
    assert wire.results == results


def test_urgent_request_goes_at_once_or_never() -> None:
    wire = Wire()
    wire.open = False
    wire.add("a")
    wire.add("b", urgent=True)
    assert wire.results == {"b": "connection_lost"}
    wire.open = True
    wire.add("c", urgent=True)
    assert wire.sent == ["c 3"]


def test_request_times_out_in_the_queue_and_after_it() -> None:
    wire = Wire()
    wire.add("a", timeout=1)
    wire.open = False
    wire.add("b", timeout=2)
    wire.clock.advance(1)
    assert wire.results == {"a": "timeout"}
    wire.clock.advance(1)
    wire.open = True
    wire.requests.flush()
    assert wire.results == {"a": "timeout", "b": "timeout"}
    assert wire.sent == ["a 1"]


def test_lost_connection_fails_what_was_sent_and_keeps_what_waits() -> None:
    wire = Wire()
    wire.add("a")
    wire.open = False
    wire.add("b")
    wire.requests.lost()
    assert wire.results == {"a": "connection_lost"}
    wire.requests.close(ClientError("closed", ""))
    assert wire.results == {"a": "connection_lost", "b": "closed"}
    assert not len(wire.clock)


def test_forgotten_request_tells_nobody_and_is_not_sent() -> None:
    wire = Wire()
    wire.open = False
    forget = wire.add("a")
    forget()
    forget()
    wire.open = True
    wire.requests.flush()
    assert (wire.sent, wire.results, len(wire.clock)) == ([], {}, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ClientError("too_big", ""), "too_big"), (TypeError("no set"), "bad_message")],
)
def test_request_that_cannot_be_written_fails_at_once(error: Exception, code: str) -> None:
    found: list[Any] = []

    def encode(_: int | None) -> str:
        raise error

    wire = Wire()
    wire.requests.add(encode, found.append)
    assert [each.code for each in found] == [code]
    assert not len(wire.clock)


def test_error_that_comes_with_a_cancellation_is_for_nobody() -> None:
    async def run() -> None:
        wire = Wire()

        def call(done: Any) -> Any:
            return wire.requests.add(lambda id_: "a", done)

        task = asyncio.create_task(outcome(call))
        await asyncio.sleep(0)
        wire.requests.lost()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not len(wire.clock)

    asyncio.run(run())
