"""One batch on one host, held on to however often the connection breaks: the batch belongs to the node."""

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

# A node program that dies this often without a word of progress is broken, and not just unlucky.
_DEATHS = 3


class Conversation:
    """Sends one batch to a host and passes its events on, each exactly once."""

    def __init__(
        self,
        connections: Connections,
        host: Host,
        on_event: Callable[[BatchEvent], None],
        on_lost: Callable[[str], None],
        guest: str = "",
    ) -> None:
        """`on_event`: each event of the batch; `on_lost`: the connection broke (the reason) and is taken up again.

        `guest`: the host on whose behalf another one works.
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
        """Apply the batch. Raises HostUnreachable if the host stays away, HostFailed if its program cannot."""
        self._batch = batch
        node = self._node = self._connections.node(self._host, self._guest)
        applied, deaths = False, 0
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
                # The node has never heard of the batch: the line broke before the request was through.
                applied = False
                continue
            except Silent as error:
                self.cancel()
                raise HostFailed(
                    f"the task has said nothing for {self._connections.limits.silent:.0f} s, and was told to stop",
                    where=self._host.name,
                    next_step="see what it waits for; --task-timeout gives it more time",
                ) from error
            except (HostUnreachable, HostFailed) as error:
                deaths = deaths + 1 if isinstance(error, HostFailed) and self._last == seen else 0
                if self._cancelled or deaths >= _DEATHS:
                    raise
                self._on_lost(error.what)
            node = self._node = self._connections.reconnect(
                self._host, within=self._connections.limits.away, guest=self._guest
            )
            applied = True

    def cancel(self) -> None:
        """Tell the node to stop the batch before its next task. May be called from any thread."""
        self._cancelled = True
        if self._node is not None:
            self._node.send(Cancel(self._batch))

    def _listen(self, node: Node, request: Streaming[BatchReply, BatchEnd]) -> None:
        for reply in node.ask(request, timeout=self._connections.limits.silent):
            event = reply.event
            if event.n > self._last:
                self._last = event.n
                self._on_event(event)
