"""Ansible's YAML inventory as typed data: cluster, groups and hosts, and the source of each value."""

from clusteradm.inventory.cluster import Cluster, Group, Host, Origin
from clusteradm.inventory.reader import load

__all__ = ["Cluster", "Group", "Host", "Origin", "load"]
