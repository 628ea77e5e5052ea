"""The states of a client, as a table."""

from __future__ import annotations

import pytest

from tidegate.client import MOVES, Move, State

ALLOWED = {
    ("closed", "start"): "connecting",
    ("connecting", "queued"): "waiting",
    ("connecting", "connected"): "open",
    ("connecting", "lost"): "backoff",
    ("connecting", "stopped"): "closed",
    ("waiting", "connected"): "open",
    ("waiting", "lost"): "backoff",
    ("waiting", "stopped"): "closed",
    ("open", "lost"): "backoff",
    ("open", "stopped"): "closed",
    ("backoff", "due"): "connecting",
    ("backoff", "stopped"): "closed",
}


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("state", State)
def test_moves_are_those_of_the_table(state: State, move: Move) -> None:
    assert MOVES[state].get(move) == ALLOWED.get((state, move))


def test_each_state_can_be_reached_and_left() -> None:
    assert {to for moves in MOVES.values() for to in moves.values()} == set(State)
    assert all(MOVES[state] for state in State)
