"""One line of a job's results.jsonl."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.job_names import OUTPUT_FILE


@dataclass(eq=False, repr=False)
class OutputTensor(Record):
    """One output of a model that is no classifier. `file`: where it lies if it is too large for the line."""

    name: str = ""
    file: Optional[str] = field(default=None, metadata=limits(OUTPUT_FILE))


@dataclass(eq=False, repr=False)
class Result(Record):
    """The result of one input: classes with "class", "label" and "score", or output tensors, or an error.

    `clipped`: the share of its numbers that had to be cut to the range of the model's input.
    """

    input: str
    index: int
    top: Tuple[Dict[str, Any], ...] = ()
    outputs: Tuple[OutputTensor, ...] = ()
    error: Optional[str] = None
    clipped: Optional[float] = None
