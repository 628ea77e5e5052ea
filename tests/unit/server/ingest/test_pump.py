"""Records to rooms: their rule, their order, what is tried again and what is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.aio import in_loop
from tidegate.backplane.kafka.servers import client_options
from tidegate.core.codes import BACKPLANE_DOWN, TOO_BIG, Fault
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import IngestSource
from tidegate.core.settings.templates import RoomTemplate
from tidegate.core.stats import Ingested
from tidegate.server.ingest.base import Record
from tidegate.server.ingest.kafka import Partition
from tidegate.server.ingest.pump import Pump
from tidegate.server.ingest.rule import BadRecordError, Rule

URL = "redis://host"


def settings(**more: Any) -> IngestSource:
    return IngestSource(**{"url": URL, "topics": ("orders",), **more})


def record(value: bytes = b"1", key: str | None = "k", number: int = 0, **headers: str) -> Record:
    return Record("orders", key, headers, value, f"orders {number}", number)


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ("{key}", "k"),
        ("orders:{key}", "orders:k"),
        ("{topic}/{key}/{header.tenant}", "orders/k/acme"),
        ("user:{field.user.id}", "user:7"),
        ("{field.name}", "ann"),
        ("all", "all"),
    ],
)
def test_room_is_what_the_template_says(room: str, expected: str) -> None:
    rule = Rule(settings(room=room))
    made = rule.publication(record(b'{"user":{"id":7},"name":"ann"}', tenant="acme"))
    assert (made.room, bytes(made.data)) == (expected, b'{"user":{"id":7},"name":"ann"}')


@pytest.mark.parametrize(
    ("room", "given", "said"),
    [
        ("{key}", record(key=None), "it has no key"),
        ("{header.x}", record(y="1"), "it has no header.x"),
        ("{field.a}", record(b'{"a":null}'), "it has no field.a"),
        ("{field.a.b}", record(b'{"a":3}'), "it has no field.a.b"),
        ("{field.a}", record(b"[1]"), "it has no field.a"),
        ("{key}", record(b"{"), "it is no valid JSON"),
        ("{key}", record(b""), "it is no valid JSON"),
        ("{key}", record(b"[" * 100_000), "it is no valid JSON"),
        ("{key}", record(key="a\nb"), "its room would have no valid name"),
        ("{key}", record(key=""), "its room would have no valid name"),
        ("{key}", record(key="x" * 1000), "its room would have no valid name"),
    ],
)
def test_record_that_is_not_as_the_settings_say_is_bad(room: str, given: Record, said: str) -> None:
    with pytest.raises(BadRecordError, match=said):
        Rule(settings(room=room)).publication(given)


def test_text_is_published_as_a_string() -> None:
    rule = Rule(settings(format="text"))
    assert bytes(rule.publication(record('a "b" é'.encode())).data) == '"a \\"b\\" é"'.encode()
    with pytest.raises(BadRecordError, match="no valid text"):
        rule.publication(record(b"\xff"))


@pytest.mark.parametrize("text", ["", "{", "a}", "{}", "{keys}", "{header.}", "{{key}}", "{field}"])
def test_template_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="in its braces"):
        RoomTemplate(text)


class Fake:
    """A source of given records, and what takes them: a broker that answers when it is told to."""

    def __init__(self, records: list[Record], *, at_once: bool = True) -> None:
        self.records = records
        self.at_once = at_once
        self.published: list[Publication] = []
        self.waiting: list[Callable[[Fault | None], None]] = []
        self.faults: list[Fault | None] = []
        self.finished: list[int] = []
        self.committed: list[int] = []
        self.opened = 0
        self.closed = 0
        self.asked: list[int] = []
        self.broken: Exception | None = None

    def publish(self, publication: Publication, done: Callable[[Fault | None], None]) -> None:
        self.published.append(publication)
        if self.at_once:
            done(self.faults.pop(0) if self.faults else None)
        else:
            self.waiting.append(done)

    def answer(self, fault: Fault | None = None) -> None:
        self.waiting.pop(0)(fault)

    async def open(self) -> None:
        self.opened += 1
        if self.broken is not None:
            raise self.broken

    async def read(self, most: int) -> list[Record]:
        self.asked.append(most)
        await asyncio.sleep(0.001)
        read, self.records = self.records[:most], self.records[most:]
        return read

    def done(self, record: Record) -> None:
        self.finished.append(record.token)

    async def commit(self) -> None:
        self.committed = list(self.finished)

    async def lag(self) -> int:
        return 42

    async def close(self) -> None:
        self.closed += 1

    def data(self, room: str) -> list[bytes]:
        return [bytes(one.data) for one in self.published if one.room == room]


def numbered(count: int, rooms: int = 3) -> list[Record]:
    return [record(b"%d" % n, f"r{n % rooms}", n) for n in range(count)]


class Running:
    """A pump at work."""

    def __init__(self, fake: Fake, **more: Any) -> None:
        self.counts = Ingested()
        self.pump = Pump(settings(**more), lambda: fake, fake.publish, self.counts)

    async def __aenter__(self) -> Running:
        self.task = asyncio.ensure_future(self.pump.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pump.stop()
        async with asyncio.timeout(20):
            await self.task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@in_loop
async def test_records_are_published_and_committed_when_taken() -> None:
    fake = Fake(numbered(5000))
    async with Running(fake) as running:
        await until(lambda: len(fake.finished) == 5000)
    assert fake.data("r1") == [b"%d" % n for n in range(1, 5000, 3)]
    assert sorted(fake.committed) == list(range(5000))
    assert (fake.opened, fake.closed) == (1, 1)
    counts = running.counts
    assert (counts.records, counts.skipped, counts.in_flight, counts.lag) == (5000, 0, 0, 42)
    assert counts.bytes == sum(len(b"%d" % n) for n in range(5000))


@in_loop
async def test_one_record_of_a_room_is_on_its_way_and_no_more_than_may_be_are_read() -> None:
    fake = Fake(numbered(100, rooms=2), at_once=False)
    async with Running(fake, max_in_flight=10) as running:
        await until(lambda: running.counts.in_flight == 10)
        await asyncio.sleep(0.02)
        assert len(fake.waiting) == 2
        assert fake.finished == []
        assert len(fake.records) == 90
        while len(fake.finished) < 100:
            await until(lambda: fake.waiting)
            fake.answer()
    assert fake.data("r0") == [b"%d" % n for n in range(0, 100, 2)]
    assert max(fake.asked) <= 10


@in_loop
async def test_record_that_is_not_taken_now_is_tried_again_in_its_order() -> None:
    fake = Fake(numbered(3, rooms=1))
    fake.faults = [None, BACKPLANE_DOWN, BACKPLANE_DOWN]
    async with Running(fake) as running:
        await until(lambda: len(fake.finished) == 3)
    assert fake.data("r0") == [b"0", b"1", b"1", b"1", b"2"]
    assert (running.counts.retries, running.counts.records) == (2, 3)


@in_loop
async def test_record_that_is_never_taken_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake([record(b"{", number=7), *numbered(3, rooms=1)])
    fake.faults = [TOO_BIG]
    async with Running(fake) as running:
        await until(lambda: len(fake.finished) == 4)
    assert fake.data("r0") == [b"0", b"1", b"2"]
    assert (running.counts.skipped, running.counts.records) == (2, 2)
    lines = [line.getMessage() for line in caplog.records if "left out" in line.getMessage()]
    assert lines == [
        "ingest main: left out 1 records; the last was orders 7: it is no valid JSON"
    ], "the next line comes ten seconds later"


@in_loop
async def test_source_that_fails_is_opened_again_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = Fake(numbered(3))
    fake.broken = ConnectionError("nobody there")
    async with Running(fake) as running:
        await until(lambda: fake.opened >= 3)
        fake.broken = None
        await until(lambda: len(fake.finished) == 3)
    assert running.counts.failures >= 2
    said = [line.getMessage() for line in caplog.records]
    assert said.count("ingest main: nobody there; trying again") == 1
    assert fake.closed == fake.opened


@in_loop
async def test_answer_of_before_a_failure_changes_nothing() -> None:
    fake = Fake(numbered(1), at_once=False)
    async with Running(fake) as running:
        await until(lambda: fake.waiting)
        late = fake.waiting.pop()

        async def broken(most: int) -> list[Record]:
            raise ConnectionError(f"cannot read {most}")

        read, fake.read = fake.read, broken  # type: ignore[method-assign]
        await until(lambda: running.counts.failures)
        fake.read = read  # type: ignore[method-assign]
        late(None)
        assert (fake.finished, running.counts.records) == ([], 0)
        fake.records = numbered(1)
        await until(lambda: fake.waiting)
        fake.answer()
        await until(lambda: fake.finished == [0])


@in_loop
async def test_stop_waits_for_what_is_on_its_way() -> None:
    fake = Fake(numbered(2), at_once=False)
    async with Running(fake) as running:
        await until(lambda: len(fake.waiting) == 2)
        running.pump.stop()
        await asyncio.sleep(0.01)
        assert not running.task.done()
        fake.answer()
        fake.answer()
    assert sorted(fake.committed) == [0, 1]


def test_offset_goes_on_to_the_first_record_that_is_not_done() -> None:
    partition = Partition()
    for offset in (5, 6, 9, 10):  # some are gone, as in a compacted topic
        partition.add(offset)
    assert partition.next == 5
    for offset, expected in ((6, 5), (9, 5), (5, 10), (10, 11)):
        partition.done(offset)
        assert partition.next == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("kafka://a,b:1", {"bootstrap_servers": ["a:9092", "b:1"]}),
        (
            "kafka://ann:p%40ss@a:1?sasl=SCRAM-SHA-512",
            {
                "bootstrap_servers": ["a:1"],
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "ann",
                "sasl_plain_password": "p@ss",
            },
        ),
    ],
)
def test_url_of_kafka_says_how_to_connect(url: str, expected: dict[str, Any]) -> None:
    assert client_options(url, "backplane.url") == expected


def test_url_of_kafka_with_tls_has_a_context() -> None:
    options = client_options("kafka+tls://ann:x@a", "backplane.url")
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_context"].check_hostname


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": ""}, "ingest.sources.url.*must be a URL"),
        ({"url": "amqp://secret@h"}, "ingest.sources.url.*must be a URL"),
        ({"url": "kafka://secret@h"}, "must have user:password"),
        ({"url": "kafka://u:secret@h?sasl=NONE"}, "sasl must be one of PLAIN"),
        ({"url": "kafka://h/topic"}, "must end with the hosts"),
        ({"topics": ()}, "ingest.sources.topics.*must name one at least"),
        ({"topics": ("a b",)}, "ingest.sources.topics"),
        ({"topics": ("a.*",)}, "ingest.sources.topics"),
        ({"room": "{keys}"}, "ingest.sources.room.*not {keys}"),
        ({"name": "a b"}, "ingest.sources.name"),
        ({"start": "now"}, "ingest.sources.start"),
    ],
)
def test_settings_that_are_wrong_are_named(given: dict[str, Any], said: str) -> None:
    from tidegate.errors import ConfigError

    with pytest.raises(ConfigError, match=said) as failed:
        settings(**given)
    assert "secret" not in str(failed.value)


def test_subjects_of_nats_may_have_wildcards() -> None:
    assert settings(url="nats://h", topics=("orders.*", "a.>")).topics == ("orders.*", "a.>")
