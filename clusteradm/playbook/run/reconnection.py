"""The modules that reconnect to the host: wait_for_connection and reboot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusteradm.errors import ClusteradmError
from clusteradm.inventory import Host
from clusteradm.node.spec.modules import normalise
from clusteradm.playbook import result as results
from clusteradm.playbook.run.planner import Planned
from clusteradm.transport.boot import await_boot

if TYPE_CHECKING:
    from clusteradm.transport import Connections

Pause = Callable[[float], None]


def wait(planned: Planned, host: Host, connections: Connections, pause: Pause) -> dict[str, Any]:
    """Run wait_for_connection: open a new connection within the task's timeout; returns its result."""
    request = planned.request or {}
    if request["check"]:
        return results.skipped("check mode")
    options, started = normalise("wait_for_connection", request["args"]), time.monotonic()
    pause(float(options["delay"]))
    connections.drop(host)
    try:
        connections.reconnect(host, within=float(options["timeout"]))
    except ClusteradmError as error:
        return {**results.failed(f"no new connection: {error}"), "elapsed": _since(started)}
    return {"changed": False, "elapsed": _since(started)}


def refused(host: Host) -> dict[str, Any]:
    """The result of a reboot of the machine that this program runs on, which Ansible refuses too."""
    return {**results.failed(f"{host.name} is this machine: reboot it by hand, then run this again"), "rebooted": False}


def reboot(
    planned: Planned, begun: dict[str, Any], host: Host, connections: Connections, pause: Pause
) -> dict[str, Any]:
    """Wait until a host has rebooted. `begun`: the node's result when it began; returns the task's result.

    The host has rebooted when the kernel's boot id has changed: a new connection alone may precede the shutdown.
    """
    if begun.get("failed"):
        return begun
    options = normalise("reboot", (planned.request or {})["args"])
    started = time.monotonic()
    try:
        await_boot(connections, host, str(begun.get("boot")), options["reboot_timeout"], pause)
    except ClusteradmError as error:
        return {**results.failed(f"Timed out waiting for the reboot: {error}"), "rebooted": False}
    pause(float(options["post_reboot_delay"]))
    return {"changed": True, "rebooted": True, "elapsed": _since(started)}


def _since(started: float) -> int:
    return int(time.monotonic() - started)
