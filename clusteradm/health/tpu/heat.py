"""Heat: the temperature of an Edge TPU, and the clock that its driver sets by it."""

from __future__ import annotations

from clusteradm.health.tpu.facts import Device

# Millidegrees. A chip that fell off the bus reads all ones, which the driver's formula turns into -89.7 °C; `status`
# stays ALIVE.
LOST = -50_000
# The apex driver divides the 500 MHz clock at each trip point.
CLOCKS_MHZ = (500.0, 250.0, 125.0, 62.5)


def clock(device: Device) -> float | None:
    """Its clock in MHz, as the driver sets it at the trip points; None where that is not known, or it does not."""
    temperature = device.temperature
    if not device.poll_interval or not device.trips or temperature is None or temperature <= LOST:
        return None
    return CLOCKS_MHZ[step(device)]


def step(device: Device) -> int:
    """Number of trip points that its temperature has reached."""
    temperature = device.temperature
    return 0 if temperature is None else sum(temperature >= trip for trip in device.trips)
