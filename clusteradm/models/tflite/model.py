"""Properties of a .tflite file: its tensors, its operations, the Edge TPU packages in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from clusteradm.node.spec.wire.manifest import Tensor


@dataclass(frozen=True)
class Package:
    """Contents of one edgetpu-custom-op. Bytes of parameters: kept on the chip, or streamed for every inference."""

    min_runtime: int
    compiler: str
    cached_bytes: int
    streamed_bytes: int


@dataclass(frozen=True)
class Model:
    """One model. `cpu_operations`: the number of each kind of operation that stays on the CPU.

    All but `subgraphs` is of the first subgraph; a model with control flow has more.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tpu_operations: int
    cpu_operations: Mapping[str, int] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    description: str = ""
    subgraphs: int = 1

    @property
    def min_runtime(self) -> int | None:
        """The RuntimeVersion that libedgetpu needs at least; None where the file does not say."""
        return max((package.min_runtime for package in self.packages), default=None)

    @property
    def classes(self) -> int | None:
        """Number of classes of a classifier; None where the model is none by its shape."""
        if len(self.outputs) != 1:
            return None
        shape = self.outputs[0].shape
        return shape[-1] if shape and shape[-1] > 1 and prod(shape) == shape[-1] else None
