"""Records from real servers to rooms: groups, failures, and a server that serves them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support import aio
from tests.support.aio import in_loop
from tests.support.kafka import Kafka
from tests.support.native import NativeClient
from tests.support.nats import Nats
from tests.support.tokens import SECRET
from tests.support.valkey import Valkey, valkey
from tidegate.core.codes import Fault
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import IngestSource
from tidegate.core.stats import Ingested
from tidegate.server.ingest.pump import Pump
from tidegate.server.ingest.sources import source_of


class Log:
    """What tests write to and read from, whatever it is."""

    topic = "orders"

    async def write(self, records: list[tuple[str, bytes]]) -> None:
        raise NotImplementedError


class InValkey(Log):
    def __init__(self, folder: Path) -> None:
        self.server = Valkey(folder, "--appendonly", "yes", "--appendfsync", "always")

    async def write(self, records: list[tuple[str, bytes]]) -> None:
        for key, value in records:
            entry = ("key", key, "data", value.decode())
            answer = self.server.command("XADD", self.topic, "*", *entry)
            assert answer.startswith(b"$"), answer


class InNats(Log):
    def __init__(self, folder: Path) -> None:
        self.server = Nats(folder)
        config = {"name": "ORDERS", "subjects": ["orders.*"], "storage": "file"}
        assert "error" not in self.server.ask("$JS.API.STREAM.CREATE.ORDERS", config)

    topic = "orders.*"

    async def write(self, records: list[tuple[str, bytes]]) -> None:
        for key, value in records:
            assert "error" not in self.server.ask(f"orders.{key}", json.loads(value))


class InKafka(Log):
    def __init__(self, folder: Path) -> None:
        self.server = Kafka(folder)

    async def write(self, records: list[tuple[str, bytes]]) -> None:
        from aiokafka import AIOKafkaProducer

        servers = self.server.url.partition("//")[2]
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
            for key, value in records:
                await producer.send_and_wait(self.topic, value, key.encode())


KINDS: list[Any] = [InValkey, InNats, InKafka]


@pytest.fixture(params=KINDS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = request.param(tmp_path / "log")
    try:
        yield made
    finally:
        made.server.stop()


class Rooms:
    """A delivery that takes everything, or nothing while it is down."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int]] = []

    def publish(self, publication: Publication, done: Callable[[Fault | None], None]) -> None:
        self.got.append((publication.room, int(bytes(publication.data))))
        done(None)

    def of(self, room: str) -> list[int]:
        return [number for name, number in self.got if name == room]


class Consumer:
    """A pump, the rooms that it fills, and what it counts."""

    def __init__(self, log: Any, node: str, **more: Any) -> None:
        settings = IngestSource(
            **{
                "url": log.server.url,
                "topics": (log.topic,),
                "room": "orders:{key}",
                "start": "earliest",
                **more,
            }
        )
        self.rooms = Rooms()
        self.counts = Ingested()
        make = partial(source_of, settings, node)
        self.pump = Pump(settings, make, self.rooms.publish, self.counts)


@asynccontextmanager
async def consuming(log: Any, node: str = "n1", **more: Any) -> AsyncIterator[Consumer]:
    consumer = Consumer(log, node, **more)
    task = asyncio.ensure_future(consumer.pump.run())
    try:
        yield consumer
    finally:
        consumer.pump.stop()
        async with asyncio.timeout(30):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def numbered(first: int, end: int, keys: int = 3) -> list[tuple[str, bytes]]:
    return [(f"k{n % keys}", b"%d" % n) for n in range(first, end)]


@in_loop
async def test_records_go_to_their_rooms_in_order_and_on_from_where_it_was(log: Any) -> None:
    await log.write(numbered(0, 30))
    async with consuming(log) as first:
        await until(lambda: len(first.rooms.got) == 30)
        for key in range(3):
            assert first.rooms.of(f"orders:k{key}") == list(range(key, 30, 3))
        assert (first.counts.records, first.counts.in_flight) == (30, 0)
    await log.write(numbered(30, 40))
    async with consuming(log) as second:
        await until(lambda: len(second.rooms.got) == 10)
        await asyncio.sleep(0.2)
        assert sorted(number for _, number in second.rooms.got) == list(range(30, 40))
        assert second.rooms.of("orders:k0") == [30, 33, 36, 39]


@in_loop
async def test_server_that_is_killed_is_read_again_and_loses_nothing(log: Any) -> None:
    async with consuming(log) as consumer:
        await log.write(numbered(0, 20))
        await until(lambda: len(consumer.rooms.got) >= 20)
        log.server.kill()
        await asyncio.sleep(0.3)
        log.server.start()
        async with asyncio.timeout(60):
            while True:
                try:
                    await log.write(numbered(20, 40))
                except Exception:  # it is not ready yet
                    await asyncio.sleep(0.2)
                else:
                    break
        await until(lambda: {number for _, number in consumer.rooms.got} == set(range(40)))


@in_loop
async def test_consumers_of_a_group_share_the_records(log: Any) -> None:
    await log.write([])
    async with (
        consuming(log, "n1", max_in_flight=5) as one,
        consuming(log, "n2", max_in_flight=5) as two,
    ):
        await log.write(numbered(0, 120, keys=40))
        await until(lambda: len(one.rooms.got) + len(two.rooms.got) >= 120)
        got = [number for _, number in (*one.rooms.got, *two.rooms.got)]
        assert sorted(got) == list(range(120))


def test_server_publishes_records_to_its_members(serve: Start, tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey") as stream:
        source = {
            "name": "prices",
            "url": stream.url,
            "topics": ["prices"],
            "room": "price:{key}",
            "start": "earliest",
        }
        server = serve(
            {
                "auth": {"secret": SECRET},
                "ingest": {"sources": [source]},
            }
        )

        async def run() -> None:
            ann = await NativeClient.at(server.url, "ann")
            assert (await ann.ask("join", room="price:tea"))["type"] == "ack"
            stream.command("XADD", "prices", "*", "key", "tea", "data", '{"euro":3}')
            stream.command("XADD", "prices", "*", "key", "tea", "data", "{nonsense")
            stream.command("XADD", "prices", "*", "key", "tea", "data", '{"euro":4}')
            await ann.until(lambda one: one.get("data") == {"euro": 4})
            assert [one["data"] for one in ann.of("room_message")] == [{"euro": 3}, {"euro": 4}]
            await ann.close()

        aio.run(run())
        metrics = server.metrics()
        assert metrics['websocket_ingest_records_total{source="prices"}'] == 2
        assert metrics['websocket_ingest_skipped_total{source="prices"}'] == 1
        assert metrics['websocket_ingest_in_flight{source="prices"}'] == 0
        assert metrics['websocket_published_total{source="ingest"}'] == 2
        assert "left out 1 records" in server.log
