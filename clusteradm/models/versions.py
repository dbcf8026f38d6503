"""Versions of a model on the cluster: labelled, taken back, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository
from clusteradm.node.spec.wire.versions import (
    ENDPOINT,
    LATEST,
    REFUSED,
    UNCHANGED,
    LabelChange,
    LabelVersion,
    RemoveVersions,
    RollBack,
    Use,
)
from clusteradm.transport import Connections

# The head reads every byte of a version before a label goes there; a board's storage may be slow.
_VERIFYING = 600.0
_MOST_NAMED = 10  # versions in a message


@dataclass(frozen=True)
class Moved:
    """A label after a change. `version`: None where it was taken away; `before`: None where it is new."""

    name: str
    label: str
    version: int | None
    before: int | None
    changed: bool


class Versions:
    """The versions of the models of one cluster. All methods raise HostUnreachable and HostFailed for the head."""

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._node = connections.node(cluster.head)
        self._shared: str = cluster.setting("cluster_shared")
        self._repository = Repository(connections, cluster)

    def label(self, name: str, version: int, label: str) -> Moved:
        """Make `label` the name of a version. Raises UsageError where that is not there, or is damaged."""
        _check_movable(label)
        change = self._node.call(LabelVersion(self._shared, name, label, version), timeout=_VERIFYING)
        if change.state == REFUSED and version in change.versions:
            damaged = f"version {version} of {name} gets no label: {change.reason}"
            raise UsageError(damaged, next_step=f"clusteradm model verify {name}:{version}")
        return self._moved(Reference(name, version), label, change)

    def unlabel(self, name: str, label: str) -> Moved:
        """Take a label away. Raises UsageError where there is none of that name."""
        _check_movable(label)
        change = self._node.call(LabelVersion(self._shared, name, label, None), timeout=_VERIFYING)
        return self._moved(Reference(name, label=label), label, change)

    def roll_back(self, name: str, label: str) -> Moved:
        """Return a label to the version that it was before. Raises UsageError where there is none."""
        _check_movable(label)
        change = self._node.call(RollBack(self._shared, name, label), timeout=_VERIFYING)
        if change.state == REFUSED and label in change.labels:
            raise UsageError(
                f"{name}@{label} stays version {change.labels[label]}: {change.reason}",
                next_step=f"name the version: clusteradm model label {name} VERSION {label}",
            )
        return self._moved(Reference(name, label=label), label, change)

    def _moved(self, wanted: Reference, label: str, change: LabelChange) -> Moved:
        if change.state == REFUSED:
            raise self._repository.missing(wanted, change.versions, change.labels)
        return Moved(wanted.name, label, change.version, change.before, change.state != UNCHANGED)

    def remove(self, wanted: Reference, confirmed: Sequence[int] | None = None) -> tuple[int, ...]:
        """Remove a version, or with none named all of them; the numbers of what was removed. `confirmed`: all that
        there were when somebody agreed.

        Raises UsageError where a version is not there, is used, or has a label, or where there are more than agreed.
        """
        numbers = tuple(confirmed) if confirmed is not None else None
        removal = self._node.call(
            RemoveVersions(self._shared, wanted.name, wanted.version, numbers), timeout=_VERIFYING
        )
        if removal.unconfirmed:
            more = ", ".join(map(str, removal.unconfirmed[:_MOST_NAMED]))
            raise UsageError(
                f"nothing of {wanted} is removed: version {more} was not in the question",
                next_step=f"see what there is, and be asked again: clusteradm model remove {wanted}",
            )
        if removal.uses:
            first = removal.uses[0]
            raise UsageError(
                f"{wanted} is not removed: it is used by {uses_text(removal.uses)}",
                next_step=f"serve another version, or none of it: clusteradm serve undeploy {first.name}"
                if first.kind == ENDPOINT
                else f"wait for the end of it, or end it: clusteradm job cancel {first.name}",
            )
        if removal.labels:
            label = removal.labels[0]
            raise UsageError(
                f"{wanted} is not removed: it is labelled {', '.join(removal.labels)}",
                next_step=f"move the label: clusteradm model label {wanted.name} VERSION {label}\n"
                f"  or take it away: clusteradm model unlabel {wanted.name} {label}",
            )
        if not removal.removed:
            raise self._repository.missing(wanted, removal.versions, {})
        return removal.removed


def uses_text(uses: Sequence[Use]) -> str:
    """What uses versions, in words."""
    return ", ".join(f"{use.kind} {use.name}" for use in uses)


def _check_movable(label: str) -> None:
    if label == LATEST:
        raise UsageError(
            f"{LATEST} is always the highest number, and is not moved",
            next_step="take another label, for instance stable",
        )
