"""One line of a job's results.jsonl."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import limits
from clusteradm.node.spec.wire.job_names import OUTPUT_FILE


@dataclass(frozen=True)
class OutputTensor:
    """One output of a model that is no classifier. `file`: where it lies if it is too large for the line."""

    name: str = ""
    file: Optional[str] = field(default=None, metadata=limits(OUTPUT_FILE))


@dataclass(frozen=True)
class Result:
    """The result of one input: classes with "class", "label" and "score", or output tensors, or an error."""

    input: str
    index: int
    top: Tuple[Dict[str, Any], ...] = ()
    outputs: Tuple[OutputTensor, ...] = ()
    error: Optional[str] = None
