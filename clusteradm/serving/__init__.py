"""Admin side of serving: the desired state and its changes, and how far the boards have followed it."""

from clusteradm.serving.changes import hold_tpus
from clusteradm.serving.rollout import Progress, hosts_of, judge
from clusteradm.serving.state import Serving, servers

__all__ = ["Progress", "Serving", "hold_tpus", "hosts_of", "judge", "servers"]
