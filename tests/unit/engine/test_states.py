"""The table of states: sound by itself, and what connections do, no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.raw import CLOSE, frame
from tests.unit.engine.live import Live, run, until
from tidegate.engine import sending
from tidegate.engine.connection import Connection
from tidegate.engine.states import CLOSED, MOVES, OPEN, State

Move = tuple[State, State]

TABLE = {(old, new) for old, moves in MOVES.items() for new in moves}


def test_states_have_one_beginning_and_one_end() -> None:
    assert set(MOVES) == set(State)
    assert [state for state in State if not MOVES[state]] == [CLOSED]
    entered = {new for _, new in TABLE}
    assert set(State) - entered == {OPEN}


def test_states_never_lead_back() -> None:
    order = list(State)
    assert all(order.index(old) < order.index(new) for old, new in TABLE)


def test_the_state_changes_in_one_place() -> None:
    package = Path(sending.__file__).parent
    writes = [
        (path.name, line.strip())
        for path in package.glob("*.py")
        for line in path.read_text().splitlines()
        if "_state =" in line or "_state: State =" in line
    ]
    assert writes == [
        ("sending.py", "self._state: State = OPEN"),
        ("sending.py", "self._state = to"),
    ]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> set[Move]:
    """The moves that connections make."""
    made: set[Move] = set()
    move = sending.Sender._move

    def note(connection: Connection, to: State) -> None:
        made.add((connection._state, to))
        move(connection, to)

    monkeypatch.setattr(sending.Sender, "_move", note)
    return made


def test_every_move_of_the_table_is_made_and_no_other(moves: set[Move]) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            client.reset()
            await live.ended(connection)
            assert moves == {(OPEN, CLOSED)}

            client, connection = await live.open()
            connection.close(4000, "enough")
            await client.closed()
            await live.ended(connection)

            client, connection = await live.open()
            await client.send(frame(3, b"no such opcode"))
            await client.closed()
            client.leave()
            await live.ended(connection)
            await until(lambda: moves == TABLE)

    run(main())


def test_a_move_that_is_not_in_the_table_is_a_mistake() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            await client.send(frame(CLOSE, b"\x03\xe8"))
            await live.ended(connection)
            with pytest.raises(AssertionError, match="no move"):
                connection._move(OPEN)

    run(main())
