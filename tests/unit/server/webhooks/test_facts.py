"""The queue of facts: batches, tries, bounds, and what happens at the end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import chain
from typing import Any, cast

import pytest

from tests.support.aio import in_loop
from tidegate.core.settings import WebhooksSettings
from tidegate.server.webhooks import facts as module
from tidegate.server.webhooks.facts import Facts
from tidegate.server.webhooks.sending import SendingError


class Receiver:
    """In place of a `Sender`: fails so many times, and keeps what it takes."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.tries: list[list[int]] = []
        self.taken: list[list[int]] = []

    async def post(self, body: bytes) -> bytes:
        batch = [event["data"]["n"] for event in json.loads(body)["events"]]
        self.tries.append(batch)
        if self.failures:
            self.failures -= 1
            raise SendingError("the status is 500")
        self.taken.append(batch)
        return b""


def made(receiver: Receiver, **settings: Any) -> tuple[Facts, Counter[str]]:
    counts: Counter[str] = Counter()
    hooks = WebhooksSettings("http://app/", "s" * 32, (), ("left",), **settings)
    return Facts(hooks, cast(Any, receiver), counts, lambda: 0.0), counts


async def sent(facts: Facts, count: int, done: Any) -> None:
    running = asyncio.create_task(facts.run())
    for number in range(count):
        facts.tell("left", {"n": number})
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.01)
    facts.end()
    await running


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_WAIT", 0.01)
    monkeypatch.setattr(module, "_GATHER_SECONDS", 0.0)


@in_loop
async def test_facts_go_in_batches_and_in_order() -> None:
    receiver = Receiver()
    facts, counts = made(receiver)
    await sent(facts, 250, lambda: counts["sent"] == 250)
    assert [len(batch) for batch in receiver.taken] == [100, 100, 50]
    assert list(chain(*receiver.taken)) == list(range(250))


@in_loop
async def test_facts_that_fail_are_tried_again_before_later_ones() -> None:
    receiver = Receiver(failures=3)
    facts, counts = made(receiver)
    await sent(facts, 150, lambda: counts["sent"] == 150)
    assert receiver.tries[:4] == [list(range(100))] * 4
    assert list(chain(*receiver.taken)) == list(range(150))
    assert counts == {"sent": 150, "retried": 3}


@in_loop
async def test_facts_that_fail_too_often_are_dropped() -> None:
    receiver = Receiver(failures=3)
    facts, counts = made(receiver, retries=2)
    await sent(facts, 150, lambda: counts["sent"] == 50)
    assert receiver.taken == [list(range(100, 150))]
    assert counts == {"sent": 50, "retried": 2, "dropped": 100}


@in_loop
async def test_facts_beyond_the_queue_or_its_bytes_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts, counts = made(Receiver(), queue=5)
    for number in range(8):
        facts.tell("left", {"n": number})
    assert (len(facts), counts["dropped"]) == (5, 3)
    monkeypatch.setattr(module, "_QUEUE_BYTES", 1000)
    facts, counts = made(Receiver())
    facts.tell("left", {"n": 1, "data": "x" * 2000})
    facts.tell("left", {"n": 2})
    assert (len(facts), counts["dropped"]) == (1, 1)


@in_loop
async def test_end_gives_what_is_left_one_try() -> None:
    receiver = Receiver(failures=1000)
    facts, counts = made(receiver)
    for number in range(150):
        facts.tell("left", {"n": number})
    facts.end()
    await facts.run()
    assert receiver.tries == [list(range(100)), list(range(100, 150))]
    assert counts == {"dropped": 150}
