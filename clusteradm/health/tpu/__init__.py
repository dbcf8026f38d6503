"""Edge TPUs of a host: facts from its probe's document, and one state for each TPU."""

from clusteradm.health.tpu.state import CHECK, Tpu, clock, healthy, judge

__all__ = ["CHECK", "Tpu", "clock", "healthy", "judge"]
