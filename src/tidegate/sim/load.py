"""What things cost a node: seconds of CPU of an attempt and of a connected client, and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.sim.scenario import Scenario

__all__ = ["Load"]


@dataclass(frozen=True, slots=True)
class Load:
    """The costs of one object, which stands for `weight` clients."""

    admit: float
    """Seconds of an attempt that is admitted, TLS included."""
    refuse: float
    """Seconds of one that is refused."""
    abandoned: float
    """Seconds of one whose client has gone."""
    end: float
    """Seconds of the end of a connection."""
    connected: float
    """Seconds in each second of a connected one: heartbeats, its messages, and deliveries to it."""
    bytes: float
    """Memory of a connected one."""
    process: float
    """Memory of a node without connections."""
    idle: bool
    """Whether a client usually sends nothing for as long as makes it idle."""

    @classmethod
    def of(cls, scenario: Scenario) -> Load:
        """The costs in this scenario."""
        costs, own, load = scenario.costs, scenario.own_costs, scenario.load
        unit = scenario.weight / scenario.fleet.speed
        tls = load.tls * (costs.cpu_per_tls_handshake or 0.0)
        record = load.tls * (costs.cpu_per_tls_record + load.size * costs.cpu_per_tls_byte)
        message = costs.cpu_per_message + load.size * costs.cpu_per_byte_in + record
        delivery = costs.cpu_per_delivery + load.size * costs.cpu_per_byte_out + record
        return cls(
            admit=(costs.cpu_per_connect + tls + own.application) * unit,
            refuse=(own.cpu_per_refusal + tls) * unit,
            abandoned=own.cpu_per_abandoned * unit,
            end=own.cpu_per_end * unit,
            connected=(
                costs.cpu_per_heartbeat / scenario.settings.heartbeat.interval
                + load.messages * (message + load.room * delivery)
            )
            * unit,
            bytes=(
                costs.bytes_per_connection
                + costs.kernel_bytes_per_connection
                + load.tls * costs.tls_bytes_per_connection
            )
            * scenario.weight,
            process=costs.process_bytes,
            idle=load.messages * scenario.settings.shedding.idle_after < 1.0,
        )
