"""Tasks that run for as long as a server does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tidegate import Server, UsageError

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 0.2},
    "pacing": {"enabled": False},
}


def endless(log: list[str]) -> Any:
    async def run() -> None:
        log.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            log.append("ended")

    return run


@pytest.mark.parametrize("how", ["stop", "drain", "serve"])
def test_task_runs_until_the_server_ends(how: str) -> None:
    async def main() -> None:
        server = Server(QUICK)
        log: list[str] = []
        run = endless(log)
        assert server.task(run) is run
        if how == "serve":
            serving = asyncio.create_task(server.serve())
            await until(lambda: log and server.addresses)
            await server.stop()
            await serving
        else:
            await server.start()
            await until(lambda: log)
            client = await Client.open(server.addresses[0][1])
            ending = asyncio.create_task(server.drain(0.0) if how == "drain" else server.stop())
            await client.closed()
            await ending
        assert log == ["began", "ended"]

    run_guarded(main())


def test_task_that_raises_is_logged_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = Server(QUICK)
        log: list[str] = []
        server.task(endless(log))

        @server.task
        async def fails() -> None:
            raise RuntimeError("of the task")

        async with server:
            await until(lambda: caplog.records)
            (record,) = caplog.records
            assert "fails failed; the server goes on" in record.getMessage()
            await Client.open(server.addresses[0][1])
            assert log == ["began"]

    run_guarded(main())


def test_task_of_a_server_that_cannot_listen_ends() -> None:
    async def main() -> None:
        log: list[str] = []
        async with Server(QUICK) as first:
            second = Server({"server": {"port": first.addresses[0][1]}})
            second.task(endless(log))
            with pytest.raises(Exception, match="in use"):
                await second.serve()
        assert log in ([], ["began", "ended"])

    run_guarded(main())


def plain() -> None: ...


async def of_one(number: int) -> None: ...


@pytest.mark.parametrize("wrong", [5, plain, of_one])
def test_what_cannot_run_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^task "):
        Server(QUICK).task(wrong)


def test_task_that_comes_too_late_is_refused() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            with pytest.raises(UsageError, match="the server has been started"):
                server.task(endless([]))

    run_guarded(main())
