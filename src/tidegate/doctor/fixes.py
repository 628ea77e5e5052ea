"""The lines that fix what was found, in the terms of where the server runs."""

from __future__ import annotations

from typing import Final, NamedTuple

from tidegate.doctor.facts import Facts

__all__ = ["Fix", "descriptors", "place", "setting", "sudo", "sysctl"]

_SYSCTL_FILE: Final = "/etc/sysctl.d/90-tidegate.conf"
_LIMITS_FILE: Final = "/etc/security/limits.d/60-tidegate.conf"
_ON_HOST: Final = "  # on the host"


class Fix(NamedTuple):
    """Lines for a shell or a file."""

    fix: str
    """Fixes it now."""
    keep: str = ""
    """Lets it stay so, where the first lasts until a restart only."""
    instead: str = ""
    """Does it in another way, or for another program."""


def place(facts: Facts) -> str:
    """What limits the process, as the subject of a sentence."""
    if facts.container:
        return "The pod" if facts.container == "kubernetes" else "The container"
    return facts.unit.name if facts.unit else "The control group"


def sudo(facts: Facts) -> str:
    """What a command begins with that only root may run."""
    return "" if facts.root else "sudo "


def sysctl(facts: Facts, name: str, value: str) -> Fix:
    """Set a parameter of the kernel.

    A container has its own where the name begins with `net.`, given to it at its start; those of
    memory (`net.ipv4.tcp_mem`) and of files are the host's.
    """
    own = name.startswith(("net.core.somaxconn", "net.ipv4.")) and name != "net.ipv4.tcp_mem"
    quoted = f'"{value}"' if " " in value else value
    command = f"{sudo(facts)}sysctl -w {name}={quoted}"
    if facts.container and own:
        stays = _of_container(facts.container, name, value)
        return Fix(command, stays) if facts.writable and facts.root else Fix(stays)
    where = _ON_HOST if facts.container else ""
    return Fix(
        command + where,
        f"echo '{name} = {value}' | {sudo(facts)}tee -a {_SYSCTL_FILE}{where}",
    )


def setting(name: str, value: str | int) -> Fix:
    """Give a setting of Tidegate another value."""
    section, _, key = name.partition(".")
    written = value if isinstance(value, int) else f'"{value}"'
    return Fix(
        f"tidegate serve --set {name}={value}",
        f"{key} = {written}  # below [{section}] in tidegate.toml",
    )


def descriptors(facts: Facts, limit: int) -> Fix:
    """Give the process that is judged so many file descriptors."""
    process, unit, container = facts.process, facts.unit, facts.container
    now = ""
    if process is not None and process.pid is not None:
        # The owner of a process may raise its soft limit up to the hard one.
        as_root = sudo(facts) if process.hard is not None and process.hard < limit else ""
        now = f"{as_root}prlimit --pid {process.pid} --nofile={limit}:{limit}"
    if unit is not None:
        drop_in = f"/etc/systemd/system/{unit.name}.d"
        run = sudo(facts)
        stays = (
            f"{run}mkdir -p {drop_in} && "
            f"printf '[Service]\\nLimitNOFILE={limit}\\n' | {run}tee {drop_in}/limits.conf && "
            f"{run}systemctl daemon-reload && {run}systemctl restart {unit.name}"
        )
    elif container == "kubernetes":
        stays = (
            f"LimitNOFILE={limit}  # in [Service] of containerd.service on the node: "
            "pods inherit it"
        )
    elif container:
        stays = f"{container} run --ulimit nofile={limit}:{limit} ..."
    else:
        # What stands for all users there does not stand for root (limits.conf(5)). Tidegate raises
        # its soft limit itself; other programs may not.
        kind = "-" if now else "hard"
        stays = f"printf '%s {kind} nofile {limit}\\n' '*' root | {sudo(facts)}tee {_LIMITS_FILE}"
        # The shell that the doctor was called from hands its limits on.
        now = now or f"{sudo(facts)}prlimit --pid $$ --nofile={limit}:{limit}"
    return Fix(now, stays) if now else Fix(stays)


def _of_container(container: str, name: str, value: str) -> str:
    """What gives a container a sysctl of its own at its start."""
    if container == "kubernetes":
        return (
            f'securityContext: {{sysctls: [{{name: {name}, value: "{value}"}}]}}'
            f"  # in spec of the pod; the kubelet needs --allowed-unsafe-sysctls={name}"
        )
    quoted = f'"{value}"' if " " in value else value
    return f"{container} run --sysctl {name}={quoted} ..."
