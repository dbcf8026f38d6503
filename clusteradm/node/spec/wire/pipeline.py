"""Pipelines of a job: the segments of its model that their stages run, and a rank's place in one."""

from dataclasses import dataclass
from typing import Optional, Tuple

from clusteradm.node.spec.wire.decode import Record
from clusteradm.node.spec.wire.manifest import Tensor


@dataclass(eq=False, repr=False)
class SegmentFile(Record):
    """What one stage runs. `path`: on every host; `inputs`, `outputs`: those of the segment."""

    path: str
    sha256: str
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]


@dataclass(eq=False, repr=False)
class Pipeline(Record):
    """The segments in the order of their stages; `outputs`: of the whole model, in its order; `compiled`: whether the
    whole model is compiled itself, and so cannot be split again."""

    stages: Tuple[SegmentFile, ...]
    outputs: Tuple[Tensor, ...]
    compiled: bool = False


@dataclass(eq=False, repr=False)
class Stage(Record):
    """Place of a rank in its pipeline. `number`: from 0; `before`, `after`: the ranks of its neighbours, None at the
    ends; `near`: the neighbours that are on its host, with which it shares memory; `link`: what the names of the
    sockets of this attempt and turn begin with; `turn`: how often the pipeline has begun anew in this attempt."""

    number: int
    before: Optional[int]
    after: Optional[int]
    near: Tuple[int, ...]
    link: str
    turn: int = 0
