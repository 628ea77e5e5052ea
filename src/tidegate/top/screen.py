"""Drawing a sample: lines of text for a terminal of any width from 40 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import set_cell_size
from rich.text import Text

from tidegate.text import clean, duration, size
from tidegate.top.sample import Count, Kernel, Node, Port, Row, Sample, Server
from tidegate.top.session import Session

__all__ = ["draw"]

_ZONES: Final = {
    "normal": "green",
    "warning": "yellow",
    "critical": "bold red",
    "emergency": "bold white on red",
}
_LIST: Final = 7  # rows that are kept for connections, with the head of their table
_NEARLY_FULL: Final = 0.9
_KEYS: Final = "s sort  / filter  up/down choose  x close  q quit"


class _Room(NamedTuple):
    """How much is shown of what is not the list of connections."""

    ports: int
    counts: int
    notes: bool

    @classmethod
    def of(cls, rows: int | None) -> _Room:
        """Share out the rows that are left beside the server's and the list; None for plenty."""
        for least, room in ((18, cls(5, 5, True)), (13, cls(3, 3, True)), (7, cls(2, 1, False))):
            if rows is None or rows >= least:
                return room
        return cls(1, 0, False)


def draw(
    sample: Sample, width: int, session: Session | None = None, height: int | None = None
) -> list[Text]:
    """The lines for a sample.

    Args:
        width: columns; no line is wider.
        session: what the keys have done, in a live view.
        height: rows of the screen, which lines are cut to; None for as many as it takes.
    """
    lines: list[Text] = []
    if sample.server is not None:
        lines += _server(sample.server)
        if len(sample.server.nodes) > 1:
            lines += _nodes(sample.server.nodes, width, height and max(1, height // 5))
    room = _Room.of(height and height - len(lines) - _LIST - 1)
    if sample.kernel is not None:
        lines += _kernel(sample.kernel, width, room, alone=sample.server is None)
    for each in sample.unseen:
        wrapped = textwrap.wrap(f"Not seen: {clean(each)}", width, break_on_hyphens=False)
        lines += [Text(line, style="yellow") for line in wrapped]
    if sample.server is not None:
        if room.counts:
            lines += _counts(sample.server, width, room)
        lines += _rows(sample.server, width, session, height and height - len(lines) - 2)
    if session is not None:
        bottom = _bottom(session)
        lines = lines[: height and max(0, height - len(bottom))] + bottom
    for line in lines:
        line.truncate(width)
    return lines


def _server(server: Server) -> Iterator[Text]:
    share = server.connections / server.limit if server.limit else 1.0
    line = Text.assemble(("tidegate ", "bold"), f"{server.url}  ")
    line.append(server.zone, style=_ZONES.get(server.zone, ""))
    line.append(f" for {duration(server.zone_since)}")
    yield line
    yield Text.assemble(
        "Connections ",
        (f"{server.connections:,}", "bold red" if share >= _NEARLY_FULL else "bold"),
        f" of {server.limit:,} ({share:.1%})  peak {server.peak:,}  opening {server.opening:,}",
    )
    yield Text(f"Connects {_rate(server.connects)}  closes {_rate(server.closes)}")
    yield Text(f"Refusals {_refusals(server)}")
    by = f" by {server.driver}" if server.driver else ""
    effect = "" if server.acts else " (sheds nothing)"
    yield Text(f"Pressure {server.pressure:.2f}{by}{effect}  waiting {server.waiting:,}")
    yield Text(
        f"Messages in {_rate(server.messages_in)} {_flow(server.bytes_in)}  "
        f"out {_rate(server.messages_out)} {_flow(server.bytes_out)}"
    )
    outbox = f"Outbox {size(server.outbox)} of {server.slow:,} slow"
    yield Text(f"Loop lag p99 {_time(server.lag)}  {outbox}")
    used = "-" if server.descriptors is None else f"{server.descriptors:.0%}"
    memory = "-" if server.memory is None else size(server.memory)
    yield Text(f"Descriptors {used}  memory {memory}  CPU {_processor(server)}")
    if server.tls_median is not None:
        yield Text(f"TLS handshake p50 {_time(server.tls_median)}  p99 {_time(server.tls_slowest)}")


def _nodes(nodes: Sequence[Node], width: int, most: int | None) -> Iterator[Text]:
    here = [node for node in nodes if node.state != "gone"]
    connections, capacity = (
        sum(node.connections for node in here),
        sum(node.capacity for node in here),
    )
    yield Text()
    yield Text.assemble(
        ("FLEET ", "bold"),
        f"{len(here)} nodes, {connections:,} of {capacity:,} connections, "
        f"{_rate(sum(node.rate for node in here))} new",
    )
    widths = (13, max(8, width - 58), -5, 11, 11, -10, -8)
    yield _line(("NODE", "HOST", "NR", " STATE", " ZONE", "CONN", "NEW"), widths, "bold")
    for node in nodes[:most]:
        style = "red" if node.state == "gone" else ""
        yield _line(_node(node), widths, style)
    if most is not None and len(nodes) > most:
        yield Text(f"and {len(nodes) - most} more nodes", style="dim")


def _node(node: Node) -> tuple[str, ...]:
    return (
        node.id,
        clean(node.host),
        "-" if node.worker is None else str(node.worker),
        f" {node.state}",
        f" {node.zone}",
        f"{node.connections:,}",
        _rate(node.rate),
    )


def _processor(server: Server) -> str:
    if server.cpu is None or server.cpu_low is None or server.cpu_high is None:
        return "-"
    return f"{server.cpu:.0%} ({server.cpu_low:.0%} to {server.cpu_high:.0%})"


def _refusals(server: Server) -> str:
    if server.refusals:
        total = sum(server.refusals.values())
        reasons = sorted(server.refusals.items(), key=lambda each: -each[1])
        shown = ", ".join(f"{name} {_number(rate)}" for name, rate in reasons)
        return f"{_rate(total)}: {shown}"
    so_far = sorted(server.refused.items(), key=lambda each: -each[1])
    shown = ", ".join(f"{name} {count:,}" for name, count in so_far)
    return f"none now; so far {shown}" if shown else "none"


def _kernel(kernel: Kernel, width: int, room: _Room, *, alone: bool) -> Iterator[Text]:
    yield Text()
    head = ("PORT", "PROGRAM", "ESTAB", "SYN", "WAIT", "CLOSE", "QUEUE", "UNSENT")
    widths = (6, max(10, width - 49), -8, -5, -7, -7, -7, -10)
    yield _line(head, widths, "bold")
    for port in kernel.ports[: None if alone else room.ports]:
        yield _line(_port(port), widths)
    if room.notes or alone:
        if not alone and len(kernel.ports) > room.ports:
            yield Text(f"and {len(kernel.ports) - room.ports} more ports", style="dim")
        if kernel.opens is not None:
            drops = f", {_number(kernel.drops or 0)} dropped" if kernel.drops else ""
            opens = f"The kernel opened {_rate(kernel.opens)}{drops}, on all ports"
            yield Text(opens, style="dim")
    for port in kernel.ports[: room.ports] if alone else ():
        if port.top_addresses:
            yield Text()
            yield from _beside(
                _Table(f"FROM (port {port.port})", port.top_addresses),
                _Table("NOT READ BY", port.slowest, as_bytes=True),
                width,
                room,
            )


def _port(port: Port) -> tuple[str, ...]:
    states = port.states
    closing = sum(states.get(name, 0) for name in ("close-wait", "last-ack", "closing", "close"))
    closing += states.get("fin-wait-1", 0) + states.get("fin-wait-2", 0)
    return (
        str(port.port),
        clean(port.owner) or "-",
        f"{states.get('estab', 0):,}",
        f"{states.get('syn-recv', 0):,}",
        f"{states.get('time-wait', 0):,}",
        f"{closing:,}",
        f"{port.queue:,}",
        size(port.unsent),
    )


def _counts(server: Server, width: int, room: _Room) -> Iterator[Text]:
    if not server.listed:
        return
    yield Text()
    of = "" if server.listed_all else f" of the first {server.listed:,}"
    yield from _beside(
        _Table(f"ADDRESSES ({server.addresses:,}){of}", server.top_addresses),
        _Table(f"USERS ({server.users:,}){of}", server.top_users),
        width,
        room,
    )


class _Table(NamedTuple):
    title: str
    counts: Sequence[Count]
    as_bytes: bool = False


def _beside(left: _Table, right: _Table, width: int, room: _Room) -> Iterator[Text]:
    """Two tables of counts, side by side."""
    half = (width - 2) // 2
    columns = [_column(table, half, max(1, room.counts)) for table in (left, right)]
    for number in range(max(map(len, columns))):
        cells = [column[number] if number < len(column) else "" for column in columns]
        text = "  ".join(set_cell_size(cell, half) for cell in cells)
        yield Text(text.rstrip(), style="bold" if number == 0 else "")


def _column(table: _Table, width: int, most: int) -> list[str]:
    if not table.counts:
        return []
    lines = [table.title]
    for each in table.counts[:most]:
        number = size(each.count) if table.as_bytes else f"{each.count:,}"
        name = set_cell_size(clean(each.name), max(1, width - len(number) - 1))
        lines.append(f"{name} {number}")
    return lines


def _rows(server: Server, width: int, session: Session | None, most: int | None) -> Iterator[Text]:
    rows = server.rows if session is None else session.rows
    if not server.listed and session is None:
        return
    yield Text()
    sort = "" if session is None else f" by {session.sort}"
    found = f", {session.filter}" if session is not None and session.filter else ""
    yield Text(f"CONNECTIONS{sort}{clean(found)}", style="bold")
    names = max(8, (width - 38) // 2)
    widths = (13, names, max(8, width - 37 - names), -8, -8, -9)
    yield _line(("ID", "USER", "ADDRESS", "AGE", "IDLE", "UNSENT"), widths, "bold")
    room = 10 if most is None else max(1, most - 2)
    first = 0 if session is None else max(0, session.selected - room + 1)
    for number, row in enumerate(rows[first : first + room], first):
        chosen = session is not None and number == session.selected
        yield _line(_row(row), widths, "reverse" if chosen else "")


def _row(row: Row) -> tuple[str, ...]:
    return (
        row.id,
        "-" if row.user is None else clean(row.user),
        clean(row.address),
        duration(row.age),
        duration(row.idle),
        size(row.buffered),
    )


def _bottom(session: Session) -> list[Text]:
    if session.question:
        choices = [Text(clean(kick.text), style="bold red") for kick in session.question]
        return [Text("Close which? Any other key closes nothing.", style="bold"), *choices]
    if session.typing is not None:
        hint = "text, user=, ip= or room=; Enter"
        lines = [Text(f"Filter ({hint}): {clean(session.typing)}_", style="bold")]
        return [*lines, Text(clean(session.message), style="red")] if session.message else lines
    return [Text(clean(session.message) or _KEYS, style="dim")]


def _line(cells: Sequence[str], widths: Sequence[int], style: str = "") -> Text:
    """A row of a table. A width below zero is for what stands at the right: numbers."""
    parts = []
    for cell, width in zip(cells, widths, strict=True):
        room = abs(width) - 1
        shown = cell.rjust(room) if width < 0 and len(cell) <= room else set_cell_size(cell, room)
        parts.append(shown)
    return Text(" ".join(parts).rstrip(), style=style)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{_number(rate)}/s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _flow(rate: float | None) -> str:
    return "" if rate is None else f"({size(rate)}/s)"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else duration(seconds)
