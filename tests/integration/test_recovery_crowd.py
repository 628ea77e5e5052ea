"""200 clients are cut at random while 20 publishers write to 10 rooms; none misses a message.

Half of them resume their sessions. Set RECOVERY_SECONDS for a longer run.
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.conftest import Start
from tests.support import aio
from tests.support.recovering import Publisher, Reader, faults, in_order
from tests.support.tokens import SECRET

READERS, PUBLISHERS = 200, 20
ROOMS = [f"room {number}" for number in range(10)]
SECONDS = float(os.environ.get("RECOVERY_SECONDS", "20"))
SETTINGS = {
    "auth": {"secret": SECRET},
    "limits": {"per_ip": 10_000, "per_user": 1000},
    "rooms": {"rules": [{"pattern": "*", "history_size": 10_000, "presence": "members"}]},
    "sessions": {"enabled": True},
}


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        ("abcd", []),
        ("abd", ["c is missing"]),
        ("abc", ["d is missing"]),
        ("abbcd", ["b came 2 times"]),
        ("acbd", ["b came after c"]),
        ("abcdx", ["x was not published"]),
    ],
)
def test_checker_of_planted_faults_finds_each(heard: str, found: list[str]) -> None:
    assert faults(heard, "abcd") == found


@pytest.mark.slow
def test_crowd_cut_at_random_has_every_message_once_and_in_order(serve: Start) -> None:
    server = serve(SETTINGS)
    dice = random.Random(17)
    readers = [
        Reader(
            server.url,
            f"reader {number}",
            dice.sample(ROOMS, 2),
            resumes=number % 2 == 0,
            dice=random.Random(number),
        )
        for number in range(READERS)
    ]
    # Direct messages of a user without a session are lost while it has no connection.
    resuming = [reader.user for reader in readers if reader.resumes]
    publishers = [
        Publisher(f"publisher {number}", dice.sample(ROOMS, 3), resuming[number::PUBLISHERS])
        for number in range(PUBLISHERS)
    ]

    async def run() -> None:
        begun = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                writing = [
                    group.create_task(
                        publisher.run(server.url, SECONDS, begun, random.Random(publisher.name))
                    )
                    for publisher in publishers
                ]
                await asyncio.gather(*(reader.join() for reader in readers))
                begun.set()
                await asyncio.gather(*(reader.suffer(SECONDS) for reader in readers), *writing)
            counts = {room: len(messages) for room, messages in in_order(publishers).items()}
            directs = {user: len(sent) for one in publishers for user, sent in one.directs.items()}
            await asyncio.gather(
                *(reader.finish(counts, directs.get(reader.user, 0)) for reader in readers)
            )
        finally:
            for reader in readers:
                reader.leave()

    aio.run(run(), 160 + SECONDS)

    published = in_order(publishers)
    for publisher in publishers:
        for room, written in publisher.written.items():
            assert [one for one in published[room] if f" {publisher.name} " in one] == written
    directs = {user: sent for one in publishers for user, sent in one.directs.items()}
    found = [
        f"{reader.user}: {fault}"
        for reader in readers
        for room in reader.rooms
        for fault in faults(reader.heard[room], published[room])
    ]
    found += [
        f"{reader.user}: {fault}"
        for reader in readers
        for fault in faults(reader.directs, directs.get(reader.user, ()))
    ]
    assert not found, found[:20]
    # A drop that is shorter than the grace time is no leave.
    assert not {user for one in publishers for user in one.left}.intersection(resuming)
    assert min(map(len, published.values())) > 10
    assert sum(map(len, directs.values())) > 100
    assert sum(reader.cuts for reader in readers) > READERS
    print(
        f"{SECONDS:.0f} s: {sum(map(len, published.values()))} messages to rooms, "
        f"{sum(len(heard) for one in readers for heard in one.heard.values())} delivered, "
        f"{sum(map(len, directs.values()))} direct; cut {sum(one.cuts for one in readers)} times"
    )
