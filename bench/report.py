"""The table, the budgets, JSON and Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from bench.budgets import BUDGETS, ROWS, Budget, Results, Row, rounds_of
from bench.peers import PEERS

__all__ = ["as_json", "machine", "markdown", "show"]


def machine() -> dict[str, str | int]:
    """Describe this machine."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _number(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{value:.1f} ms"
    if unit == "x":
        return f"{value:.2f} x"
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.0f}"


def _median(results: Results, server: str, row: str) -> float | None:
    values = [value for value in rounds_of(results, server, row) if value is not None]
    return statistics.median(values) if values else None


def _filled(results: Results) -> list[tuple[Row, list[float | None]]]:
    lines = [(row, [_median(results, server, row.name) for server in results]) for row in ROWS]
    return [(row, cells) for row, cells in lines if any(cell is not None for cell in cells)]


def _cell(row: Row, value: float | None, ws: float | None) -> str:
    if value is None:
        return "-"
    shown = _number(value, row.unit)
    # How many times better than ws, whichever way is better.
    if ws and value and row.only in {"memory", "accepts", "fanout", "joined", "echo"}:
        shown += f"  {ws / value if row.unit == 'B' else value / ws:.1f}x"
    return shown


def _verdict(budget: Budget, results: Results) -> tuple[str, str, bool | None]:
    value = budget.measured(results)
    bound = f"{'at least' if budget.at_least else 'at most'} {_number(budget.limit, budget.unit)}"
    if value is None:
        return "-", bound, None
    return _number(value, budget.unit), bound, budget.holds(value)


def show(console: Console, results: Results, notes: Sequence[str]) -> bool:
    """Print the tables; returns whether every budget that was measured holds."""
    table = Table(title="Medians of the rounds, and how many times better than ws")
    table.add_column("measure")
    for server in results:
        table.add_column(PEERS[server].name, justify="right")
    for row, cells in _filled(results):
        ws = _median(results, "ws", row.name)
        unit = " per second" if row.unit == "/s" else ""
        table.add_row(row.title + unit, *(_cell(row, cell, ws) for cell in cells))
    console.print(table)

    good = True
    verdicts = Table(title="Budgets: medians of the ratios within a round")
    for column in ("what", "measured", "by CPU time", "budget", ""):
        justify: Literal["right", "left"] = "left" if column in {"what", "budget"} else "right"
        verdicts.add_column(column, justify=justify)
    for budget in BUDGETS:
        measured, bound, holds = _verdict(budget, results)
        if holds is None:
            continue
        good = good and holds
        by_cpu = budget.by_cpu(results)
        verdicts.add_row(
            budget.title,
            measured,
            "" if by_cpu is None else _number(by_cpu, budget.unit),
            bound,
            "[green]pass[/]" if holds else "[bold red]FAIL[/]",
        )
    if verdicts.row_count:
        console.print(verdicts)
    for note in notes:
        console.print(f"[yellow]note:[/] {note}", highlight=False)
    return good


def as_json(
    results: Results, versions: Mapping[str, str], sizes: object, notes: Sequence[str], took: float
) -> dict[str, Any]:
    """Return everything that was measured, round by round."""
    verdicts = []
    for budget in BUDGETS:
        value = budget.measured(results)
        verdicts.append(
            {
                "what": budget.title,
                "measured": value,
                "by_cpu": budget.by_cpu(results),
                "rounds": budget.values(results),
                "limit": budget.limit,
                "unit": budget.unit,
                "at_least": budget.at_least,
                "holds": None if value is None else budget.holds(value),
            }
        )
    return {
        "machine": machine(),
        "versions": dict(versions),
        "sizes": repr(sizes),
        "seconds": round(took, 1),
        "rounds": {server: list(rounds) for server, rounds in results.items()},
        "budgets": verdicts,
        "notes": list(notes),
    }


def markdown(results: Results, versions: Mapping[str, str]) -> str:
    """Return a table for the README."""
    names = [
        f"{PEERS[server].name} {versions.get(PEERS[server].package or '', '')}".strip()
        for server in results
    ]
    lines = ["| | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
    for row, cells in _filled(results):
        unit = " a second" if row.unit == "/s" else ""
        shown = ("-" if cell is None else _number(cell, row.unit) for cell in cells)
        lines.append(f"| {row.title}{unit} | " + " | ".join(shown) + " |")
    about = machine()
    lines += [
        "",
        f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, "
        f"Python {about['python']}, Node.js {versions.get('node', '-')}; "
        "server and load generator on a core each.",
    ]
    return "\n".join(lines)
