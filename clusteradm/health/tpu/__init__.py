"""Edge TPUs of a host: facts from its probe's document, and one state for each TPU."""

from clusteradm.health.tpu.heat import clock
from clusteradm.health.tpu.state import ABSENT, CHECK, USABLE, Tpu, by_itself, healthy, judge

__all__ = ["ABSENT", "CHECK", "USABLE", "Tpu", "by_itself", "clock", "healthy", "judge"]
