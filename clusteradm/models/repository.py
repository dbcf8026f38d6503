"""Model repository of the cluster: models stored on the head, found, listed, verified from the hosts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.models.reference import Reference, check_version
from clusteradm.models.upload import Upload
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.repository import (
    FOR_CPU,
    FOR_TPU,
    LACKING,
    TAKEN,
    UNCHANGED,
    UNREADABLE,
    AddModel,
    Digests,
    ListedVersion,
    ListModels,
    ModelFound,
    ModelList,
    ShowModel,
    VerifyModel,
)
from clusteradm.transport import Connections
from clusteradm.transport.sending import MOST_SENT, RECONNECT, Sent

# edgetpu_version() of libedgetpu: "BuildLabel(...), RuntimeVersion(14)".
_RUNTIME = re.compile(r"RuntimeVersion\((\d{1,9})\)")

# Seconds for an answer that needs to look at every version.
_LISTING = 60.0
# An NFS client may remember for this long (Linux: acdirmax) that a folder lacks a name. Seconds.
CACHED = 60.0
# For the trial of a model on a board, after that.
_LOADING = 60.0


@dataclass(frozen=True)
class Stored:
    """One version in the repository. `state`: "added", "repaired" or "unchanged"."""

    name: str
    version: int
    path: str
    state: str


@dataclass
class Verified:
    """The hosts that read the files as they were sent, and the errors of the others. `refused`: why the runtimes of the
    hosts that could try it cannot load the model, None for one that can; others have no runtime, or were too slow."""

    hosts: list[str] = field(default_factory=list)
    failed: dict[str, ClusteradmError] = field(default_factory=dict)
    refused: dict[str, str | None] = field(default_factory=dict)


def _explained(error: HostFailed) -> HostFailed:
    """The error, with what to do about it."""
    if "arrived damaged" in error.what:
        return HostFailed(error.what, where=error.where, next_step="nothing was stored; run the command again")
    if "No space left on device" not in error.what:
        return error
    return HostFailed(
        f"its disk is full, and nothing was stored: {error.what}",
        where=error.where,
        next_step="make room: remove versions (clusteradm model list, then clusteradm model remove NAME:VERSION) "
        "or jobs (clusteradm job list)",
    )


class Repository:
    """The repository on the head's shared directory."""

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._connections = connections
        self._cluster = cluster
        self._shared = cluster.setting("cluster_shared")
        self._user = cluster.setting("cluster_user")

    def add(
        self,
        upload: Upload,
        version: int | None,
        progress: Callable[[int, int], None] | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Stored:
        """Store a model under `version`, or the next one. The same files again are "unchanged", and are not sent.

        A lost connection is sought again for five minutes, and the upload goes on where it was; `on_lost` is called
        then. `progress` is told bytes sent, and in all. Raises UsageError where `version` is none, or is there with
        other files.
        """
        if version is not None:
            check_version(str(version))
        name, digests = upload.manifest.name, upload.digests
        request = AddModel(self._shared, name, version, digests, upload.manifest)
        bodies = {digests[file]: data for file, data in upload.files.items()}
        sent = Sent(progress)
        reply = None
        node = self._connections.node(self._cluster.head)
        for _ in range(MOST_SENT):
            try:
                reply = node.call(request)
                if reply.state != LACKING:
                    break
                node.put_blobs(bodies, sent.tell)
            except HostUnreachable:
                if not sent.anew():
                    raise
                on_lost()
                node = self._connections.reconnect(self._cluster.head, RECONNECT)
            except HostFailed as error:
                raise _explained(error) from error
        if reply is None or reply.state == LACKING:
            what = f"it does not keep the files of the model, which were sent {MOST_SENT} times"
            raise HostFailed(what, where=self._cluster.head.name, next_step="see that nothing else empties its storage")
        if reply.state == TAKEN:
            raise UsageError(
                f"version {version} of {name} is there with other content, and a version never changes",
                where=reply.path,
                next_step="leave --version out for the next number, or name one that is free",
            )
        return Stored(name, reply.version, reply.path, reply.state)

    def verify(self, stored: Stored, upload: Upload, hosts: Sequence[Host]) -> Verified:
        """Compare the sha256 of every file, as each host reads it over the network, with what was sent; and have the
        hosts' runtimes load the model."""
        wanted = upload.digests
        load = FOR_TPU if upload.manifest.tpu_operations else FOR_CPU

        def look(host: Host) -> Digests:
            request = VerifyModel(self._user, stored.path, tuple(sorted(wanted)), CACHED, load)
            return self._connections.node(host).call(request, timeout=CACHED + _LOADING + 60)

        outcome = self._connections.each(hosts, look)
        verified = Verified(failed=dict(outcome.failed))
        for host, reply in outcome.ok.items():
            found = reply.sha256
            wrong = [name for name in sorted(wanted) if found.get(name) != wanted[name]]
            if wrong:
                verified.failed[host] = HostFailed("; ".join(_difference(name, found.get(name)) for name in wrong))
            else:
                verified.hosts.append(host)
                if reply.tried or reply.refused:
                    verified.refused[host] = reply.refused
        return verified

    def list(self) -> ModelList:
        """Every version of every model. Raises HostUnreachable, and HostFailed for a reply that does not fit."""
        return self._list(ListModels(self._shared, self._user))

    def _list(self, request: ListModels) -> ModelList:
        return self._connections.node(self._cluster.head).call(request, timeout=_LISTING)

    def list_of(self, wanted: Reference) -> ModelList:
        """The versions that `chosen` is for: the head lists a limited number, and these may be beyond it."""
        return self._list(ListModels(self._shared, self._user, wanted.name, wanted.version, wanted.label))

    def versions(self, wanted: Reference) -> tuple[ListedVersion, ...]:
        """The one version of a reference that names one, else all of the model, damaged ones too. Errors as for
        `find`."""
        return self.chosen(wanted, self.list_of(wanted))

    def chosen(self, wanted: Reference, listed: ModelList) -> tuple[ListedVersion, ...]:
        """The same, of a list."""
        mine = tuple(one for one in listed.versions if one.name == wanted.name)
        if wanted.version is not None:
            chosen = tuple(one for one in mine if one.version == wanted.version)
        else:
            chosen = tuple(one for one in mine if wanted.label is None or wanted.label in one.labels)
        if not chosen:
            raise self._absent(wanted)
        return chosen

    def _absent(self, wanted: Reference) -> UsageError:
        """The error for what is not listed, with what there is instead."""
        mine = [one for one in self.list_of(Reference(wanted.name)).versions if one.name == wanted.name]
        labels = {label: one.version for one in mine for label in one.labels}
        models = () if mine else sorted({one.name for one in self.list().versions})
        return self.missing(wanted, [one.version for one in mine], labels, models)

    def find(self, wanted: Reference) -> tuple[Stored, Manifest]:
        """A version and its manifest. Raises UsageError where it is not there, naming what there is."""
        found = self.show(wanted, uses=False)
        assert found.version is not None and found.manifest is not None  # noqa: S101 - show has looked
        return Stored(wanted.name, found.version, found.path, UNCHANGED), found.manifest

    def show(self, wanted: Reference, *, uses: bool = True) -> ModelFound:
        """A version that is there, with its manifest, its model's labels, and what uses the model. Errors as for
        `find`."""
        request = ShowModel(self._shared, self._user, wanted.name, wanted.version, wanted.label, uses)
        found = self._connections.node(self._cluster.head).call(request, timeout=_LISTING)
        if found.manifest is None or found.version is None:
            raise self.missing(wanted, found.versions, found.labels, found.models)
        return found

    def missing(
        self, wanted: Reference, versions: Sequence[int], labels: Mapping[str, int], models: Sequence[str] = ()
    ) -> UsageError:
        """The error for a version or a label that is not there. `models`: the others, where there is no such model."""
        name, next_step = wanted.name, f"clusteradm deploy-model FILE.tflite --name {wanted.name}"
        if not versions:
            there = "deployed are: " + ", ".join(models) if models else "clusteradm model list shows those that are"
        elif wanted.label is not None:
            there = "its labels are " + _labels_text(labels) if labels else "it has no labels"
            next_step = f"clusteradm model label {name} {max(versions)} {wanted.label}"
        else:
            there = f"{name} has version " + ", ".join(str(number) for number in versions)
        if not versions or (wanted.version is None and wanted.label is None):
            what = f"model {name}"
        else:
            what = f"version {wanted.version} of model {name}" if wanted.label is None else f"{name}@{wanted.label}"
        return UsageError(f"there is no {what} on {self._cluster.head.name}; {there}", next_step=next_step)


def _labels_text(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{name} (version {version})" for name, version in sorted(labels.items()))


def _difference(name: str, found: str | None) -> str:
    if found is None:
        return f"{name} is not there: is the shared file system mounted? (clusteradm health)"
    if found.startswith(UNREADABLE):
        return f"{name} is {found}: its mount or the head's disk fails (clusteradm model verify)"
    return f"{name} has sha256 {found[:16]}..., not what was sent: its mount shows old or other data"


def too_old(manifest: Manifest, documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The hosts whose libedgetpu is older than the model needs; `documents`: of their probes, by host, with "runtime".

    libedgetpu refuses such a model when it is loaded (driver/package_registry.cc), and only on that host.
    """
    found = []
    for host, document in documents.items():
        runtime = document.get("runtime")
        version = _RUNTIME.search(str(runtime.get("library"))) if isinstance(runtime, Mapping) else None
        if version and manifest.min_runtime is not None and int(version[1]) < manifest.min_runtime:
            found.append(f"{host} ({version[1]})")
    return found
