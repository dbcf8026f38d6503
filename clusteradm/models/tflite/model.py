"""Properties of a .tflite file: its tensors, its operations, the Edge TPU packages in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from clusteradm.models.tflite.metadata import Metadata
from clusteradm.node.spec.feeding import FLOATS, INTEGERS
from clusteradm.node.spec.wire.manifest import Tensor

EIGHT_BITS = ("int8", "uint8")
MOST_BYTES = 1 << 30  # of a model's file


@dataclass(frozen=True)
class Package:
    """Contents of one edgetpu-custom-op. Bytes of parameters: kept on the chip, or streamed for every inference.

    `token`: models with the same one were compiled together, and share the chip's memory; None where nothing is kept.
    """

    min_runtime: int
    compiler: str
    cached_bytes: int
    streamed_bytes: int
    token: int | None = None


@dataclass(frozen=True)
class Model:
    """One model. `cpu_operations`: the number of each kind of operation that stays on the CPU.

    All is of the first subgraph, but for `subgraphs` and `operators`; a model with control flow has more.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tpu_operations: int
    cpu_operations: Mapping[str, int] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    description: str = ""
    subgraphs: int = 1
    # The shape of each input with -1 for a dimension that is left open; () where it has none.
    signatures: tuple[tuple[int, ...], ...] = ()
    # Operations on the CPU with 8-bit inputs and outputs, which a compiler could map to the Edge TPU.
    mapped: int = 0
    # The types of the tensors that operations write, with their numbers of operations.
    work: Mapping[str, int] = field(default_factory=dict)
    # Whether there are 8-bit weights of operations on floating-point numbers.
    hybrid: bool = False
    # The kinds of operations.
    operators: frozenset[str] = frozenset()
    # Whether the first output is of scores: a softmax's, or with their range of 0 to 1.
    scores: bool = False
    # None where it has none, or damaged.
    metadata: Metadata | None = None

    @property
    def min_runtime(self) -> int | None:
        """The RuntimeVersion that libedgetpu needs at least; None where the file does not say."""
        return max((package.min_runtime for package in self.packages), default=None)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of co-compilation, each once."""
        return tuple(dict.fromkeys(package.token for package in self.packages if package.token))

    @property
    def named(self) -> bool:
        """Whether the model itself says that its output is of classes: by scores of them, or by labels."""
        return bool(self.scores or (self.metadata and self.metadata.labels))

    @property
    def classes(self) -> int | None:
        """Number of classes of a classifier; None where the model is none by its shape."""
        if len(self.outputs) != 1 or self.outputs[0].dtype not in (*INTEGERS, *FLOATS):
            return None
        shape = self.outputs[0].shape
        return shape[-1] if shape and shape[-1] > 1 and prod(shape) == shape[-1] else None
