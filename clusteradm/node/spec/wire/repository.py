"""Requests about the model repository, CLUSTER_SHARED/models/NAME/VERSION/."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.manifest import NAME, Manifest
from clusteradm.node.spec.wire.request import Request

FOR_TPU, FOR_CPU = "tpu", "cpu"
ADDED, UNCHANGED, TAKEN = "added", "unchanged", "taken"


@dataclass(eq=False, repr=False)
class Addition(Record):
    """Outcome of an addition. "taken": that version is there with other files, and stays as it is."""

    state: str = field(metadata=limits(choices=(ADDED, UNCHANGED, TAKEN)))
    version: int
    path: str


@dataclass(eq=False, repr=False)
class AddModel(Request[Addition]):
    """Store a model whose files came as bodies (name -> sha256).

    Without a version: under the next one, or the latest where that has these very files.
    """

    shared: str
    name: str = field(metadata=limits(NAME))
    version: Optional[int]
    files: Dict[str, str]
    manifest: Manifest
    do = names.REPOSITORY_ADD


@dataclass(eq=False, repr=False)
class Digests(Record):
    """The sha256 of each file, None where it is not there. `refused`: why the host's runtime cannot load the model."""

    sha256: Dict[str, Optional[str]]
    refused: Optional[str] = field(default=None, metadata=limits(most=2000))


@dataclass(eq=False, repr=False)
class VerifyModel(Request[Digests]):
    """Ask for the files' sha256, as this host reads them.

    A file that is not there is looked for again until `within` seconds are over: NFS clients remember for a while what
    a folder lacked. `load`: for what the runtime of this host's ranks tries to load the model, without a TPU.
    """

    user: str
    path: str
    files: Tuple[str, ...]
    within: float
    load: Optional[str] = field(default=None, metadata=limits(choices=(FOR_TPU, FOR_CPU)))
    do = names.REPOSITORY_VERIFY


@dataclass(eq=False, repr=False)
class ModelFound(Record):
    """One version; without a manifest there is no such version, and `models` and `versions` say what there is."""

    models: Tuple[str, ...]
    versions: Tuple[int, ...]
    version: Optional[int]
    path: str
    manifest: Optional[Manifest]


@dataclass(eq=False, repr=False)
class ShowModel(Request[ModelFound]):
    """Ask for a version, or the latest."""

    shared: str
    user: str
    name: str = field(metadata=limits(NAME))
    version: Optional[int]
    do = names.REPOSITORY_SHOW


@dataclass(eq=False, repr=False)
class ListedVersion(Record):
    """One version; `manifest`: None where it is damaged."""

    name: str = field(metadata=limits(NAME))
    version: int
    path: str
    manifest: Optional[Manifest]


@dataclass(eq=False, repr=False)
class ModelList(Record):
    """Versions by name and number. `left_out`: how many more there are than a reply has room for."""

    versions: Tuple[ListedVersion, ...]
    left_out: int


@dataclass(eq=False, repr=False)
class ListModels(Request[ModelList]):
    """Ask for every version of every model."""

    shared: str
    user: str
    do = names.REPOSITORY_LIST
