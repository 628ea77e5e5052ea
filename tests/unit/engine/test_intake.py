"""Messages of many connections in one lot: what is answered when, in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.raw import BINARY, CLOSE, PING, PONG, TEXT, frame
from tests.unit.engine.live import Client, Live, masked, run, until
from tidegate.core.codes import POLICY
from tidegate.engine import intake
from tidegate.engine.connection import Connection
from tidegate.engine.poller import BATCH


class Wire:
    """Stands between a connection and its socket, and notes what goes out at once."""

    def __init__(self, connection: Connection, notes: list[Any]) -> None:
        self._sock: Any = connection.sock
        self._notes = notes
        self._name = connection.number
        connection.sock = connection.sink = self

    def send(self, data: bytes, /) -> int:
        self._notes.append((self._name, data))
        return int(self._sock.send(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def small(text: str) -> bytes:
    return frame(TEXT, text.encode(), masked=False)


async def both(live: Live) -> tuple[tuple[Client, Connection], tuple[Client, Connection]]:
    return await live.open(), await live.open()


def say_together(*said: tuple[Client, list[str]]) -> None:
    """Send without letting the loop go on, so that one turn reads it all."""
    for client, messages in said:
        data = b"".join(map(masked, messages))
        assert client.sock.send(data) == len(data)


@pytest.mark.parametrize(("messages", "answers"), [(1, 1), (1, 3), (10, 1), (BATCH, 1), (7, 4)])
def test_answers_that_are_there_together_go_out_together(messages: int, answers: int) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            notes: list[Any] = []
            Wire(connection, notes)

            def answer(connection: Connection) -> None:
                for number in range(answers):
                    connection.send(f"answer {number}")

            live.recorder.doing["x"] = answer
            say_together((client, ["x"] * messages))
            expected = [f"answer {number}" for number in range(answers)] * messages
            for text in expected:
                assert (await client.frame()).payload.decode() == text
            assert notes == [(1, b"".join(map(small, expected)))]

    run(main())


@pytest.mark.parametrize(
    ("tick", "order"),
    [
        (0.0, "handled 1, handled 2, handled 3, sent 1, sent 2, sent 3"),
        (intake._ANSWER_SECONDS / 10, "handled 1, handled 2, handled 3, sent 1, sent 2, sent 3"),
        (intake._ANSWER_SECONDS / 2, "handled 1, handled 2, sent 1, sent 2, handled 3, sent 3"),
        (intake._ANSWER_SECONDS, "handled 1, sent 1, handled 2, sent 2, handled 3, sent 3"),
        (1.0, "handled 1, sent 1, handled 2, sent 2, handled 3, sent 3"),
    ],
)
def test_an_answer_waits_for_others_only_while_they_are_quick(
    tick: float, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += tick
        return now

    async def main() -> None:
        async with Live() as live:
            opened = [await live.open() for _ in range(3)]
            notes: list[Any] = []
            for _, connection in opened:
                Wire(connection, notes)

            def answer(connection: Connection) -> None:
                notes.append(f"handled {connection.number}")
                connection.send("answer")

            live.recorder.doing["x"] = answer
            monkeypatch.setattr(intake, "monotonic", clock)
            say_together(*((client, ["x"]) for client, _ in opened))
            for client, _ in opened:
                assert (await client.frame()).payload == b"answer"
            monkeypatch.undo()
            names = [note if isinstance(note, str) else f"sent {note[0]}" for note in notes]
            assert ", ".join(names) == order

    run(main())


def test_the_order_is_that_of_sending() -> None:
    """Whatever a handler sends, to whomever, small or large, with the close behind it."""

    async def main() -> None:
        async with Live({"outbox": {"max_bytes": 8 << 20}}) as live:
            (first, one), (second, two) = await both(live)
            expected: dict[int, list[tuple[int, bytes]]] = {1: [], 2: []}

            def send(to: Connection, message: str | bytes) -> None:
                to.send(message)
                data = message.encode() if isinstance(message, str) else message
                opcode = TEXT if isinstance(message, str) else BINARY
                expected[to.number].append((opcode, data))

            def answer(connection: Connection) -> None:
                for number in range(3 * BATCH):
                    send(one, f"small {number}")
                    send(two, b"small too %d" % number)
                    if number % 5 == 0:
                        send(one, f"large {number}".ljust(1000))
                    if number % 7 == 0:
                        send(two, b"%d".ljust(70_000) % number)

            def last(connection: Connection) -> None:
                answer(connection)
                one.close(4000, "one")
                two.close(4001, "two")
                one.send("never")

            live.recorder.doing = {"x": answer, "last": last}
            say_together((first, ["x", "x"]), (second, ["x", "last"]))
            for client, connection in ((first, one), (second, two)):
                number = 0
                while (got := await client.frame()).opcode != CLOSE:
                    assert (got.opcode, got.payload) == expected[connection.number][number]
                    number += 1
                assert number == len(expected[connection.number]) >= 6 * BATCH
                assert got.code == 3999 + connection.number

    run(main())


def test_small_ones_do_not_overtake_what_the_peer_did_not_take() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open(slow=True)
            sent: list[bytes] = []

            def fill(connection: Connection) -> None:
                while not connection.buffered:
                    sent.append(b"small %d" % len(sent))
                    connection.send(sent[-1])
                    sent.append(b"large %d".ljust(5000) % len(sent))
                    connection.send(sent[-1])
                sent.append(b"the last one")
                connection.send(sent[-1])
                connection.close(4000)

            live.recorder.doing["x"] = fill
            await client.say("x")
            await until(lambda: not connection.open)
            for payload in sent:
                assert (await client.frame()).payload == payload
            assert await client.closed() == (4000, "")

    run(main())


@pytest.mark.parametrize(
    ("end", "close"),
    [
        (lambda connection: connection.abort(), None),
        (lambda connection: connection.close(4000), 4000),
        (lambda connection: connection.fail(POLICY, "enough"), 1008),
    ],
)
def test_who_is_ended_by_another_is_not_heard_any_more(
    end: Callable[[Connection], None], close: int | None
) -> None:
    """Though what it sent was read already; and what it was sent before still goes out."""

    async def main() -> None:
        async with Live() as live:
            (first, _), (second, two) = await both(live)

            def finish(_: Connection) -> None:
                two.send("goodbye")
                end(two)

            live.recorder.doing["end"] = finish
            say_together((first, ["end"]))
            second.sock.send(masked("heard?") + masked("and a part")[:5])
            if close is not None:
                assert (await second.frame()).payload == b"goodbye"
                assert (await second.frame()).code == close
                second.leave()
            await live.ended(two)
            assert live.recorder.texts() == ["end"]

    run(main())


def test_a_peer_that_is_gone_when_it_is_answered() -> None:
    async def main() -> None:
        async with Live() as live:
            (first, one), (second, _) = await both(live)

            def answer(connection: Connection) -> None:
                first.reset()
                connection.send("thank you")
                connection.send("and more")
                assert connection.open  # nobody has tried yet

            live.recorder.doing["x"] = answer
            live.recorder.doing["y"] = lambda connection: connection.send("yes")
            say_together((first, ["x"]), (second, ["y"]))
            assert (await second.frame()).payload == b"yes"
            assert (await live.ended(one))[0] == 1006

    run(main())


def test_nothing_waits_when_no_message_is_handled() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            notes: list[Any] = []
            Wire(connection, notes)
            connection.send("at once")
            assert notes == [(1, small("at once"))]
            gone_on = asyncio.Event()

            async def later(connection: Connection) -> None:
                await asyncio.sleep(0)
                connection.send("later")
                assert notes[-1] == (1, small("later"))
                gone_on.set()

            live.recorder.doing["x"] = later
            await client.say("x")
            await gone_on.wait()

    run(main())


def test_an_answer_to_a_ping_is_not_ahead_of_what_was_sent_before() -> None:
    async def main() -> None:
        async with Live() as live:
            client, _ = await live.open()
            live.recorder.doing["x"] = lambda connection: connection.send("answer")
            await client.send(masked("x") + frame(PING, b"p") + masked("x") + frame(CLOSE, b""))
            got = [await client.frame() for _ in range(4)]
            assert [each.opcode for each in got] == [TEXT, PONG, TEXT, CLOSE]

    run(main())


def test_an_error_of_ours_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Live() as live:
            (first, one), (second, _) = await both(live)
            errors: list[str] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: errors.append(str(context["exception"]))
            )
            take = Connection.take

            def broken(self: Connection, data: bytes) -> None:
                if self is one:
                    raise RuntimeError("ours")
                take(self, data)

            monkeypatch.setattr(Connection, "take", broken)
            live.recorder.doing["x"] = lambda connection: connection.send("answer")
            data = frame(PING)
            first.sock.send(data)
            second.sock.send(data)
            assert (await second.frame()).opcode == PONG
            assert (await live.ended(one))[0] == 1006
            assert errors == ["ours"]

    run(main())


def test_an_error_of_ours_while_answering_keeps_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Live() as live:
            (first, one), (second, _) = await both(live)
            errors: list[str] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: errors.append(str(context["exception"]))
            )

            class Broken:
                def send(self, data: bytes, /) -> int:
                    raise RuntimeError("ours")

            one.sink = Broken()
            live.recorder.doing["x"] = lambda connection: connection.send("answer")
            say_together((first, ["x"]), (second, ["x"]))
            assert (await second.frame()).payload == b"answer"
            assert errors == ["ours"]
            one.abort()

    run(main())
