"""The Python client plays the scenarios that all clients play, all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.scenarios import NAMES, play, scripted_server


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with scripted_server() as port:
        yield port


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_scenarios_are_played_to_their_end(port: int, codec: str) -> None:
    async def play_all() -> dict[str, list[str]]:
        found = await asyncio.gather(*(play(name, port, codec) for name in NAMES))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "tasks are left"
        return dict(zip(NAMES, found, strict=True))

    problems = [
        f"{name}: {each}" for name, found in asyncio.run(play_all()).items() for each in found
    ]
    assert not problems, "\n".join(problems)
