"""Servables of other kinds than models, as manifest.json has them: lookup, transform, Python function, ensemble.

What they take and return is in the manifest beside; node/spec/servables checks that all of it fits together.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import Record, WireError, limits

KINDS = LOOKUP, TRANSFORM, PYTHON, ENSEMBLE = ("lookup", "transform", "python", "ensemble")
# A file of a version besides the manifest: in the version's folder, and of a kind that holds data alone.
DATA = r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,79}\.(csv|json|txt|npy)"
# The name of a step, or of a feature.
WORD = "[a-zA-Z_][a-zA-Z0-9_]{0,63}"
# A model in an ensemble: NAME, NAME:VERSION or NAME@LABEL.
MEMBER = "[a-zA-Z0-9_-]{1,255}(:[1-9][0-9]{0,9}|@[a-zA-Z][a-zA-Z0-9_-]{0,62})?"
ENTRY_POINT = "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,99}"
# The group of entry points of installed packages that may be named.
GROUP = "clusteradm.servables"
OPERATIONS = STANDARDISE, ONE_HOT, EMBEDDING, QUANTISE, CONCATENATE = (
    "standardise",
    "one_hot",
    "embedding",
    "quantise",
    "concatenate",
)
BUILT_IN = DECODE, RESIZE, CROP, TOP_K, THRESHOLD = ("decode", "resize", "crop", "top_k", "threshold")
REFUSED, ZEROS = "refused", "zeros"
MOST_TENSORS, MOST_FEATURES, MOST_STEPS, MOST_ROWS = 64, 64, 32, 64
MOST_VALUES = 10000  # of a one-hot feature, or of a mean
MOST_SIDE = 4096
# Of a Python function: MiB, and seconds of one call.
MOST_MEMORY, MOST_SECONDS = 16384, 600.0
_FITS = ("stretch", "pad", "letterbox")  # FITS of manifest.py


@dataclass(eq=False, repr=False)
class Lookup(Record):
    """Table of a vocabulary. `key`, `value`: names of columns, where the first line of a CSV file has them; `default`:
    the value of what is not in it, which is refused without one."""

    table: str = field(metadata=limits(DATA))
    key: Optional[str] = field(default=None, metadata=limits(most=200))
    value: Optional[str] = field(default=None, metadata=limits(most=200))
    default: Any = None


@dataclass(eq=False, repr=False)
class Feature(Record):
    """One operation of a transform. `mean`, `std`: of a standardise, for all or for each of the last dimension;
    `values`: of a one-hot; `table`: of an embedding; `unknown`: what becomes of a value that these do not have;
    `scale`, `zero_point`, `dtype`: of a quantise."""

    op: str = field(metadata=limits(choices=OPERATIONS))
    inputs: Tuple[str, ...] = field(metadata=limits(most=200))
    output: str = field(metadata=limits(WORD))
    mean: Tuple[float, ...] = ()
    std: Tuple[float, ...] = ()
    values: Tuple[Any, ...] = ()
    table: Optional[str] = field(default=None, metadata=limits(DATA))
    unknown: str = field(default=REFUSED, metadata=limits(choices=(REFUSED, ZEROS)))
    scale: Optional[float] = None
    zero_point: int = 0
    dtype: Optional[str] = field(default=None, metadata=limits(choices=("uint8", "int8", "int16")))

    def __post_init__(self) -> None:
        for name in ("mean", "std", "values"):
            if len(getattr(self, name)) > MOST_VALUES:
                raise WireError("more than %d numbers" % MOST_VALUES, "." + name)


@dataclass(eq=False, repr=False)
class PythonFunction(Record):
    """Entry point of an installed package. `memory`: MiB besides what its process has before it is loaded; `seconds`:
    the longest that a call may take."""

    entry_point: str = field(metadata=limits(ENTRY_POINT))
    parameters: Dict[str, Any] = field(default_factory=dict)
    memory: int = 256
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.memory <= MOST_MEMORY:
            raise WireError("MiB, from 1 to %d" % MOST_MEMORY, ".memory")
        if not 0.05 <= self.seconds <= MOST_SECONDS:
            raise WireError("seconds, from 0.05 to %d" % MOST_SECONDS, ".seconds")


@dataclass(eq=False, repr=False)
class Step(Record):
    """One step of an ensemble: `op`, built in, or `model`, which is served besides. `inputs`: of the step -> where it
    comes from: INPUT of the ensemble, or STEP.OUTPUT. `size`: height and width; `most`: rows of the outputs; `least`:
    score."""

    name: str = field(metadata=limits(WORD))
    inputs: Dict[str, str] = field(metadata=limits(most=300))
    op: Optional[str] = field(default=None, metadata=limits(choices=BUILT_IN))
    model: Optional[str] = field(default=None, metadata=limits(MEMBER))
    size: Tuple[int, ...] = ()
    fit: str = field(default="stretch", metadata=limits(choices=_FITS))
    channels: int = 3
    most: int = 0
    least: Optional[float] = None

    def __post_init__(self) -> None:
        if (self.op is None) == (self.model is None):
            raise WireError("a step has either op or model")
        if self.size and (len(self.size) != 2 or not all(1 <= side <= MOST_SIDE for side in self.size)):
            raise WireError("height and width, each from 1 to %d" % MOST_SIDE, ".size")
        if self.channels not in (1, 3):
            raise WireError("1 or 3", ".channels")
        if not 0 <= self.most <= MOST_VALUES:
            raise WireError("a number up to %d" % MOST_VALUES, ".most")


@dataclass(eq=False, repr=False)
class Servable(Record):
    """What a version is that is no model: of `lookup`, `features`, `python`, `steps` that of its kind. `results`: of a
    transform or an ensemble, output -> where it comes from."""

    kind: str = field(metadata=limits(choices=KINDS))
    lookup: Optional[Lookup] = None
    features: Tuple[Feature, ...] = ()
    python: Optional[PythonFunction] = None
    steps: Tuple[Step, ...] = ()
    results: Dict[str, str] = field(default_factory=dict, metadata=limits(most=300))

    def __post_init__(self) -> None:
        if len(self.features) > MOST_FEATURES:
            raise WireError("more than %d features" % MOST_FEATURES, ".features")
        if len(self.steps) > MOST_STEPS:
            raise WireError("more than %d steps" % MOST_STEPS, ".steps")
        has = {
            LOOKUP: self.lookup is not None,
            TRANSFORM: bool(self.features),
            PYTHON: self.python is not None,
            ENSEMBLE: bool(self.steps),
        }
        if [kind for kind in KINDS if has[kind]] != [self.kind]:
            raise WireError("a %s has only what belongs to it" % self.kind)

    @property
    def files(self) -> Tuple[str, ...]:
        """The files of data that it has besides the manifest."""
        tables = [self.lookup.table] if self.lookup is not None else []
        tables += [each.table for each in self.features if each.table is not None]
        return tuple(sorted(set(tables)))

    @property
    def members(self) -> Tuple[str, ...]:
        """The models of its steps, as they are written."""
        return tuple(each.model for each in self.steps if each.model is not None)

    def to_json(self) -> Dict[str, Any]:
        """The JSON object, without what is not said."""
        return _short(asdict(self))


def _short(value: Dict[str, Any]) -> Dict[str, Any]:
    """Without fields that are None or empty, as they are by default."""
    found: Dict[str, Any] = {}
    for name, each in value.items():
        if name in ("steps", "features"):
            each = [_short(one) for one in each]
        elif name in ("lookup", "python") and each is not None:
            each = _short(each)
        if each is not None and each not in ((), [], {}):
            found[name] = each
    return found


def reference(text: str) -> Tuple[str, Optional[int], Optional[str]]:
    """Name, version and label of a MEMBER."""
    name, colon, version = text.partition(":")
    if colon:
        return name, int(version), None
    name, at, label = text.partition("@")
    return name, None, label if at else None
