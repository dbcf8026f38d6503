"""Versions in the cluster's model repository, as the head lists them."""

from __future__ import annotations

from clusteradm.inventory import Cluster
from clusteradm.models.repository import Repository
from clusteradm.node.spec.wire.repository import ListedVersion, ListModels, ModelList
from clusteradm.transport import Connections

_SECONDS = 60.0


def catalogue(connections: Connections, cluster: Cluster) -> ModelList:
    """Every version in the repository. Raises HostUnreachable, and HostFailed for a reply that does not fit."""
    request = ListModels(cluster.setting("cluster_shared"), cluster.setting("cluster_user"))
    return connections.node(cluster.head).call(request, timeout=_SECONDS)


def one_version(connections: Connections, cluster: Cluster, name: str, version: int | None) -> ListedVersion:
    """A version, or the latest. Raises UsageError where it does not exist, with the names that do."""
    stored, manifest = Repository(connections, cluster).find(name, version)
    return ListedVersion(stored.name, stored.version, stored.path, manifest)
