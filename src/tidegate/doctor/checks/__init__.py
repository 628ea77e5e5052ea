"""The checks: each is a function from the facts and the load to a finding, or to None.

The name of the function, with hyphens, is the id of what it finds. Its docstring is its entry in
the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidegate.doctor.checks import (
    backplane,
    descriptors,
    firewall,
    memory,
    processor,
    queues,
    tcp,
    through,
)
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load

__all__ = ["CHECKS", "examine"]

CHECKS: Final[Mapping[str, Check]] = {
    check.__name__.replace("_", "-"): check
    for module in (descriptors, memory, queues, tcp, firewall, processor, through, backplane)
    for check in module.CHECKS
}
"""Every check by its id, in the order of the reference."""


def examine(facts: Facts, load: Load) -> dict[str, Finding]:
    """Return what is wrong, worst first, by the id of its check."""
    found = ((name, check(facts, load)) for name, check in CHECKS.items())
    wrong = [(name, finding) for name, finding in found if finding is not None]
    # The order of the checks is kept among those that are equally bad.
    return dict(sorted(wrong, key=lambda each: each[1].severity, reverse=True))
