"""What the files cannot make right by themselves, so that somebody must."""

from __future__ import annotations

from tidegate.addresses import is_local, unix_path
from tidegate.deploy.plan import Plan

__all__ = ["asked", "passed_on", "reach", "refuse", "routes", "scraped", "tickets", "trust"]


def trust(plan: Plan) -> str:
    """About proxies that nobody believes."""
    settings = plan.settings
    if settings.proxies.trusted or any(map(unix_path, settings.server.host)):
        return ""
    return (
        "proxies.trusted is empty: set it to the addresses of the proxies, or all clients count "
        "as one address"
    )


def reach(plan: Plan) -> str:
    """About nodes that listen on their own machine only."""
    if _elsewhere(plan) and all(map(is_local, plan.settings.server.host)):
        return "server.host is loopback only: other machines cannot connect, proxies included"
    return ""


def scraped(plan: Plan) -> str:
    """About an admin listener that Prometheus cannot reach."""
    admin = plan.settings.admin
    if not admin.enabled:
        return "admin.enabled is false: there are no metrics"
    if _elsewhere(plan) and all(map(is_local, admin.host)):
        return "admin.host is loopback only: Prometheus on another machine cannot connect"
    return ""


def asked(plan: Plan) -> str:
    """About a listener for HAProxy's agent-check that it cannot reach."""
    agent = plan.settings.agent_check
    if agent.enabled and _elsewhere(plan) and all(map(is_local, agent.host)):
        return "agent_check.host is loopback only: HAProxy on another machine cannot ask"
    return ""


def routes(plan: Plan) -> str:
    """About routes, which the nodes must have too."""
    if not plan.routed:
        return ""
    named = ", ".join(f"{node.route} on {node}" for node in plan.nodes)
    return f"set server.route on each node: {named}"


def passed_on(plan: Plan) -> str:
    """About routes that nginx does not see."""
    if not plan.routed or not plan.settings.proxies.protocol:
        return ""
    return "nginx passes TCP on (proxies.protocol) and sees no route: clients come back to any node"


def tickets(plan: Plan) -> str:
    """About tickets that one node gives out and another one does not know."""
    waiting = plan.settings.waiting_room
    if len(plan.nodes) > 1 and waiting.enabled and not waiting.secret:
        return "waiting_room.secret is not set: tickets are good at one node only"
    return ""


def refuse(plan: Plan) -> str:
    """About refusals that nginx does not see."""
    if plan.settings.server.refuse == "in-band" and not plan.settings.proxies.protocol:
        return 'set server.refuse = "http": nginx cannot see refusals by a close frame'
    return ""


def _elsewhere(plan: Plan) -> bool:
    return any(not is_local(node.host) for node in plan.nodes)
