"""manifest.json: the properties of one version of a model, and the files of a version."""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import Record, WireError, decode, limits
from clusteradm.node.spec.wire.servables import DATA, MOST_TENSORS, Servable

MODEL, LABELS, MANIFEST = "model.tflite", "labels.txt", "manifest.json"
# Of a version that is split too: the number of the segment, from 0, and how many there are.
SEGMENT = "segment_%d_of_%d.tflite"
MOST_SEGMENTS = 64
# The files that a version may have besides: model.tflite with its segments, or of another servable its data.
FILE = "%s|segment_[0-9]{1,2}_of_[0-9]{1,2}[.]tflite|%s" % (MODEL.replace(".", "[.]"), DATA)
# The sha256 of all of them, as sha256sum writes and checks it.
SUMS = "SHA256SUMS"
NAME = "[a-zA-Z0-9_-]+"
FORMAT = 1
# What a model is made for, where that is known.
TASKS = CLASSIFIER, DETECTOR, SEGMENTATION, POSE, EMBEDDING = (
    "classifier",
    "detector",
    "segmentation",
    "pose",
    "embedding",
)
# Whole outputs, whatever a model is made for.
RAW = "raw"
METADATA = "metadata"
# How a picture is brought to the size of the input: its sides stretched, or in its own proportions, either at the upper
# left with black around it, as pycoral does, or in the middle with grey (114) around it, as Ultralytics' YOLO does.
FITS = STRETCH, PAD, LETTERBOX = "stretch", "pad", "letterbox"


def sums_text(sums: Dict[str, str]) -> str:
    """SHA256SUMS of a version whose files have these sha256."""
    return "".join("%s  %s\n" % (sums[name], name) for name in sorted(sums))


@dataclass(eq=False, repr=False)
class Tensor(Record):
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


@dataclass(eq=False, repr=False)
class Feed(Record):
    """How pictures are fed. (pixel - mean) / std is the real number, one for all channels or one for each.

    `layout`: nhwc, nchw, None for what the shape says; `pictures`: whether the metadata says that it takes these;
    `fit`: None for the usual of the model's kind; `rate`: samples of sound a second, None for the usual.
    """

    mean: Tuple[float, ...] = ()
    std: Tuple[float, ...] = ()
    layout: Optional[str] = field(default=None, metadata=limits(choices=("nhwc", "nchw")))
    source: str = ""  # of the mean: METADATA, or the user
    pictures: Optional[bool] = None
    fit: Optional[str] = field(default=None, metadata=limits(choices=FITS))
    rate: Optional[int] = None

    def __post_init__(self) -> None:
        # What the ranks divide by.
        if self.rate is not None and not 0 < self.rate < 1 << 31:
            raise WireError("no number of samples a second", ".rate")
        if len(self.mean) > 4 or len(self.std) > 4 or any(value <= 0 for value in self.std):
            raise WireError("not the mean and the deviation of a picture's channels")


@dataclass(eq=False, repr=False)
class Segment(Record):
    """One of the segments that a model is split into, for a pipeline of Edge TPUs. The first takes what the model
    takes, each other what those before it give, by the names of the tensors."""

    sha256: str
    bytes: int
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    tpu_operations: int
    cached_bytes: int
    streamed_bytes: int


@dataclass(eq=False, repr=False)
class Manifest(Record):
    """manifest.json of one version. Bytes of parameters: kept on the chip, or streamed for every inference.

    `task`: None where it is not known; `threshold`: classes with a lower score are no answer; `servable`: of what is no
    model, whose `sha256` is that of its definition, and `bytes` those of its files; `segments`: the same model in
    parts, each a file of the version; `tokens`: the compiler's, in hexadecimal digits: models with a common one were
    compiled together, and share the chip's memory.
    """

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
    feed: Optional[Feed] = None
    task: Optional[str] = field(default=None, metadata=limits(choices=TASKS))
    threshold: Optional[float] = None
    servable: Optional[Servable] = None
    segments: Tuple[Segment, ...] = ()
    tokens: Tuple[str, ...] = field(default=(), metadata=limits("[0-9a-f]{16}"))

    def __post_init__(self) -> None:
        if self.servable is not None and not len(self.inputs) <= MOST_TENSORS >= len(self.outputs):
            raise WireError("more than %d inputs or outputs" % MOST_TENSORS)
        if self.manifest_version != FORMAT:
            raise WireError("format %d; this program reads %d" % (self.manifest_version, FORMAT), ".manifest_version")
        if len(self.segments) == 1 or len(self.segments) > MOST_SEGMENTS:
            raise WireError("2 to %d segments, or none" % MOST_SEGMENTS, ".segments")

    @classmethod
    def from_json(cls, document: Any) -> "Manifest":
        """The manifest that a JSON object holds. Raises WireError where it does not fit."""
        return decode(cls, document)

    def to_json(self) -> Dict[str, Any]:
        """The JSON object."""
        document = asdict(self)
        for key in ("version", "feed", "task", "threshold", "servable"):
            if document[key] is None:
                del document[key]
        if self.servable is not None:
            document["servable"] = self.servable.to_json()
        if not document["segments"]:
            del document["segments"]
        if not self.tokens:
            del document["tokens"]
        for key in ("fit", "rate"):
            if "feed" in document and document["feed"][key] is None:
                del document["feed"][key]
        return document
