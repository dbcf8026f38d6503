"""Versions in the cluster's model repository, as the head lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clusteradm.errors import HostFailed
from clusteradm.inventory import Cluster
from clusteradm.models.manifest import Tensor
from clusteradm.models.repository import Repository
from clusteradm.transport import Connections

_SECONDS = 60.0


@dataclass(frozen=True)
class Details:
    """Manifest of a version. `bytes`: size of the .tflite file; `labels`: number of labels, None where it has none.

    `min_runtime`: minimum Edge TPU runtime version, None where the model does not say. `tpu_operations`: how many run
    on the Edge TPU; `cpu_operations`: how many do not, by name.
    """

    sha256: str
    bytes: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: int | None
    min_runtime: int | None
    tpu_operations: int
    cpu_operations: Mapping[str, int]
    description: str


@dataclass(frozen=True)
class ModelVersion:
    """One version. `path`: its directory in the cluster's shared file system, the same on every host; `details`: None
    where the manifest is damaged."""

    name: str
    version: int
    path: str
    details: Details | None

    def to_json(self) -> dict[str, Any]:
        """The version as JSON values; the keys of a damaged manifest are left out."""
        about = asdict(self.details) if self.details else {}
        return {"name": self.name, "version": self.version, "path": self.path, **about}


@dataclass(frozen=True)
class Catalogue:
    """Versions by name and number. `left_out`: how many more there are than the head lists."""

    versions: tuple[ModelVersion, ...]
    left_out: int = 0


def catalogue(connections: Connections, cluster: Cluster) -> Catalogue:
    """Every version in the repository. Raises HostUnreachable, and HostFailed for an answer that is not understood."""
    place = {"shared": cluster.setting("cluster_shared"), "user": cluster.setting("cluster_user")}
    reply = connections.node(cluster.head).call("repository-list", timeout=_SECONDS, **place)
    try:
        versions = tuple(
            ModelVersion(str(one["name"]), int(one["version"]), str(one["path"]), _details(one["manifest"]))
            for one in reply["versions"]
        )
        return Catalogue(versions, int(reply["left_out"]))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise HostFailed("its list of models is damaged", where=cluster.head.name) from None


def one_version(connections: Connections, cluster: Cluster, name: str, version: int | None) -> ModelVersion:
    """A version, or the latest. Raises UsageError for what there is not, with what there is."""
    stored, manifest = Repository(connections, cluster).find(name, version)
    return ModelVersion(stored.name, stored.version, stored.path, _details(manifest))


def _details(manifest: Any) -> Details | None:
    """The manifest, typed; None where it does not have the shape of one."""
    try:
        return Details(
            sha256=str(manifest["sha256"]),
            bytes=int(manifest["bytes"]),
            inputs=tuple(_tensor(one) for one in manifest["inputs"]),
            outputs=tuple(_tensor(one) for one in manifest["outputs"]),
            labels=_number(manifest.get("labels")),
            min_runtime=_number(manifest.get("min_runtime")),
            tpu_operations=int(manifest["tpu_operations"]),
            cpu_operations={str(name): int(count) for name, count in manifest["cpu_operations"].items()},
            description=str(manifest.get("description", "")),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None


def _tensor(one: Mapping[str, Any]) -> Tensor:
    scale = one.get("scale")
    return Tensor(
        name=str(one["name"]),
        shape=tuple(int(size) for size in one["shape"]),
        dtype=str(one["dtype"]),
        scale=None if scale is None else float(scale),
        zero_point=int(one.get("zero_point", 0)),
        dynamic=bool(one.get("dynamic", False)),
    )


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
