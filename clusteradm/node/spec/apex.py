"""Clock and temperatures of an Edge TPU, as its driver has them (gasket_core.c, apex_driver.c)."""

from typing import Optional, Sequence

# A chip that fell off the bus reads all ones, which the driver's formula turns into -89.7 °C; `status` stays ALIVE.
WEDGED_MILLIDEGREES = -50_000
# The driver divides the 500 MHz clock at each trip point. No register says the clock that there is.
CLOCKS_MHZ = (500.0, 250.0, 125.0, 62.5)


def step(temperature: Optional[int], trips: Sequence[int]) -> int:
    """How many trip points the temperature has reached; all in thousandths of a degree Celsius."""
    return 0 if temperature is None else sum(temperature >= trip for trip in trips)


def megahertz(temperature: Optional[int], trips: Sequence[int], poll_interval: Optional[int]) -> Optional[float]:
    """The clock, as the driver sets it at the trip points when it looks, every `poll_interval` ms; None where it never
    does, or that is not known."""
    if not poll_interval or not trips or temperature is None or temperature <= WEDGED_MILLIDEGREES:
        return None
    return CLOCKS_MHZ[min(step(temperature, trips), len(CLOCKS_MHZ) - 1)]
