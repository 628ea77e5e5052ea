from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.unit.top.samples import node, row, sample, server
from tidegate.top.sample import Count, Sample
from tidegate.top.screen import draw
from tidegate.top.session import Session


def drawn(shown: Sample, width: int = 60, session: Session | None = None) -> list[str]:
    return [line.plain.rstrip() for line in draw(shown, width, session, 30 if session else None)]


def test_a_server_on_60_columns() -> None:
    assert drawn(sample()) == [
        "tidegate http://127.0.0.1:8001  warning for 12 s",
        "Connections 9,871 of 10,000 (98.7%)  peak 9,990  opening 3",
        "Connects 120/s  closes 3.2/s",
        "Refusals 30/s: server_limit 30, origin 0.5",
        "Pressure 0.93 by cpu  waiting 12",
        "Messages in 1,200/s (92.8 KiB/s)  out 12,000/s (2.1 MiB/s)",
        "Loop lag p99 2.1 ms  Outbox 1.2 MiB of 4 slow",
        "Descriptors 34%  memory 120 MiB  CPU 45% (12% to 97%)",
        "TLS handshake p50 1.2 ms  p99 8 ms",
        "",
        "PORT  PROGRAM      ESTAB  SYN   WAIT  CLOSE  QUEUE    UNSENT",
        "8000  tidegate     9,871    3    210     12      2   1.2 MiB",
        "443   -                4    0      0      0      0       0 B",
        "The kernel opened 130/s, 1.5 dropped, on all ports",
        "",
        "ADDRESSES (812)                USERS (9,000)",
        "203.0.113.7               100  ann                        10",
        "203.0.113.8                99",
        "",
        "CONNECTIONS",
        "ID           USER       ADDRESS         AGE    IDLE   UNSENT",
        "ceabda6b-1   ann        203.0.113.7    60 s     1 s    2 KiB",
        "ceabda6b-2   -          2001:db8::1    60 s     1 s      0 B",
    ]


def test_a_fleet_has_its_nodes() -> None:
    nodes = [
        node("ceabda6b", worker=1),
        node("1f00aa21", host="b.internal", zone="critical", state="draining"),
        node("77e10c4f", host="c.internal", state="gone"),
    ]
    lines = drawn(sample(server=server(nodes=nodes)), 72)
    first = lines.index("FLEET 2 nodes, 2,400 of 20,000 connections, 25/s new")
    assert lines[first + 1 : first + 5] == [
        "NODE         HOST            NR  STATE      ZONE           CONN     NEW",
        "ceabda6b     a.internal       1  serving    normal        1,200    12/s",
        "1f00aa21     b.internal       -  draining   critical      1,200    12/s",
        "77e10c4f     c.internal       -  gone       normal        1,200    12/s",
    ]
    few = draw(sample(server=server(nodes=nodes * 9)), 72, Session(), 20)
    assert "and 23 more nodes" in [line.plain for line in few]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    wide = sample(
        server=server(
            rows=[row(1, user="名" * 40, address="2001:db8:1111:2222:3333:4444:5555:6666")],
            top_users=[Count("名" * 80, 7)],
        ),
        unseen=("programs of other users: only root can, " * 3,),
    )
    lines = drawn(wide, width)
    assert max(map(cell_len, lines)) <= width
    assert any("Not seen" in line for line in lines)


def test_without_our_server_each_port_has_its_clients() -> None:
    lines = drawn(sample(server=None, unseen=("the server: nothing answers",)))
    assert "FROM (port 8000)               NOT READ BY" in lines
    assert "203.0.113.7               100  203.0.113.7:40000       2 KiB" in lines
    assert "FROM (port 443)" in lines
    assert "Not seen: the server: nothing answers" in lines


def test_names_of_peers_do_not_steer_the_terminal() -> None:
    evil = "\x1b[2J\x07\u202eann"
    shown = sample(
        server=server(
            rows=[row(1, user=evil, address="a\nb")],
            top_users=[Count(evil, 1)],
        )
    )
    text = "\n".join(drawn(shown, 100))
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)
    assert "?[2J??ann" in text
    assert "a?b" in text


def test_refusals_of_the_past_are_told_where_none_come_now() -> None:
    lines = drawn(sample(server=server(refusals={})))
    assert "Refusals none now; so far server_limit 60, origin 1" in lines
    assert "Refusals none" in drawn(sample(server=server(refusals={}, refused={})))


def test_what_is_not_known_is_a_dash() -> None:
    lines = drawn(
        sample(
            server=server(
                connects=None, closes=None, cpu=None, lag=None, descriptors=None, memory=None
            )
        )
    )
    assert "Connects -  closes -" in lines
    assert "Descriptors -  memory -  CPU -" in lines


def test_a_part_of_the_connections_is_called_so() -> None:
    lines = drawn(sample(server=server(listed=100, listed_all=False)), 120)
    assert any(line.startswith("ADDRESSES (812) of the first 100") for line in lines)


def test_the_live_view_fits_the_height_and_keeps_the_chosen_row_in_sight() -> None:
    rows = [row(number) for number in range(1, 101)]
    session = Session(selected=80)
    session.show(rows)
    session.selected = 80
    lines = draw(sample(server=server(rows=rows)), 60, session, 30)
    assert len(lines) <= 30
    (chosen,) = (line.plain for line in lines if line.style == "reverse")
    assert chosen.startswith("ceabda6b-51 ")
    assert lines[-1].plain == "s sort  / filter  up/down choose  x close  q quit"


@pytest.mark.parametrize(
    ("height", "ports", "counts", "listed"), [(24, 2, 1, 4), (40, 2, 2, 10), (18, 1, 0, 2)]
)
def test_a_small_screen_keeps_rows_for_connections(
    height: int, ports: int, counts: int, listed: int
) -> None:
    rows = [row(number) for number in range(1, 101)]
    session = Session()
    session.show(rows)
    lines = [line.plain for line in draw(sample(server=server(rows=rows)), 60, session, height)]
    assert len(lines) == height
    first = lines.index("CONNECTIONS by buffered")
    assert sum(line.startswith("ceabda6b-") for line in lines[first:]) >= listed
    assert sum(line.startswith(("8000 ", "443 ")) for line in lines) == ports
    assert sum(line.startswith("203.0.113.") for line in lines) == counts


def test_a_question_is_at_the_bottom() -> None:
    session = Session()
    session.show([row(1)])
    session.key("x")
    assert drawn(sample(), 60, session)[-4:] == [
        "Close which? Any other key closes nothing.",
        "c: connection ceabda6b-1",
        "u: all of user ann",
        "a: all of 203.0.113.7",
    ]


def test_the_filter_that_is_typed_is_at_the_bottom() -> None:
    session = Session()
    for key in "/ann":
        session.key(key)
    assert drawn(sample(), 60, session)[-1] == "Filter (text, user=, ip= or room=; Enter): ann_"
