"""inventory.yml as typed data: clusters, groups and hosts, and where each value came from."""

from clusteradm.inventory.cluster import Cluster, Group, Host, Origin
from clusteradm.inventory.reader import load

__all__ = ["Cluster", "Group", "Host", "Origin", "load"]
