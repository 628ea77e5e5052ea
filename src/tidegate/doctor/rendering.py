"""The report: for people, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from rich.text import Text

from tidegate.doctor.checks import CHECKS
from tidegate.doctor.facts import Backplane, Facts, Through
from tidegate.doctor.findings import Finding, Load, Severity
from tidegate.text import clean, duration, size

__all__ = ["as_json", "as_lines", "exit_code"]

_STYLES: Final = {
    Severity.ERROR: "bold red",
    Severity.WARNING: "bold yellow",
    Severity.NOTE: "bold cyan",
}
_INDENT: Final = "  "


def exit_code(findings: Mapping[str, Finding]) -> int:
    """0 when nothing is wrong, 1 with warnings, 2 with errors."""
    return max((finding.severity for finding in findings.values()), default=Severity.NOTE).value


def as_json(facts: Facts, load: Load, findings: Mapping[str, Finding]) -> bytes:
    """The findings, worst first, and what they were judged for."""
    rows = [
        {
            "id": name,
            "severity": finding.severity.name.lower(),
            "title": finding.title,
            "why": finding.why,
            "fix": finding.fix,
            "keep": finding.keep,
            "instead": finding.instead,
        }
        for name, finding in findings.items()
    ]
    report = {
        "connections": load.connections,
        "exitCode": exit_code(findings),
        "findings": rows,
        "through": facts.through,
        "backplane": facts.backplane,
        "unseen": facts.unseen,
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def as_lines(
    facts: Facts, load: Load, findings: Mapping[str, Finding], width: int
) -> Iterator[Text]:
    """The report for a terminal of so many columns. Commands are not broken, to be copied."""
    yield from _wrapped(f"{_machine(facts)}, judged for {load.connections:,} connections", width)
    if facts.through is not None:
        yield Text()
        yield from _through(facts.through, width)
    if facts.backplane is not None and not facts.backplane.error:
        yield Text()
        yield from _wrapped(_backplane(facts.backplane), width)
    for name, finding in findings.items():
        yield Text()
        yield from _finding(name, finding, width)
    if facts.unseen:
        yield Text()
        yield Text("Not seen", style="bold")
        for each in facts.unseen:
            yield from _wrapped(each, width, _INDENT)
    yield Text()
    yield Text(_summary(findings), style="bold")


def _finding(name: str, finding: Finding, width: int) -> Iterator[Text]:
    label = finding.severity.name
    for number, line in enumerate(_wrap(f"{label} {finding.title}", width)):
        text = Text(line)
        if number == 0:
            text.stylize(_STYLES[finding.severity], 0, len(label))
        yield text
    yield from _wrapped(finding.why, width, _INDENT)
    if finding.fix:
        yield Text(f"{_INDENT}{finding.fix}", style="green")
    for label, line in (("so that it stays:", finding.keep), ("or:", finding.instead)):
        if line:
            yield Text(f"{_INDENT}{label}", style="dim")
            yield Text(f"{_INDENT}{line}", style="green")
    yield Text(f"{_INDENT}[{name}]", style="dim")


def _through(seen: Through, width: int) -> Iterator[Text]:
    yield Text(f"Through {seen.url}", style="bold")
    for line in _observed(seen):
        yield from _wrapped(line, width, _INDENT)


def _observed(seen: Through) -> Iterator[str]:
    if seen.error:
        yield seen.error
        return
    by = f" by {seen.server}" if seen.server else ""
    yield f"Upgrade: {seen.status}{by}{f', {seen.reason}' if seen.reason else ''}"
    if seen.held is None:
        return
    yield f"Same host in Origin: {seen.page_status} {seen.page_reason}".rstrip()
    yield f"Another site in Origin: {seen.foreign_status} {seen.foreign_reason}".rstrip()
    if seen.seen_address:
        yield f"Client's address: {seen.seen_address}, sent from {seen.own_address}"
    else:
        yield "Client's address: not known (the admin API was not asked, or does not know it)"
    heads = f"Request heads: {seen.largest_head or 0:,} bytes go through"
    if seen.refused_head is not None:
        heads += f", {seen.refused_head:,} do not ({seen.refused_head_status or 'no response'})"
    yield heads
    if seen.round_trip is not None:
        yield f"Ping: {1000 * seen.round_trip:.1f} ms, the slowest of five"
    ended = " until it broke" if seen.cut else ""
    yield (
        f"Quiet for {duration(seen.held)}{ended}: {seen.pings} pings, at most "
        f"{duration(seen.longest_silence)} without a byte"
    )


def _machine(facts: Facts) -> str:
    parts = [f"{facts.kernel.system} {facts.kernel.release}".strip()]
    if facts.kernel.cpus:
        parts.append(f"{facts.kernel.cpus} CPUs")
    if facts.memory:
        parts.append(size(facts.memory.total))
    if facts.container:
        parts.append(f"in {facts.container.title()}")
    if facts.process and facts.process.pid is not None:
        parts.append(f"process {facts.process.pid} ({facts.process.name})")
    return ", ".join(parts)


def _backplane(seen: Backplane) -> str:
    most = "no bound" if seen.memory is None else size(seen.memory)
    parts = [f"Backplane {clean(seen.url)}: {seen.server.title()} {clean(seen.version)}".rstrip()]
    if seen.server != "kafka":
        parts.append(f"{size(seen.memory_used)} of {most} used")
    if seen.replicas:
        parts.append(f"{seen.replicas} replicas")
    if seen.round_trip is not None:
        parts.append(f"{seen.round_trip * 1000:.3g} ms away")
    return ", ".join(parts)


def _summary(findings: Mapping[str, Finding]) -> str:
    counts = []
    for severity in sorted(Severity, reverse=True):
        count = sum(finding.severity is severity for finding in findings.values())
        if count:
            counts.append(f"{count} {severity.name.lower()}{'s' if count > 1 else ''}")
    return f"{', '.join(counts) or 'Nothing is wrong'}; {len(CHECKS)} checks"


def _wrapped(text: str, width: int, indent: str = "") -> Iterator[Text]:
    return map(Text, _wrap(text, width, indent))


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    # A process and a proxy name themselves.
    return textwrap.wrap(
        clean(text), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
