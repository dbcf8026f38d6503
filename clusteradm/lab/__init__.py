"""Lab: a virtual cluster of systemd-nspawn containers on networks of their own, with simulated Edge TPUs."""

from clusteradm.lab.lab import Lab
from clusteradm.lab.machine import LabError

__all__ = ["Lab", "LabError"]
