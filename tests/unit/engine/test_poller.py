"""Both pollers, with real sockets: what is ready, and who is called."""

from __future__ import annotations

import select
import socket
from typing import Any

import pytest

from tests.unit.engine.polling import POLLERS, Entry, Pair, watch
from tidegate.engine.poller import READ, WRITE, Poller, make_poller

# Readiness.


def test_readable(poller: Poller, pairs: Pair) -> None:
    mine, peer = pairs()
    entry = watch(poller, mine)
    poller.turn()
    assert entry.calls == []
    peer.send(b"x")
    poller.turn()
    poller.turn()
    assert entry.calls == ["read"]


def test_what_is_not_read_is_reported_again(poller: Poller, pairs: Pair) -> None:
    mine, peer = pairs()
    entry = watch(poller, mine)
    entry.reads = False
    peer.send(b"x")
    poller.turn()
    poller.turn()
    assert entry.calls == ["read", "read"]


@pytest.mark.parametrize(
    ("events", "sent", "calls"),
    [
        (WRITE, b"", [WRITE]),
        (WRITE, b"x", [WRITE]),
        (READ | WRITE, b"", [WRITE]),
        (READ | WRITE, b"x", [READ | WRITE]),
        (READ, b"x", ["read"]),
        (0, b"x", []),
    ],
)
def test_modify(poller: Poller, pairs: Pair, events: int, sent: bytes, calls: list[Any]) -> None:
    mine, peer = pairs()
    entry = watch(poller, mine)
    poller.modify(mine.fileno(), events)
    peer.send(sent)
    poller.turn()
    assert entry.calls == calls


@pytest.mark.parametrize("order", [[0, READ], [0, 0, READ], [0, WRITE, 0, READ], [WRITE, READ]])
def test_pause_and_go_on(poller: Poller, pairs: Pair, order: list[int]) -> None:
    mine, peer = pairs()
    entry = watch(poller, mine)
    peer.send(b"x")
    *before, last = order
    for events in before:
        poller.modify(mine.fileno(), events)
    if before[-1] == 0:
        poller.turn()
        assert entry.calls == []
    poller.modify(mine.fileno(), last)
    poller.turn()
    assert entry.calls == ["read"]


@pytest.mark.parametrize("events", [READ, 0, WRITE])
def test_forget(poller: Poller, pairs: Pair, events: int) -> None:
    """Also a paused one; and the descriptor's number serves again."""
    mine, peer = pairs()
    entry = watch(poller, mine)
    poller.modify(mine.fileno(), events)
    peer.send(b"x")
    number = mine.fileno()
    poller.forget(number)
    mine.close()
    poller.turn()
    assert entry.calls == []

    again, peer = pairs()
    while again.fileno() != number:
        again, peer = pairs()
    second = watch(poller, again)
    peer.send(b"x")
    poller.turn()
    assert (entry.calls, second.calls) == ([], ["read"])


def test_forgetting_what_was_never_watched(poller: Poller, pairs: Pair) -> None:
    poller.forget(pairs()[0].fileno())


@pytest.mark.parametrize("events", [READ, 0, WRITE])
def test_release(poller: Poller, pairs: Pair, events: int) -> None:
    """What came meanwhile is reported when it is registered again."""
    mine, peer = pairs()
    first = watch(poller, mine)
    poller.modify(mine.fileno(), events)
    poller.release(mine.fileno())
    peer.send(b"x")
    poller.turn()
    second = watch(poller, mine)
    poller.turn()
    assert (first.calls, second.calls) == ([], ["read"])


def test_releasing_what_is_not_watched(poller: Poller, pairs: Pair) -> None:
    poller.release(pairs()[0].fileno())


def test_a_peer_that_left(poller: Poller, pairs: Pair) -> None:
    """However the system says it, the entry is called."""
    mine, peer = pairs()
    entry = watch(poller, mine)
    peer.close()
    poller.turn()
    assert len(entry.calls) == 1


def test_descriptors_of_any_size(poller: Poller, pairs: Pair) -> None:
    mine, peer = pairs()
    high = socket.socket(fileno=_duplicate(mine, 1500))
    high.setblocking(False)
    with high:
        entry = watch(poller, high)
        peer.send(b"x")
        poller.turn()
        assert entry.calls == ["read"]
        poller.forget(high.fileno())


def _duplicate(sock: socket.socket, least: int) -> int:
    fcntl = pytest.importorskip("fcntl")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= least:
        if hard <= least:
            pytest.skip(f"needs a hard limit of more than {least} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (least + 1, hard))
    return int(fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, least))


# Within one batch.


def test_one_entry_closes_another_that_is_ready_too(poller: Poller, pairs: Pair) -> None:
    entries = []
    for _ in range(2):
        mine, peer = pairs()
        entries.append(watch(poller, mine))
        peer.send(b"x")
    for entry, other in (entries, reversed(entries)):

        def close(other: Entry = other) -> None:
            poller.forget(other.own.fileno())
            other.own.close()

        entry.do = close
    poller.turn()
    assert sorted(entry.calls for entry in entries) == [[], ["read"]]


def test_a_closed_descriptor_that_serves_another_at_once(poller: Poller, pairs: Pair) -> None:
    """The new owner may be called for nothing, the old one never."""
    entries = []
    for _ in range(2):
        mine, peer = pairs()
        entries.append(watch(poller, mine))
        peer.send(b"x")
    new: list[Entry] = []
    for entry, other in (entries, reversed(entries)):

        def replace(other: Entry = other) -> None:
            if not new:
                number = other.own.fileno()
                poller.forget(number)
                other.own.close()
                mine, peer = pairs()
                assert mine.fileno() == number
                peer.send(b"y")
                new.append(watch(poller, mine))

        entry.do = replace
    poller.turn()
    poller.turn()
    assert sorted(entry.calls for entry in entries) == [[], ["read"]]
    assert new[0].calls == ["read"]


def test_a_copy_in_another_process_is_reported_no_more(pairs: Pair) -> None:
    if "epoll" not in POLLERS:
        pytest.skip("only epoll goes on reporting those")
    poller = POLLERS["epoll"]()
    mine, peer = pairs()
    entry = watch(poller, mine)
    with socket.socket(fileno=_duplicate(mine, 100)):
        number = mine.fileno()
        poller.forget(number)
        mine.close()
        peer.send(b"x")
        poller.turn()
        assert entry.calls == []
    poller.close()


@pytest.mark.parametrize("there", sorted(POLLERS))
def test_the_best_one_is_chosen(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if there != "epoll":
        monkeypatch.delattr(select, "epoll", raising=False)
    poller = make_poller()
    assert type(poller) is POLLERS[there]
    poller.close()
