"""Devices: the Edge TPUs of this machine as the kubelet gives them out, healthy or not, by health's states."""

from __future__ import annotations

from dataclasses import dataclass

from clusteradm.errors import ClusteradmError
from clusteradm.health import tpu
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.health.tpu import usb
from clusteradm.health.tpu.facts import Accelerator, Card, Facts, Owner
from clusteradm.node.spec.wire.job_names import SERVER
from clusteradm.node.spec.wire.node import Probe
from clusteradm.transport import Node

_SECONDS = 60.0
# States in which a TPU works, only slower: no reason to take it from a pod, nor to keep it from one.
_SLOW = ("THROTTLED", "HOT")
_NEW = (
    "NEW: its firmware is not loaded, and its device node changes when it is, which a container would not follow: use"
    " it once on the host, as clusteradm health does"
)


@dataclass(frozen=True)
class Device:
    """An Edge TPU. `id`: its PCI address, or usb:PORT; `path`: of its device node, empty where there is none; `numa`:
    its memory node.

    `reason`: why the kubelet may not give it out; empty where it may.
    """

    id: str
    path: str
    reason: str
    numa: int | None = None

    @property
    def healthy(self) -> bool:
        return not self.reason


class Watch:
    """The devices of this machine, by a node program of its own. `user`: the cluster user, whose ranks are jobs."""

    def __init__(self, user: str) -> None:
        self._user = user
        self._node: Node | None = None

    def look(self) -> tuple[Device, ...]:
        """The devices now, in the order of their addresses. Raises ClusteradmError."""
        node = self._node or Node.local()
        # One that has failed is not asked again.
        self._node = None
        try:
            document = node.call(Probe(("tpu",), {"user": self._user}), timeout=_SECONDS).document
            found = read(document)
        except ClusteradmError:
            node.close()
            raise
        self._node = node
        return found

    def close(self) -> None:
        """End the node program."""
        if self._node is not None:
            self._node.close()


def read(document: object) -> tuple[Device, ...]:
    """The devices in a probe's document. Raises ClusteradmError where the probe failed."""
    facts = tpu_facts.read(document)
    if facts.error is not None:
        raise ClusteradmError(f"the Edge TPUs could not be looked at: {facts.error}")
    on_usb = (_accelerator(accelerator, facts) for accelerator in facts.accelerators)
    return (*(_device(card, facts) for card in facts.cards), *on_usb)


def _device(card: Card, facts: Facts) -> Device:
    finding = tpu.by_itself(card.address, card, facts)
    driver = facts.devices.get(card.address)
    reason = "" if finding.state in (*tpu.USABLE, *_SLOW) else f"{finding.state}: {finding.cause}"
    if driver is not None and not reason and driver.owned:
        reason = _taken(driver.owner)
    path = driver.path if driver is not None else ""
    return Device(card.address, path, reason, card.numa if card.numa is not None and card.numa >= 0 else None)


def _accelerator(accelerator: Accelerator, facts: Facts) -> Device:
    finding = usb.by_itself(accelerator.address, accelerator, facts)
    reason = "" if finding.state in tpu.USABLE else f"{finding.state}: {finding.cause}"
    reason = reason or ("" if accelerator.ready else _NEW) or _taken(accelerator.owner)
    return Device(accelerator.address, accelerator.path or "", reason)


def _taken(owner: Owner | None) -> str:
    """Why a device that this process has may not be given out; empty where it is a pod's."""
    # One that is not seen is a pod's: the plugin sees the processes of its machine (hostPID), else none at all.
    if owner is None or owner.pod or not (owner.job or owner.command):
        return ""
    by = f"job {owner.job}" if owner.job and owner.job != SERVER else f"process {owner.pid}: {owner.command}"
    return f"BUSY: it is in use by {by}, which is in no pod"
