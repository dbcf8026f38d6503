"""Desired state of serving as it is on the head: read, changed, and followed by the boards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from clusteradm.errors import HostFailed, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.serving import HEAD_HTTP_PORT, HTTP_PORT, DesiredState
from clusteradm.node.spec.wire.serving_requests import (
    AskServing,
    AskServingLog,
    Desired,
    ServingStatus,
    ShowServing,
    StoreServing,
)
from clusteradm.serving.rollout import Progress, judge
from clusteradm.transport import Connections

_MOST_TRIES = 20  # of a change, where others change it as well
_ANSWER = 60.0
_LOOK_SECONDS = 0.5  # between two questions to the boards
_AWAY_SECONDS = 10.0  # for which a board that does not answer is waited for


def servers(cluster: Cluster) -> tuple[Host, ...]:
    """The hosts that have a server."""
    computes = cluster.setting("cluster_head_computes")
    return tuple(host for host in cluster.hosts.values() if computes or host.name != cluster.head.name)


def places(cluster: Cluster) -> dict[str, str]:
    """ADDRESS:PORT of the servers' HTTP, by host."""
    return {
        host.name: f"{host.cluster_ip}:{HEAD_HTTP_PORT if host.name == cluster.head.name else HTTP_PORT}"
        for host in servers(cluster)
    }


class Serving:
    """Serving on one cluster. All methods raise HostUnreachable and HostFailed for the head."""

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._connections, self._cluster = connections, cluster
        self._node = connections.node(cluster.head)
        self._shared: str = cluster.setting("cluster_shared")
        self._places = places(cluster)

    def show(self) -> Desired:
        """The state, whether the head is set up or not."""
        return self._node.call(ShowServing(self._shared), timeout=_ANSWER)

    def require(self) -> DesiredState:
        """The state. Raises UsageError where the cluster does not serve."""
        desired = self.show()
        if not desired.ready:
            raise UsageError(
                f"{self._cluster.head.name} does not serve yet", next_step="set it up: clusteradm serve up"
            )
        return desired.state

    def change(self, make: Callable[[DesiredState], DesiredState], *, always: bool = False) -> Desired:
        """Store what `make` makes of the state, which is called again where another changed it meanwhile.

        What changes nothing is not stored, but `always`, so that the boards look at the labels anew.
        """
        desired = self.show()
        for _ in range(_MOST_TRIES):
            new = make(desired.state)
            if new == desired.state and not always:
                return desired
            desired = self._node.call(StoreServing(self._shared, new), timeout=_ANSWER)
            if desired.stored:
                return desired
        raise HostFailed(
            f"the desired state was changed by others {_MOST_TRIES} times meanwhile",
            where=self._cluster.head.name,
            next_step="run the command again",
        )

    def status(self) -> ServingStatus:
        """What the boards and HAProxy say now."""
        return self._node.call(AskServing(self._places), timeout=_ANSWER)

    def follow(self, desired: DesiredState, seconds: float, model: str | None = None) -> Iterator[Progress]:
        """How far the boards are, again and again, until all that answer have followed, or the time is over.

        A later state counts instead, which the boards follow too: the head's own, where it has moved models since.
        """
        asked = tuple(self._places)
        started = time.monotonic()
        while True:
            status = self.status()
            # Afterwards: it is to be no older than what a board has followed.
            desired = max(desired, self.show().state, key=lambda state: state.revision)
            progress = judge(desired, status, asked, model)
            yield progress
            gone = time.monotonic() - started
            # One that does not answer may have just been restarted.
            away = [board for board in progress.lacking if board.away]
            if gone > seconds or (not progress.loading and (not away or gone > _AWAY_SECONDS)):
                return
            time.sleep(_LOOK_SECONDS)

    def log(self, host: Host, lines: int, *, balancer: bool = False) -> tuple[str, ...]:
        """The last lines of the log of a host's server, or of HAProxy."""
        return self._connections.node(host).call(AskServingLog(lines, balancer), timeout=_ANSWER).lines
