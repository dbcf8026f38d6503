"""Heat: the clock of an Edge TPU, which its driver sets by the temperature."""

from __future__ import annotations

from clusteradm.health.tpu.facts import Device
from clusteradm.node.spec import apex


def clock(device: Device) -> float | None:
    """Its clock in MHz, as the driver sets it at the trip points; None where that is not known, or it does not."""
    return apex.megahertz(device.temperature, device.trips, device.poll_interval)
