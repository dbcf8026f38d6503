"""One batch of tasks on one host. It belongs to the node: a lost connection is reopened, and its events resumed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import Apply, BatchEnd, BatchEvent, BatchReply, Cancel, Follow
from clusteradm.node.spec.wire.request import Streaming
from clusteradm.transport import Node, NodeError, Silent

if TYPE_CHECKING:
    from clusteradm.transport import Connections

# The node program is given up after this many failures in a row without a new event.
_MOST_FAILURES = 3
# A host is given up after this many connections in a row that were lost within _SHORT seconds.
_MOST_DROPS, _SHORT = 20, 60.0
# Events that a batch may have: those of its tasks, and the lines of their output, of which a node sends two a second.
_EVENTS_PER_TASK, _MORE_EVENTS, _EVENTS_PER_SECOND = 4, 100, 10


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
        self._tasks = 0
        self._last = 0
        self._events = 0
        self._began = self._heard = time.monotonic()
        self._cancelled = False
        self._uploading = False  # file bodies; the batch is not at the host yet
        self._order = threading.Lock()  # of the end of the upload and of cancel()

    def run(self, batch: str, request: Mapping[str, Any], blobs: Mapping[str, bytes]) -> None:
        """Apply the batch and return at its end. Raises HostUnreachable if the host does not come back, HostFailed."""
        self._batch, self._tasks = batch, len(request["tasks"])
        node = self._node = self._connections.node(self._host, self._guest)
        self._began = self._heard = connected = time.monotonic()
        self._since = time.time()
        applied, failures, drops = False, 0, 0
        while True:
            seen = self._last
            try:
                if applied:
                    self._listen(node, Follow(batch, self._last))
                else:
                    self._upload(node, blobs)
                    self._listen(node, Apply(batch, **request))
                return
            except NodeError:
                if not applied:
                    raise
                # The node does not know the batch: the connection broke before the request arrived.
                applied = False
                continue
            except (HostUnreachable, HostFailed) as error:
                failures = failures + 1 if isinstance(error, HostFailed) and self._last == seen else 0
                drops = drops + 1 if time.monotonic() - connected < _SHORT else 0
                if self._cancelled or failures >= _MOST_FAILURES:
                    raise
                if time.monotonic() - self._heard > self._connections.limits.silent + self._connections.limits.away:
                    raise self._too_silent() from error
                if drops >= _MOST_DROPS:
                    raise HostUnreachable(
                        f"its connection was lost {drops} times in a row, within {_SHORT:.0f} s each; "
                        f"at last: {error.what}",
                        where=self._host.name,
                        next_step="see why on the host: journalctl -u ssh",
                    ) from error
                self._on_lost(error.what)
            node = self._node = self._connections.reconnect(
                self._host, within=self._connections.limits.away, guest=self._guest
            )
            connected = time.monotonic()
            applied = True

    def cancel(self) -> None:
        """Have the node stop the batch before its next task. May be called from any thread."""
        with self._order:
            self._cancelled = True
            uploading = self._uploading
        if uploading:  # a message would come behind the bodies, or in the middle of one; nothing has begun on the host
            self._connections.drop(self._host)
        elif self._node is not None:
            self._node.send(Cancel(self._batch))

    def _upload(self, node: Node, blobs: Mapping[str, bytes]) -> None:
        """Send the file bodies that the host lacks. Raises HostFailed where the batch is cancelled meanwhile."""
        with self._order:
            self._uploading = True
        try:
            if not self._cancelled:
                node.put_blobs(blobs)
        finally:
            with self._order:
                self._uploading = False
        if self._cancelled:
            raise HostFailed("cancelled before its first task", where=self._host.name)

    def _listen(self, node: Node, request: Streaming[BatchReply, BatchEnd]) -> None:
        """Pass on the batch's events. Cancels it and raises HostFailed where one takes too long."""
        try:
            for reply in node.ask(request, timeout=self._connections.limits.silent):
                self._take(reply.event)
        except Silent as error:
            if node.closed:
                raise
            raise self._too_silent() from error

    def _too_silent(self) -> HostFailed:
        with contextlib.suppress(ClusteradmError):
            self.cancel()
        return HostFailed(
            f"the task had no output for {self._connections.limits.silent:.0f} s and was cancelled",
            where=self._host.name,
            next_step="find out what it waits for, or allow more time with --task-timeout",
        )

    def _take(self, event: BatchEvent) -> None:
        self._heard = time.monotonic()
        self._events += 1
        if self._events > self._most_events():
            self._cancelled = True  # it is not asked again
            raise HostFailed(
                f"it sends more events than the batch of {self._tasks} tasks can have ({self._events})",
                where=self._host.name,
                next_step="another program than clusteradm's may answer there: check ansible_python_interpreter",
            )
        if event.n > self._last:
            self._last = event.n
            self._on_event(event)

    def _most_events(self) -> float:
        # The monotonic clock stands still while this machine sleeps; the batch goes on.
        elapsed = max(time.monotonic() - self._began, time.time() - self._since)
        return _EVENTS_PER_TASK * self._tasks + _MORE_EVENTS + _EVENTS_PER_SECOND * elapsed
