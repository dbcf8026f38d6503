"""What the repository knows of a model: its manifest.json (DESIGN section 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

from clusteradm.errors import UsageError

NAME = re.compile(r"[a-zA-Z0-9_-]+")
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Tensor:
    """One input or output. A quantised value q means (q - zero_point) * scale; scale None: values as they are."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0
    dynamic: bool = False  # a dimension is left open: the Edge TPU takes fixed shapes only

    @property
    def quantised(self) -> bool:
        return self.scale is not None and self.dtype in ("uint8", "int8", "int16")

    def __str__(self) -> str:
        shape = "x".join(str(size) for size in self.shape)
        return f"{self.dtype} {shape}" + (
            f" (scale {self.scale:.6g}, zero {self.zero_point})" if self.quantised else ""
        )


@dataclass(frozen=True)
class Package:
    """What one edgetpu-custom-op carries. Bytes of parameters: kept on the chip, or streamed for every inference."""

    min_runtime: int
    compiler: str
    cached_bytes: int
    streamed_bytes: int


@dataclass(frozen=True)
class Model:
    """What a look into the file found."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tpu_operations: int
    cpu_operations: Mapping[str, int] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    description: str = ""

    @property
    def min_runtime(self) -> int | None:
        """The RuntimeVersion that libedgetpu needs at least; None where the file does not say."""
        return max((package.min_runtime for package in self.packages), default=None)

    @property
    def classes(self) -> int | None:
        """How many classes a classifier tells apart; None where the model is no classifier by its shape."""
        if len(self.outputs) != 1:
            return None
        shape = self.outputs[0].shape
        return shape[-1] if shape and shape[-1] > 1 and prod(shape) == shape[-1] else None


@dataclass(frozen=True)
class Manifest:
    """manifest.json of one version."""

    name: str
    sha256: str
    bytes: int
    model: Model
    labels: int | None = None  # lines of labels.txt
    labels_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        model = document.pop("model")
        tpu_bytes = {
            "cached_bytes": sum(package.cached_bytes for package in self.model.packages),
            "streamed_bytes": sum(package.streamed_bytes for package in self.model.packages),
        }
        return {
            "manifest_version": MANIFEST_VERSION,
            **document,
            "inputs": model["inputs"],
            "outputs": model["outputs"],
            "tpu_operations": model["tpu_operations"],
            "cpu_operations": dict(model["cpu_operations"]),
            "min_runtime": self.model.min_runtime,
            "compiler": next((package.compiler for package in self.model.packages), None),
            **tpu_bytes,
            "description": model["description"],
        }


def check_name(name: str) -> str:
    """The name, or UsageError where it may not be a model's (it becomes a folder on every node)."""
    if NAME.fullmatch(name):
        return name
    raise UsageError(
        f"{name!r} cannot be a model's name: letters, digits, _ and - only",
        next_step="for instance: --name mobilenet_v2",
    )
