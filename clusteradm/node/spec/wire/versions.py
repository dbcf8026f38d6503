"""Requests about versions of a model: their labels, their removal. versions.json: what is known of them beside them."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, WireError, limits
from clusteradm.node.spec.wire.manifest import NAME
from clusteradm.node.spec.wire.request import Request

VERSIONS = "versions.json"
MOST_VERSION = (1 << 31) - 1
# A word, so that it is never taken for a version's number.
LABEL = "[a-zA-Z][a-zA-Z0-9_-]{0,62}"
LATEST = "latest"  # not a label that anybody moves: the highest number
STABLE = "stable"
FORMAT = 1
JOB, ENDPOINT = "job", "endpoint"
MOVED, UNCHANGED, REFUSED = "moved", "unchanged", "refused"


@dataclass(eq=False, repr=False)
class Label(Record):
    """A label of a model: the version that it is, and those that it was before, the last first."""

    version: int
    before: Tuple[int, ...] = ()


@dataclass(eq=False, repr=False)
class VersionsFile(Record):
    """versions.json of a model. `last`: the highest number that was removed, not to be given again by itself, unless
    the whole model is removed; `sum`: of all this, so that a label that a disk has changed is not believed."""

    format: int = FORMAT
    last: int = 0
    labels: Dict[str, Label] = field(default_factory=dict)
    sum: str = ""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise WireError("format %d; this program reads %d" % (self.format, FORMAT), ".format")

    def right_sum(self) -> str:
        """The sha256 of its fields but `sum`, as JSON with sorted keys and without spaces."""
        fields = {name: value for name, value in vars(self).items() if name != "sum"}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=vars)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(eq=False, repr=False)
class Use(Record):
    """Something that uses a version, and for which the version has to stay. `kind`: JOB, and `name` is its id; or
    ENDPOINT, and `name` is the model's."""

    kind: str = field(metadata=limits("[a-z]{1,20}"))
    name: str = field(metadata=limits("[a-zA-Z0-9_.-]{1,100}"))
    version: int


@dataclass(eq=False, repr=False)
class LabelChange(Record):
    """Outcome of a change of a label. `version`: what it is now, None for no label; `before`: what it was.

    "refused": nothing was changed, because of `reason`, or because there is no such version among `versions`.
    """

    state: str = field(metadata=limits(choices=(MOVED, UNCHANGED, REFUSED)))
    version: Optional[int] = None
    before: Optional[int] = None
    versions: Tuple[int, ...] = ()
    labels: Dict[str, int] = field(default_factory=dict)
    reason: Optional[str] = field(default=None, metadata=limits(most=2000))


@dataclass(eq=False, repr=False)
class LabelVersion(Request[LabelChange]):
    """Make `label` the name of a version, whose files the head verifies before; of none, where `version` is None."""

    shared: str
    name: str = field(metadata=limits(NAME))
    label: str = field(metadata=limits(LABEL))
    version: Optional[int]
    do = names.REPOSITORY_LABEL


@dataclass(eq=False, repr=False)
class RollBack(Request[LabelChange]):
    """Return a label to the version that it was before, of those that are still there."""

    shared: str
    name: str = field(metadata=limits(NAME))
    label: str = field(metadata=limits(LABEL))
    do = names.REPOSITORY_ROLLBACK


@dataclass(eq=False, repr=False)
class Removal(Record):
    """Outcome of a removal. Where nothing was removed: `uses` or `labels` that hold the version, `unconfirmed`
    versions, or `versions`."""

    removed: Tuple[int, ...] = ()
    versions: Tuple[int, ...] = ()
    labels: Tuple[str, ...] = field(default=(), metadata=limits(LABEL))
    uses: Tuple[Use, ...] = ()
    unconfirmed: Tuple[int, ...] = ()


@dataclass(eq=False, repr=False)
class RemoveVersions(Request[Removal]):
    """Remove a version, or the whole model with its labels; not what is used, nor a single version with a label.

    `confirmed`: the versions that the whole model had when somebody agreed to its removal; with others, nothing goes.
    """

    shared: str
    name: str = field(metadata=limits(NAME))
    version: Optional[int]
    confirmed: Optional[Tuple[int, ...]] = None
    do = names.REPOSITORY_REMOVE
