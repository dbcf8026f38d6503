"""One batch of tasks on one host. It belongs to the node: a lost connection is reopened, and its events resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import Apply, BatchEnd, BatchEvent, BatchReply, Cancel, Follow
from clusteradm.node.spec.wire.request import Streaming
from clusteradm.transport import Node, NodeError, Silent

if TYPE_CHECKING:
    from clusteradm.transport import Connections

# The node program is given up after this many failures in a row without a new event.
_MOST_FAILURES = 3


class RemoteBatch:
    """Sends one batch to a host and passes on each of its events exactly once."""

    def __init__(
        self,
        connections: Connections,
        host: Host,
        on_event: Callable[[BatchEvent], None],
        on_lost: Callable[[str], None],
        guest: str = "",
    ) -> None:
        """`on_event`: called with each event; `on_lost`: called with the reason when the connection is reopened.

        `guest`: the host on whose behalf `host` does the work (delegate_to).
        """
        self._connections = connections
        self._host = host
        self._on_event = on_event
        self._on_lost = on_lost
        self._guest = guest
        self._node: Node | None = None
        self._batch = ""
        self._last = 0
        self._cancelled = False

    def run(self, batch: str, request: Mapping[str, Any], blobs: Mapping[str, bytes]) -> None:
        """Apply the batch and return at its end. Raises HostUnreachable if the host does not come back, HostFailed."""
        self._batch = batch
        node = self._node = self._connections.node(self._host, self._guest)
        applied, failures = False, 0
        while True:
            seen = self._last
            try:
                if applied:
                    self._listen(node, Follow(batch, self._last))
                else:
                    node.put_blobs(blobs)
                    self._listen(node, Apply(batch, **request))
                return
            except NodeError:
                if not applied:
                    raise
                # The node does not know the batch: the connection broke before the request arrived.
                applied = False
                continue
            except Silent as error:
                self.cancel()
                raise HostFailed(
                    f"the task had no output for {self._connections.limits.silent:.0f} s and was cancelled",
                    where=self._host.name,
                    next_step="find out what it waits for, or allow more time with --task-timeout",
                ) from error
            except (HostUnreachable, HostFailed) as error:
                failures = failures + 1 if isinstance(error, HostFailed) and self._last == seen else 0
                if self._cancelled or failures >= _MOST_FAILURES:
                    raise
                self._on_lost(error.what)
            node = self._node = self._connections.reconnect(
                self._host, within=self._connections.limits.away, guest=self._guest
            )
            applied = True

    def cancel(self) -> None:
        """Have the node stop the batch before its next task. May be called from any thread."""
        self._cancelled = True
        if self._node is not None:
            self._node.send(Cancel(self._batch))

    def _listen(self, node: Node, request: Streaming[BatchReply, BatchEnd]) -> None:
        for reply in node.ask(request, timeout=self._connections.limits.silent):
            event = reply.event
            if event.n > self._last:
                self._last = event.n
                self._on_event(event)
