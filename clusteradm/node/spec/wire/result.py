"""One line of a job's results.jsonl."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.job_names import OUTPUT_FILE


@dataclass(eq=False, repr=False)
class OutputTensor(Record):
    """An output tensor, or a map of classes. `file`: where it lies if it is too large for the line."""

    name: str = ""
    file: Optional[str] = field(default=None, metadata=limits(OUTPUT_FILE))


@dataclass(eq=False, repr=False)
class Result(Record):
    """The result of one input, by the model's task (node/spec/answers.py), or an error.

    `size`: width and height of the picture, of whose pixels places are; `clipped`: the share of its numbers that had to
    be cut to the range of the model's input.
    """

    input: str
    index: int
    top: Tuple[Dict[str, Any], ...] = ()
    objects: Tuple[Dict[str, Any], ...] = ()
    segments: Tuple[Dict[str, Any], ...] = ()
    map: Optional[OutputTensor] = None
    poses: Tuple[Dict[str, Any], ...] = ()
    embedding: Tuple[Optional[float], ...] = ()
    outputs: Tuple[OutputTensor, ...] = ()
    size: Optional[Tuple[int, ...]] = None
    error: Optional[str] = None
    clipped: Optional[float] = None
