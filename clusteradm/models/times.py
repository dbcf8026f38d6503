"""Time that an inference of models takes on a host's CPU, which are sent there for it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from clusteradm.errors import HostFailed
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.repository import TimeModels
from clusteradm.transport import Connections

Progress = Callable[[int, int], None]
_SECONDS = 660.0  # the host's own limit, and a little


def on_host(
    connections: Connections, cluster: Cluster, host: Host, models: Sequence[bytes], progress: Progress
) -> list[float]:
    """Milliseconds of each, by the runtime of the ranks. `progress`: bytes sent, and in all.

    Raises HostUnreachable, and HostFailed where the host cannot run one of them.
    """
    sums = [hashlib.sha256(data).hexdigest() for data in models]
    bodies = dict(zip(sums, models, strict=True))
    node = connections.node(host)
    node.put_blobs(bodies, progress)
    found = node.call(TimeModels(cluster.setting("cluster_user"), tuple(bodies)), timeout=_SECONDS)
    if len(found.milliseconds) != len(bodies) or not all(0 <= one < math.inf for one in found.milliseconds):
        raise HostFailed(
            f"it cannot measure the model on its CPU: {found.refused or 'no times'}",
            where=host.name,
            next_step=f"clusteradm health --limit {host.name} says whether its runtime works",
        )
    taken = dict(zip(bodies, found.milliseconds, strict=True))
    return [taken[each] for each in sums]
