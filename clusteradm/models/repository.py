"""Model repository of the cluster: models prepared here, stored on the head, verified from every host."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.errors import ClusteradmError, HostFailed, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.models import advice
from clusteradm.models import labels as label_files
from clusteradm.models.manifest import build, check_name
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import Model
from clusteradm.node.spec.wire.manifest import LABELS, MODEL, Manifest
from clusteradm.node.spec.wire.repository import (
    FOR_CPU,
    FOR_TPU,
    TAKEN,
    UNCHANGED,
    AddModel,
    Digests,
    ShowModel,
    VerifyModel,
)
from clusteradm.transport import Connections

# edgetpu_version() of libedgetpu: "BuildLabel(...), RuntimeVersion(14)".
_RUNTIME = re.compile(r"RuntimeVersion\((\d{1,9})\)")

# The most bytes of a model file: it is held in memory here and on a board, and published models stay far below.
_MOST_MODEL = 1 << 30
# The head lists no larger one (64 KiB).
_MOST_MANIFEST = 60 << 10

# An NFS client may remember for this long (Linux: acdirmax) that a folder lacks a name. Seconds.
_CACHED = 60.0
# For the trial of a model on a board, after that.
_LOADING = 60.0


@dataclass(frozen=True)
class Upload:
    """A model ready to be stored: its manifest, its files, and warnings for its owner."""

    manifest: Manifest
    model: Model
    files: dict[str, bytes]
    warnings: tuple[str, ...]

    @property
    def digests(self) -> dict[str, str]:
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}


@dataclass(frozen=True)
class Stored:
    """One version in the repository. `state`: "added" or "unchanged"."""

    name: str
    version: int
    path: str
    state: str


@dataclass
class Verified:
    """The hosts that read the files as they were sent, and the errors of the others. `refused`: why the runtimes of the
    hosts that could try it cannot load the model, None for one that can."""

    hosts: list[str] = field(default_factory=list)
    failed: dict[str, ClusteradmError] = field(default_factory=dict)
    refused: dict[str, str | None] = field(default_factory=dict)


def prepare(
    path: Path,
    name: str,
    labels: Path | None = None,
    *,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    layout: str | None = None,
) -> Upload:
    """Read and check a model file; no connection is made.

    Raises UsageError for what is no model (NotAModel), no name, cannot be read, or cannot be run by any node. The
    labels are those of `labels`, else those inside the model itself; they are stored one per class. `mean`, `std`,
    `layout`: how pictures are fed, where the model's metadata and the type of its input do not say it, or wrongly.
    """
    check_name(name)
    data = regular.read(path, _MOST_MODEL)
    where = regular.readable(path)
    model = inspect(data, where)
    advice.check(model, where)
    found = label_file(labels, model.classes) if labels is not None else None
    problems: list[str] = []
    if found is None:
        found = _labels_inside(data, model, problems)
    files = {MODEL: data}
    if found:
        files[LABELS] = label_files.render(found)
    manifest = build(name, data, model, found, files.get(LABELS), advice.feed(model, mean, std, layout))
    size = len(json.dumps(manifest.to_json(), indent=2))
    if size > _MOST_MANIFEST:
        raise NotAModel(
            f"its inputs, outputs and operations take {size:,} bytes to describe, more than {_MOST_MANIFEST:,}",
            where=where,
            next_step="no usual model has so many of them: is it the right file?",
        )
    return Upload(manifest, model, files, (*advice.warnings(manifest, model, path.name), *problems))


def label_file(path: Path, classes: int | None) -> tuple[str, ...]:
    """The labels of a file that the user names. Raises UsageError."""
    where = regular.readable(path)
    try:
        text = regular.read(path, label_files.MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("no text in UTF-8", where=where, next_step="one label per line") from error
    found = label_files.parse(text, classes, where)
    if not found:
        raise UsageError("no label in it", where=where, next_step="one label per line")
    return found


def _labels_inside(data: bytes, model: Model, problems: list[str]) -> tuple[str, ...]:
    """The labels inside a model; () where it has none, or none that can be its own: then `problems` says so."""
    text = label_files.embedded(data, model.metadata.labels if model.metadata else None)
    if text is None:
        return ()
    try:
        return label_files.parse(text, model.classes)
    except UsageError as error:
        problems.append(f"the labels inside it are left out: {error.what}; give others by --labels")
        return ()


class Repository:
    """The repository on the head's shared directory."""

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._connections = connections
        self._cluster = cluster
        self._shared = cluster.setting("cluster_shared")
        self._user = cluster.setting("cluster_user")

    def add(self, upload: Upload, version: int | None, progress: Callable[[int, int], None] | None = None) -> Stored:
        """Store a model under `version`, or the next one. The same files again are "unchanged".

        Raises UsageError where `version` is there with other files. `progress` is told bytes sent, and bytes in all.
        """
        node = self._connections.node(self._cluster.head)
        digests = upload.digests
        node.put_blobs({digests[name]: data for name, data in upload.files.items()}, progress)
        name = upload.manifest.name
        reply = node.call(AddModel(self._shared, name, version, digests, upload.manifest))
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
        load = FOR_TPU if upload.model.tpu_operations else FOR_CPU

        def look(host: Host) -> Digests:
            request = VerifyModel(self._user, stored.path, tuple(sorted(wanted)), _CACHED, load)
            return self._connections.node(host).call(request, timeout=_CACHED + _LOADING + 60)

        outcome = self._connections.each(hosts, look)
        verified = Verified(failed=dict(outcome.failed))
        for host, reply in outcome.ok.items():
            found = reply.sha256
            wrong = [name for name in sorted(wanted) if found.get(name) != wanted[name]]
            if wrong:
                verified.failed[host] = HostFailed("; ".join(_difference(name, found.get(name)) for name in wrong))
            else:
                verified.hosts.append(host)
                verified.refused[host] = reply.refused
        return verified

    def find(self, name: str, version: int | None) -> tuple[Stored, Manifest]:
        """A version (None: the latest) and its manifest. Raises UsageError, naming what there is."""
        check_name(name)
        request = ShowModel(self._shared, self._user, name, version)
        reply = self._connections.node(self._cluster.head).call(request)
        if reply.manifest is None or reply.version is None:
            if reply.versions:
                there = f"{name} has version " + ", ".join(str(number) for number in reply.versions)
            else:
                there = "deployed are: " + (", ".join(reply.models) or "none")
            wanted = f"model {name}" if version is None else f"version {version} of model {name}"
            raise UsageError(
                f"there is no {wanted} on {self._cluster.head.name}; {there}",
                next_step=f"clusteradm deploy-model FILE.tflite --name {name}",
            )
        return Stored(name, reply.version, reply.path, UNCHANGED), reply.manifest


def _difference(name: str, found: str | None) -> str:
    if found is None:
        return f"{name} is not there: is the shared file system mounted? (clusteradm health)"
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
