"""The estimate: for people, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from math import inf
from typing import Final

import msgspec

from tidegate.estimate.bottlenecks import PROXY_PORTS, Estimate, Resource
from tidegate.estimate.needs import Term
from tidegate.estimate.workload import Table
from tidegate.text import clean, duration, number, size

__all__ = ["as_json", "as_lines"]

_INDENT: Final = "  "
_HEADS: Final = ("", "need", "there is", "share", "ends at")


def as_json(found: Estimate, table: Table) -> bytes:
    """The estimate for programs: bytes, cores, bits a second; null where there is no end."""
    report = {
        "load": found.load,
        "costs": msgspec.structs.asdict(table.costs) | {"from": table.name or "this build"},
        "resources": [
            {
                "name": row.name,
                "unit": row.unit,
                "need": row.need,
                "has": _finite(row.has),
                "usable": _finite(row.usable),
                "hasFrom": row.source,
                "share": row.share,
                "endsAt": _finite(row.ends_at),
                "machines": row.machines,
                "lines": row.lines,
            }
            for row in found.resources
        ],
        "first": found.first.name,
        "workers": found.workers,
        "machines": found.machines,
        "proxy": {"addresses": found.proxy_addresses, "descriptors": 2 * found.load.connections},
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def as_lines(found: Estimate, table: Table, width: int) -> Iterator[str]:
    """The estimate for a terminal of so many columns."""
    load = found.load
    yield from _wrapped(
        f"{load.connections:,} connections. Each sends {load.rate:g} messages a second of "
        f"{size(load.size)}, to rooms of {number(load.room)}."
        + (f" {number(load.published)} a second are published beside that." * bool(load.published))
        + f" TLS ends here for {load.tls:.0%}. {number(load.connects)} connect a second"
        + (f", all within {duration(load.storm)} in a storm." if load.storm else "."),
        width,
    )
    for row in found.resources:
        if not row.lines:
            continue
        yield ""
        yield f"{row.name[0].upper()}{row.name[1:]}: {_amount(row.unit, row.need)}"
        for line in row.lines:
            if line.value:
                yield from _arithmetic(row, line, width)
    yield ""
    yield from _columns([_HEADS, *map(_cells, found.resources)])
    yield from _wrapped(
        f"({'; '.join(f'{row.name}: {row.source}' for row in found.resources)})", width
    )
    yield ""
    yield from _summary(found, width)
    yield ""
    yield from _wrapped(_origin(table), width)


def _arithmetic(row: Resource, line: Term, width: int) -> Iterator[str]:
    value = _amount(row.unit, line.value)
    worked = line.formula if line.formula == value else f"{line.formula} = {value}"
    yield from textwrap.wrap(
        f"{line.name}: {worked} [{clean(line.source)}]",
        width,
        initial_indent=_INDENT,
        subsequent_indent=2 * _INDENT,
        break_on_hyphens=False,
    )


def _cells(row: Resource) -> tuple[str, ...]:
    has = "no limit" if row.has == inf else _amount(row.unit, row.has)
    share = "0 %" if row.has == inf else f"{row.share:,.0%}".replace("%", " %")
    ends = "never" if row.ends_at == inf else f"{row.ends_at:,.0f}"
    return row.name, _amount(row.unit, row.need), has, share, ends


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


def _summary(found: Estimate, width: int) -> Iterator[str]:
    first, asked = found.first, found.load.connections
    if first.ends_at == inf:
        yield from _wrapped("Nothing ends.", width)
    else:
        yield from _wrapped(
            f"First to end: {first.name}, at {first.ends_at:,.0f} connections of this load "
            f"{_usable(first)}.",
            width,
        )
    if found.machines is None:
        yield from _wrapped("A machine like this one does not hold a single connection.", width)
    else:
        machines = "1 machine" if found.machines == 1 else f"{found.machines:,} machines"
        workers = "1 process" if found.workers == 1 else f"{found.workers:,} processes"
        yield from _wrapped(
            f"{asked:,} take {workers} on {machines} like this one. A process uses one core.", width
        )
    if found.workers > 1:
        yield from _wrapped("Each process has rooms and limits of its own.", width)
    addresses = found.proxy_addresses
    many = "1 address" if addresses == 1 else f"{addresses:,} addresses"
    yield from _wrapped(
        f"A proxy in front needs {2 * asked:,} descriptors, and {many} to connect from (or as "
        f"many ports of the server): each has {PROXY_PORTS:,} ports.",
        width,
    )


def _usable(row: Resource) -> str:
    if row.unit == "descriptors":
        return f"(Tidegate keeps {row.has - row.usable:,.0f} for other things)"
    return f"({row.usable / row.has:.0%} of it may be used)"


def _origin(table: Table) -> str:
    facts = table.costs.measured.items()
    where = clean(", ".join(f"{name} {value}" for name, value in facts)) or "nothing is said of it"
    if table.name:
        return (
            f"[{clean(table.name)}]: {where}. [measured]: costs of this build, on another machine."
        )
    return (
        f"[measured]: costs of this build: {where}. Yours may differ by a factor of two: "
        f"tidegate capacity measures them, and --costs takes them."
    )


def _amount(unit: str, value: float) -> str:
    if unit == "bytes":
        return size(value)
    if unit == "bits/s":
        for name in ("bit/s", "kbit/s", "Mbit/s"):
            if value < 1000:
                return f"{value:.3g} {name}"
            value /= 1000
        return f"{value:.3g} Gbit/s"
    if unit == "cores":
        return "1 core" if value == 1 else f"{value:.3g} cores"
    return f"{value:,.0f}"


def _finite(value: float) -> float | None:
    return None if value == inf else value


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)
