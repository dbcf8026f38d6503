"""Use of a rank's time: in the TPU, waiting for input, waiting for the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clusteradm.node.spec.wire.job import RankProgress

TPU, INPUT, NETWORK = "TPU", "input", "network"
# The share of its time from which on a rank waits for something else than its TPU.
NOTABLE = 0.2


@dataclass(frozen=True)
class Use:
    """Shares of a rank's time, each from 0 to 1.

    `tpu`: an inference runs; `input`: it waits for one to be decoded; `network`: for bytes of the shared file system,
    or for another chunk of the dispatcher. What is left is its own work between two inferences.
    """

    tpu: float
    input: float
    network: float

    @property
    def other(self) -> float:
        """What is left."""
        return max(0.0, 1 - self.tpu - self.input - self.network)

    @property
    def waits_for(self) -> str:
        """What it waits for: its TPU, or what keeps that from work for a notable share of the time."""
        if max(self.input, self.network) < NOTABLE:
            return TPU
        return INPUT if self.input >= self.network else NETWORK

    def shares(self) -> Mapping[str, float]:
        """By name, in the order in which they are shown."""
        return {TPU: self.tpu, INPUT: self.input, NETWORK: self.network, "other": self.other}


def of(seconds: float, later: RankProgress, earlier: RankProgress | None = None) -> Use | None:
    """The use of so many seconds, in which a rank came from one progress to the next; None where nothing was measured.

    Decoding and reading run beside each other and beside the TPU. What is waited for is shared between them as they
    took their time.
    """
    if seconds <= 0:
        return None

    def grown(name: str) -> float:
        return max(0.0, float(getattr(later, name)) - (float(getattr(earlier, name)) if earlier else 0.0))

    busy, wait, decode, read, idle = map(grown, ("busy", "wait", "decode", "read", "idle"))
    if not busy and not wait and not idle:
        return None
    reading = wait * read / (read + decode) if read + decode else 0.0
    # A chunk's seconds are told at its end: a little more than the time that is looked at may come at once.
    whole = max(seconds, busy + wait + idle)
    return Use(busy / whole, (wait - reading) / whole, (reading + idle) / whole)
