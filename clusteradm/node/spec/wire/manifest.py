"""manifest.json: the properties of one version of a model, and the files of a version."""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import WireError, decode, limits

MODEL, LABELS, MANIFEST = "model.tflite", "labels.txt", "manifest.json"
NAME = "[a-zA-Z0-9_-]+"
FORMAT = 1


@dataclass(frozen=True)
class Tensor:
    """One input or output. A quantised value q means (q - zero_point) * scale; scale None: values as they are."""

    name: str
    shape: Tuple[int, ...]
    dtype: str
    scale: Optional[float] = None
    zero_point: int = 0
    dynamic: bool = False  # a dimension is left open: the Edge TPU takes fixed shapes only

    @property
    def quantised(self) -> bool:
        return self.scale is not None and self.dtype in ("uint8", "int8", "int16")

    def __str__(self) -> str:
        shape = "x".join(str(size) for size in self.shape)
        text = "%s %s" % (self.dtype, shape)
        if self.scale is None or not self.quantised:
            return text
        return text + " (scale %.6g, zero %d)" % (self.scale, self.zero_point)


@dataclass(frozen=True)
class Manifest:
    """manifest.json of one version. Bytes of parameters: kept on the chip, or streamed for every inference."""

    manifest_version: int
    name: str = field(metadata=limits(NAME))
    sha256: str
    bytes: int
    labels: Optional[int]  # lines of labels.txt
    labels_sha256: Optional[str]
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    tpu_operations: int
    cpu_operations: Dict[str, int]
    min_runtime: Optional[int]  # the RuntimeVersion that libedgetpu needs at least; None where the model does not say
    compiler: Optional[str]
    cached_bytes: int
    streamed_bytes: int
    description: str
    version: Optional[int] = None  # None until it is stored

    def __post_init__(self) -> None:
        if self.manifest_version != FORMAT:
            raise WireError("format %d; this program reads %d" % (self.manifest_version, FORMAT), ".manifest_version")

    @classmethod
    def from_json(cls, document: Any) -> "Manifest":
        """The manifest that a JSON object holds. Raises WireError where it does not fit."""
        return decode(cls, document)

    def to_json(self) -> Dict[str, Any]:
        """The JSON object."""
        document = asdict(self)
        if self.version is None:
            del document["version"]
        return document
