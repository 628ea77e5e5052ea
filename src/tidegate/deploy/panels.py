"""The panels of the dashboard: what each shows, in rows."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ROWS", "WATCH", "Panel"]


class Panel(NamedTuple):
    """One panel; `queries` are expressions with the legend of each.

    `%` in an expression stands for the selection of the nodes. `steps` are the values from which it
    is yellow and red.
    """

    title: str
    text: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    steps: tuple[float, float] | None = None
    most: float | None = None
    stacked: bool = False


def _quantile(share: str, metric: str) -> str:
    rate = f"rate({metric}_bucket{{%}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (instance, le) ({rate}))"


def _rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{%{matchers}}}[$__rate_interval]))"


WATCH: Final = (
    Panel(
        "Utilization",
        "Open connections as a share of limits.connections. At 100 % clients are refused or wait.",
        "percentunit",
        (("websocket_utilization_ratio{%}", "{{instance}}"),),
        (0.8, 0.95),
        1,
    ),
    Panel(
        "Refused attempts",
        "Share of all attempts. Some are right: a pace in a storm, a limit for one address.",
        "percentunit",
        (
            (
                _rate("websocket_connections_total", "instance", ',result="rejected"')
                + " / "
                + _rate("websocket_connections_total", "instance"),
                "{{instance}}",
            ),
        ),
        (0.05, 0.1),
        1,
    ),
    Panel(
        "Event loop lag, p99",
        "Every message waits for as long.",
        "s",
        ((_quantile("0.99", "websocket_event_loop_lag_seconds"), "{{instance}}"),),
        (0.02, 0.05),
    ),
    Panel(
        "Heartbeat latency, p95",
        "From a ping to its pong: the network, and clients that are busy.",
        "s",
        ((_quantile("0.95", "websocket_heartbeat_latency_seconds"), "{{instance}}"),),
        (1, 2.5),
    ),
    Panel(
        "Slow clients",
        "Connections that have not taken yet what was sent to them.",
        "short",
        (("websocket_slow_connections{%}", "{{instance}}"),),
    ),
    Panel(
        "File descriptors",
        "As a share of those that connections may have.",
        "percentunit",
        (("websocket_file_descriptors_used_ratio{%}", "{{instance}}"),),
        (0.7, 0.8),
        1,
    ),
)

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    ("The six things to watch", WATCH),
    (
        "Connections",
        (
            Panel(
                "Open connections",
                "The broken line is limits.connections.",
                "short",
                (
                    ('websocket_connections_current{%,state="open"}', "{{instance}}"),
                    ('websocket_limit{%,setting="connections"}', "limit of {{instance}}"),
                ),
            ),
            Panel(
                "New connections",
                "Accepted attempts a second.",
                "cps",
                (
                    (
                        _rate("websocket_connections_total", "instance", ',result="accepted"'),
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Refusals by reason",
                "The reference of codes says what each means.",
                "cps",
                ((_rate("websocket_rejections_total", "reason") + " > 0", "{{reason}}"),),
                stacked=True,
            ),
            Panel(
                "Ends by reason",
                "Why connections ended.",
                "cps",
                ((_rate("websocket_disconnections_total", "reason") + " > 0", "{{reason}}"),),
                stacked=True,
            ),
            Panel(
                "Ends by close code",
                "1006: without a close frame.",
                "cps",
                ((_rate("websocket_closes_total", "code") + " > 0", "{{code}}"),),
                stacked=True,
            ),
            Panel(
                "Waiting room",
                "Clients that wait for a lease, and leases kept for holders of tickets.",
                "short",
                (("websocket_waiting{%}", "{{state}} {{instance}}"),),
            ),
        ),
    ),
    (
        "Messages",
        (
            Panel(
                "Messages a second",
                "Received, and sent: one for each receiver.",
                "mps",
                (
                    (_rate("websocket_messages_received_total", "instance"), "in {{instance}}"),
                    (_rate("websocket_messages_sent_total", "instance"), "out {{instance}}"),
                ),
            ),
            Panel(
                "Throughput",
                "Bytes on the wire, without TLS.",
                "Bps",
                (
                    (
                        _rate("websocket_bytes_total", "instance, direction"),
                        "{{direction}} {{instance}}",
                    ),
                ),
            ),
            Panel(
                "Held back and dropped",
                "Messages that came too fast, and those that slow clients missed.",
                "mps",
                (
                    (_rate("websocket_messages_limited_total", "action"), "{{action}}"),
                    (_rate("websocket_messages_dropped_total", "policy"), "{{policy}}"),
                ),
            ),
        ),
    ),
    (
        "The process",
        (
            Panel(
                "Zone",
                "0 normal, 1 warning, 2 critical, 3 emergency.",
                "short",
                (("websocket_zone{%}", "{{instance}}"),),
                (1, 2),
                3,
            ),
            Panel(
                "Pressure by signal",
                "How close to its limit each signal is; the highest decides.",
                "percentunit",
                (("max by (signal) (websocket_pressure{%})", "{{signal}}"),),
                most=1,
            ),
            Panel(
                "Processor",
                "Of one core.",
                "percentunit",
                (
                    (
                        "rate(process_cpu_seconds_total{%}[$__rate_interval])",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Memory",
                "Of the process, without what the kernel holds for sockets.",
                "bytes",
                (("process_resident_memory_bytes{%}", "{{instance}}"),),
            ),
            Panel(
                "Buffers",
                "Unfinished messages and outboxes; buffers.max_bytes bounds them.",
                "bytes",
                (
                    ("websocket_buffers_bytes{%}", "all {{instance}}"),
                    ("websocket_outbox_bytes{%}", "outboxes {{instance}}"),
                ),
            ),
            Panel(
                "Handshakes, p99",
                "From accepting a connection to the response; TLS by itself.",
                "s",
                (
                    (_quantile("0.99", "websocket_handshake_duration_seconds"), "{{instance}}"),
                    (
                        _quantile("0.99", "websocket_tls_handshake_duration_seconds"),
                        "TLS {{instance}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "The backplane",
        (
            Panel(
                "Nodes that reach it",
                "Below 1, messages to rooms are refused and other nodes are not heard.",
                "short",
                (("min by (instance) (websocket_backplane_up{%})", "{{instance}}"),),
                most=1,
            ),
            Panel(
                "Answers, p90",
                "Time in which it takes what a node says of itself every two seconds.",
                "s",
                ((_quantile("0.9", "websocket_backplane_latency_seconds"), "{{instance}}"),),
                (0.05, 0.1),
            ),
            Panel(
                "Messages between nodes",
                "Published by the nodes, and received: by each node that has members.",
                "ops",
                ((_rate("websocket_backplane_messages_total", "direction"), "{{direction}}"),),
            ),
            Panel(
                "Bytes",
                "Commands that were sent, and messages that were received.",
                "Bps",
                ((_rate("websocket_backplane_bytes_total", "direction"), "{{direction}}"),),
            ),
            Panel(
                "Errors and reconnects",
                "Commands that were not sent, lost or refused, and connections made again.",
                "ops",
                (
                    (_rate("websocket_backplane_errors_total", "error"), "{{error}}"),
                    (_rate("websocket_backplane_reconnects_total", "instance"), "{{instance}}"),
                ),
            ),
            Panel(
                "Subscriptions",
                "Rooms that a node hears: those that have members there.",
                "short",
                (("sum by (instance) (websocket_backplane_subscriptions{%})", "{{instance}}"),),
            ),
        ),
    ),
)
