"""`tidegate simulate`: a fleet on a virtual clock."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from tidegate.cli.options import Assignments
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.sim.outcome import Outcome
    from tidegate.sim.scenario import Scenario

__all__ = ["simulate"]

_WIDTHS: Final = (40, 100)
_EVENTS: Final = 8  # that are shown
_Flag = Annotated[bool, Parameter(negative=())]
_File = Annotated[Path | None, Parameter(metavar="FILE", allow_leading_hyphen=True)]


def simulate(
    *scenarios: str,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    off: _Flag = False,
    compare: _Flag = False,
    sweep: Annotated[str | None, Parameter(metavar="NAME=LOW..HIGH")] = None,
    seed: Annotated[int | None, Parameter(metavar="NUMBER")] = None,
    json: _Flag = False,
    html: _File = None,
    png: _File = None,
    config: Annotated[
        Path | None, Parameter(name=["--config", "-c"], metavar="FILE", allow_leading_hyphen=True)
    ] = None,
    set_: Assignments = (),
) -> int:
    """Run a fleet of nodes and its clients on a virtual clock, and show what would happen.

    The gate that decides is the real one, with your settings. Exit code 1 when nodes die of load.

    Parameters
    ----------
    scenarios
        Files, or names of the scenarios that come with Tidegate (--list).
    list_
        Show the scenarios that come with Tidegate.
    off
        Switch every policy off: no limits, no pace, no shedding, no drain.
    compare
        Show several scenarios side by side; one by itself beside the same with --off.
    sweep
        Try a setting at several values, and say which brings the clients back soonest without a
        node above 80 % CPU, such as pacing.rate=200..5000.
    seed
        Another course of chance. [default: that of the scenario]
    json
        Print JSON.
    html
        Write a page with a time slider; it loads nothing else.
    png
        Write a picture; needs Matplotlib.
    config
        Settings file of the gate, in place of the one that the scenario names.
    """
    from tidegate.sim.scenario import load, ready

    if list_:
        for name, about in ready().items():
            print(f"{name:<18} {about}")
        return 0
    if not scenarios:
        raise UsageError("a scenario is needed: a file, or one of " + ", ".join(ready()))
    changes = dict(map(_assignment, set_))
    chosen = [_seeded(load(name, changes, config), seed) for name in scenarios]
    if sweep is not None:
        if len(chosen) > 1:
            raise UsageError("--sweep is for one scenario")
        return _sweep(_without(chosen[0]) if off else chosen[0], sweep, json=json)
    if compare and len(chosen) == 1:
        chosen.append(_without(chosen[0]))
    elif off:
        chosen = [_without(each) for each in chosen]
    outcomes = [_run(each, quiet=json) for each in chosen]
    if html is not None:
        from tidegate.sim.page import page

        _write(html, page(outcomes))
    if png is not None:
        from tidegate.sim.picture import draw

        draw(outcomes, png)
    if json:
        _print_json(outcomes if len(outcomes) > 1 else outcomes[0])
    else:
        _show(outcomes)
    return 1 if any(each.cascade for each in outcomes) else 0


def _run(scenario: Scenario, *, quiet: bool) -> Outcome:
    from tidegate.sim.happenings import simulate as run
    from tidegate.sim.outcome import outcome_of

    if not quiet:
        print(f"{scenario.name} ...", file=sys.stderr)
    return outcome_of(scenario, run(scenario))


def _show(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tidegate.sim.rendering import course, rows

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=len(outcomes) > 1)
    table.add_column()
    for each in outcomes:
        table.add_column(Text(each.name), overflow="fold")
    for row in rows(outcomes):
        table.add_row(*map(Text, row))
    if len(outcomes) == 1:
        console.print(Text(outcomes[0].name, style="bold"))
        console.print(Text(outcomes[0].about))
        console.print()
    console.print(table)
    low, high = _WIDTHS
    width = max(low, min(high, shutil.get_terminal_size().columns - 40))
    for each in outcomes:
        console.print()
        console.print(Text(each.name, style="bold"))
        for title, bars, most in course(each, width):
            console.print(Text(f"{title:<22} {bars:<{width}} {most}"), soft_wrap=True)
        for at, what in each.events[:_EVENTS]:
            console.print(Text(f"{at:>8.1f} s  {what}"))
        if len(each.events) > _EVENTS:
            console.print(Text(f"           and {len(each.events) - _EVENTS} more"))


def _sweep(scenario: Scenario, text: str, *, json: bool) -> int:
    from tidegate.sim.rendering import trial_line
    from tidegate.sim.sweep import Range, Trial, best, sweep

    tried = Range.parse(text)
    if not json:
        print(trial_line(None, tried.name))

    def tell(trial: Trial) -> None:
        print(trial_line(trial, tried.name), flush=True)

    trials = sweep(scenario, tried, None if json else tell)
    found = best(trials)
    if json:
        said: list[dict[str, Any]] = [
            {"value": trial.value, "good": trial.good, "outcome": trial.outcome} for trial in trials
        ]
        _print_json({"setting": tried.name, "best": found.value, "trials": said})
    elif found.good:
        print(f"\n{tried.name} = {found.value:g} brings the clients back soonest")
    else:
        print(f"\nno value keeps every node alive and below 80 % CPU; {found.value:g} is nearest")
    return 0 if found.good else 1


def _without(scenario: Scenario) -> Scenario:
    from tidegate.sim.scenario import OFF

    return scenario.with_settings(OFF, f"{scenario.name}, everything off")


def _seeded(scenario: Scenario, seed: int | None) -> Scenario:
    from dataclasses import replace

    return scenario if seed is None else replace(scenario, run=replace(scenario.run, seed=seed))


def _assignment(text: str) -> tuple[str, object]:
    name, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--set {text}: must be section.key=value")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _print_json(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}") from None
