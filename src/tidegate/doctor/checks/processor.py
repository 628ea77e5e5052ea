"""Processor time, the clock, and randomness."""

from __future__ import annotations

import re
from typing import Final

from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load, Severity
from tidegate.doctor.fixes import Fix

__all__ = ["CHECKS"]

_SOME: Final = 0.01
_MUCH: Final = 0.1
_FAST_CLOCKS: Final = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen")
_ENTROPY: Final = 200
_NEW_RANDOM: Final = (5, 18)  # since then it never blocks again, and always says 256


def cpu_throttled(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The container or service has to wait for processor time that it is not allowed to have.

    A CPU limit is a share of each 100 ms. When it is used up, all threads stand still until the
    next 100 ms. `nr_throttled` of `nr_periods` in `cpu.stat`: a warning at 1 %, an error at 10 %.
    """
    group = facts.group
    share = group.throttled / group.periods if group.periods else 0.0
    if share < _SOME:
        return None
    return Finding(
        Severity.ERROR if share >= _MUCH else Severity.WARNING,
        f"{fixes.place(facts)} stood still in {share:.0%} of its periods, because of a limit of "
        f"{group.cpus or 0:g} CPUs",
        "For up to 100 ms nobody gets anything: accepts, messages and heartbeats wait.",
        *_more_processor(facts, max(2.0, 2 * (group.cpus or 1.0))),
    )


def cpu_limit(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The container or service may have less than one processor.

    The event loop then stands still in every period in which it is busy, for example after a
    reconnect storm.
    """
    cpus = facts.group.cpus
    if cpus is None or cpus >= 1:
        return None
    return Finding(
        Severity.WARNING,
        f"{fixes.place(facts)} may have {cpus:g} of a processor",
        f"A busy event loop stands still for {100 * (1 - cpus):.0f} of every 100 ms.",
        *_more_processor(facts, 1.0),
    )


def clock_source(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The kernel reads the time from a slow clock.

    An event loop asks for the time in every turn. With `tsc` or the clock of a hypervisor that
    takes 20 ns, with `hpet` or `acpi_pm` a system call and a microsecond or more. The kernel
    changes to them when it does not trust the processor's own clock.
    """
    time = facts.time
    if not time.source or time.source in _FAST_CLOCKS:
        return None
    better = next((name for name in _FAST_CLOCKS if name in time.sources), None)
    path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    fix = Fix(f"{fixes.sudo(facts)}dmesg | grep -i clocksource")
    if better is not None:
        fix = Fix(
            f"echo {better} | {fixes.sudo(facts)}tee {path}",
            f"clocksource={better}  # in GRUB_CMDLINE_LINUX of /etc/default/grub",
        )
    return Finding(
        Severity.WARNING,
        f"The kernel reads the time from {time.source}",
        "Each look at the clock is a slow system call, and the event loop looks all the time.",
        *fix,
    )


def clock_unsynchronized(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """No time server keeps the clock right.

    Tokens are valid from one time to another, and certificates too. A clock that is a minute off
    refuses users, or lets them in for too long. In a container it is the host's clock.
    """
    if facts.time.synchronized is not False:
        return None
    where = "  # on the host" if facts.container else ""
    return Finding(
        Severity.WARNING,
        "No time server keeps the clock right",
        "With a wrong clock, valid tokens are refused, and those that ran out are taken.",
        f"{fixes.sudo(facts)}timedatectl set-ntp true{where}",
    )


def entropy(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """An old kernel has little randomness left (before Linux 5.18).

    TLS handshakes and tokens may wait for it, for minutes after the boot of a virtual machine.
    """
    bits = facts.time.entropy
    if bits is None or bits >= _ENTROPY or _version(facts.kernel.release) >= _NEW_RANDOM:
        return None
    return Finding(
        Severity.WARNING,
        f"The kernel has {bits} bits of randomness",
        "TLS handshakes may wait for more of it.",
        f"{fixes.sudo(facts)}apt-get install -y rng-tools5",
    )


CHECKS: Final[tuple[Check, ...]] = (
    *(cpu_throttled, cpu_limit),
    *(clock_source, clock_unsynchronized, entropy),
)


def _more_processor(facts: Facts, cpus: float) -> Fix:
    if facts.container == "kubernetes":
        return Fix(
            f'resources: {{requests: {{cpu: "{cpus:g}"}}}}  # of the container, without limits.cpu'
        )
    if facts.container:
        return Fix(f"{facts.container} run --cpus={cpus:g} ...")
    name = facts.unit.name if facts.unit else "tidegate.service"
    return Fix(f"{fixes.sudo(facts)}systemctl set-property {name} CPUQuota={cpus:.0%}")


def _version(release: str) -> tuple[int, int]:
    """The first two numbers of a release such as 6.1.0-13-amd64; as new as can be if none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (99, 0)
