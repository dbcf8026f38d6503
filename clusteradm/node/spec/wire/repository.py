"""Requests about the model repository, CLUSTER_SHARED/models/NAME/VERSION/."""

import re
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, WireError, limits
from clusteradm.node.spec.wire.manifest import FILE, MANIFEST, NAME, SUMS, Manifest
from clusteradm.node.spec.wire.request import Request
from clusteradm.node.spec.wire.versions import LABEL, MOST_VERSION, Use

FOR_TPU, FOR_CPU = "tpu", "cpu"
ADDED, REPAIRED, UNCHANGED, TAKEN, LACKING = "added", "repaired", "unchanged", "taken", "lacking"
# Instead of a sha256, with the reason behind it: the file is there and cannot be read.
UNREADABLE = "unreadable"


@dataclass(eq=False, repr=False)
class Addition(Record):
    """Outcome of an addition. "taken": that version is there with other files, and stays as it is; "repaired": it was
    there with these files, but they were damaged since; "lacking": not all bodies are here, and nothing was done."""

    state: str = field(metadata=limits(choices=(ADDED, REPAIRED, UNCHANGED, TAKEN, LACKING)))
    version: int
    path: str


@dataclass(eq=False, repr=False)
class AddModel(Request[Addition]):
    """Store a model whose files came as bodies (name -> sha256), which are removed then.

    Without a version: under the next one, or the latest where that has these very files.
    """

    shared: str
    name: str = field(metadata=limits(NAME))
    version: Optional[int]
    files: Dict[str, str]
    manifest: Manifest
    do = names.REPOSITORY_ADD

    def __post_init__(self) -> None:
        if self.version is not None and not 0 < self.version <= MOST_VERSION:
            raise WireError("no version: whole numbers from 1 to %d" % MOST_VERSION, ".version")
        for name in self.files:
            if not re.fullmatch(FILE, name) or name in (MANIFEST, SUMS):
                raise WireError("%s is no file of a version" % ascii(name)[:80], ".files")


@dataclass(eq=False, repr=False)
class Digests(Record):
    """The sha256 of each file, None where it is not there, "unreadable: REASON" where it cannot be read. `tried`:
    whether the host's runtime could try to load the model; `refused`: why it cannot load it."""

    sha256: Dict[str, Optional[str]]
    tried: bool = False
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
    """One version; without a manifest there is no such version, and `models`, `versions` and `labels` say what there
    is. `uses`: of every version, where they were asked for."""

    models: Tuple[str, ...]
    versions: Tuple[int, ...]
    version: Optional[int]
    path: str
    manifest: Optional[Manifest]
    labels: Dict[str, int] = field(default_factory=dict)
    uses: Tuple[Use, ...] = ()


@dataclass(eq=False, repr=False)
class ShowModel(Request[ModelFound]):
    """Ask for a version, the one that `label` is, or the latest; `uses`: and for what uses the model's versions."""

    shared: str
    user: str
    name: str = field(metadata=limits(NAME))
    version: Optional[int]
    label: Optional[str] = field(default=None, metadata=limits(LABEL))
    uses: bool = False
    do = names.REPOSITORY_SHOW


@dataclass(eq=False, repr=False)
class ListedVersion(Record):
    """One version; `manifest`: None where it is damaged. `sums`: the sha256 of its files, as they were stored; {} where
    that is damaged, None where it was never written."""

    name: str = field(metadata=limits(NAME))
    version: int
    path: str
    manifest: Optional[Manifest]
    labels: Tuple[str, ...] = field(default=(), metadata=limits(LABEL))
    sums: Optional[Dict[str, str]] = None


@dataclass(eq=False, repr=False)
class ModelList(Record):
    """Versions by name and number. `left_out`: how many more there are than a reply has room for; `damaged`: files of
    labels and folders of models that cannot be read, in words."""

    versions: Tuple[ListedVersion, ...]
    left_out: int
    damaged: Tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class ListModels(Request[ModelList]):
    """Ask for every version of every model; or of one, those with this number, or this label."""

    shared: str
    user: str
    name: Optional[str] = field(default=None, metadata=limits(NAME))
    version: Optional[int] = None
    label: Optional[str] = field(default=None, metadata=limits(LABEL))
    do = names.REPOSITORY_LIST


@dataclass(eq=False, repr=False)
class Copies(Record):
    """The copies of models on a host, by their sha256. `mended`: those that were damaged, and are well again;
    `removed`: how many were not wanted; `failed`: why one could not be made."""

    made: Tuple[str, ...] = field(default=(), metadata=limits("[0-9a-f]{64}"))
    mended: Tuple[str, ...] = field(default=(), metadata=limits("[0-9a-f]{64}"))
    removed: int = 0
    failed: Dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class KeepCopies(Request[Copies]):
    """Keep copies of these models (sha256 -> path on the share) on this host's disk, and of no others; `others`: leave
    those as they are."""

    user: str
    models: Dict[str, str]
    others: bool = False
    do = names.REPOSITORY_COPIES


@dataclass(eq=False, repr=False)
class ModelTimes(Record):
    """Milliseconds of one inference of each model, in the order of the request; fewer where one cannot be run, and
    `refused` says why."""

    milliseconds: Tuple[float, ...]
    refused: Optional[str] = field(default=None, metadata=limits(most=2000))


@dataclass(eq=False, repr=False)
class TimeModels(Request[ModelTimes]):
    """Ask what one inference takes of each of these models, which came as bodies (sha256) and are removed then, on the
    CPU of this host."""

    user: str
    models: Tuple[str, ...] = field(metadata=limits("[0-9a-f]{64}"))
    do = names.MODEL_TIMES
