"""Log of Google's edgetpu_compiler as data, with each reason in plain words: what it printed, or its _edgetpu.log file.

Source of the texts: runs quoted in the issues of google-coral/edgetpu (#25, #27, #60, #75, #157, #176, #309, #317,
#461, #601, #708, #829) and in projects that compile YOLO and Frigate's models. The compiler itself is closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from clusteradm.errors import UsageError

MOST_BYTES = 4 << 20
_MOST_LINES = 100_000
_MOST_OPERATIONS = 4096
_MOST_MODELS = 1000
_MOST_TEXT = 300
MAPPED = "Mapped to Edge TPU"

# What a status begins with -> what it means, and what to do.
_STATUSES: tuple[tuple[str, str, str], ...] = (
    (
        "More than one subgraph is not supported",
        "it comes after an operation that is not mapped, and only the part before the first of these runs on the TPU",
        "mend the other operations first; or compile with -a (several parts: each change costs a transfer)",
    ),
    (
        "Operation is working on an unsupported data type",
        "its numbers are not of 8 bits",
        "quantise the model fully: clusteradm model convert",
    ),
    (
        "Operation is otherwise supported, but not mapped due to some unspecified limitation",
        "the compiler cannot map it at this size, or at this place (a QUANTIZE at the very beginning or end is usual)",
        "none needed for one at the beginning or the end; else make it smaller, or use another operation",
    ),
    (
        "Operation not supported",
        "an Edge TPU has no such operation",
        "use another operation: clusteradm model inspect names one",
    ),
    (
        "Operation version not supported",
        "it is of a newer version than the compiler knows",
        "convert the network with an older TensorFlow (2.5 for compiler 16), or without that option",
    ),
    (
        "Tensor has unsupported rank",
        "only the three inner dimensions of its tensors may be larger than 1",
        "make the batch 1, and leave out dimensions",
    ),
    (
        "Filter, bias, or other param is not constant at compile-time",
        "its weights are computed, or are an input",
        "make them constants of the network",
    ),
    (
        "For example, a fully-connected or softmax layer with 2D output",
        "its output has two dimensions, and an Edge TPU computes one row",
        "reshape to one row of numbers with a batch of 1",
    ),
)
# What a line of a failure holds -> what it means, and what to do.
_FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        "dynamic-sized tensors",
        "a tensor has no fixed shape",
        "convert the network with a batch size of 1: clusteradm model convert does",
    ),
    (
        "large activation tensors",
        "the numbers between two layers do not fit the chip's memory",
        "make the input or the first layers smaller",
    ),
    (
        "Model not quantized",
        "it is not quantised",
        "quantise it: clusteradm model convert MODEL --calibration INPUTS --output M.tflite",
    ),
    (
        "Didn't find op for builtin opcode",
        "it has an operation of a newer version than the compiler knows",
        "convert the network with an older TensorFlow (2.5 for compiler 16)",
    ),
    (
        "Model failed in Tflite interpreter",
        "the compiler's TensorFlow Lite cannot load it",
        "convert the network with an older TensorFlow (2.5 for compiler 16)",
    ),
    (
        "timed out",
        "the compiler took too long",
        "give it more time: edgetpu_compiler -t 3600",
    ),
    (
        "Internal compiler error",
        "the compiler gave up; a layer that is too large for the chip is the usual reason",
        "make the input smaller, or look for the layer: edgetpu_compiler -d searches for the part that compiles",
    ),
    (
        "Invalid model",
        "it is no model that the compiler can read",
        "look into it: clusteradm model inspect",
    ),
)
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_FIELDS = {
    "Input model": "input",
    "Input size": "input_bytes",
    "Input": "input",
    "Output model": "output",
    "Output size": "output_bytes",
    "Output": "output",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "remaining_bytes",
    "Off-chip memory used for streaming uncached model parameters": "streamed_bytes",
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operations_in_all",
    "Number of operations that will run on Edge TPU": "on_tpu",
    "Number of operations that will run on CPU": "on_cpu",
}
_ROW = re.compile(r"([A-Za-z][\w.-]{0,99})[ \t]+(\d{1,9})[ \t]+(\S.*)")
_VERSION = re.compile(r"Edge TPU Compiler version (\S{1,50})")
_DONE = re.compile(r"compiled successfully|Compilation succeeded")
_FAILED = re.compile(r"Compilation failed|Internal compiler error|^ERROR|Invalid model")
# Runtime that a compiler's models need at least (libedgetpu's release notes; google-coral/edgetpu#435).
_RUNTIMES = (("16.", 14), ("15.", 13), ("14.", 13), ("2.1.", 13), ("2.0.29", 13), ("2.0.26", 12))


@dataclass(frozen=True)
class Row:
    """Operations of one kind with one status; its meaning in plain words, and what to do."""

    name: str
    count: int
    status: str
    meaning: str
    mend: str

    @property
    def mapped(self) -> bool:
        """Whether they run on the Edge TPU."""
        return self.status.startswith(MAPPED)


@dataclass(frozen=True)
class Log:
    """One compilation. Sizes in bytes, as exact as the log; None for what it does not say. `failure`: why it failed."""

    version: str | None = None
    min_runtime: int | None = None
    compiled: bool = False
    failure: str = ""
    mend: str = ""
    input: str | None = None
    output: str | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    cached_bytes: int | None = None
    remaining_bytes: int | None = None
    streamed_bytes: int | None = None
    subgraphs: int | None = None
    operations_in_all: int | None = None
    on_tpu: int | None = None
    on_cpu: int | None = None
    rows: tuple[Row, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The log as JSON values."""
        return {**asdict(self), "advice": list(advice(self))}


def parse(text: str, where: str) -> list[Log]:
    """The compilations in a log, one for each model. Raises UsageError for what is no log, or of too many."""
    found: list[_Part] = []
    common = _Part()  # what a run says before its first model is about all of them
    named = False
    for whole in text.splitlines()[:_MOST_LINES]:
        line = whole.strip()[:_MOST_TEXT]
        if _VERSION.search(line) or not found:
            found.append(_Part())
            named = False
        if line.startswith("Input model: "):
            if named:
                found.append(common.copy())
            else:
                common, named = found[-1].copy(), True
        if len(found) > _MOST_MODELS:
            raise UsageError(
                f"a log of more than {_MOST_MODELS:,} compilations", where=where, next_step="give a part of it"
            )
        found[-1].read(line)
    logs = [part.log() for part in found]
    logs = [log for log in logs if log.compiled or log.failure or log.rows]
    if not logs:
        raise UsageError(
            "no log of edgetpu_compiler",
            where=where,
            next_step="give what `edgetpu_compiler -s MODEL.tflite` prints, or the file MODEL_edgetpu.log",
        )
    return logs


class _Part:
    """What the lines about one model say."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._rows: list[Row] = []
        self._done = self._failed = False
        self._reason = len(_FAILURES)  # place in _FAILURES: the first of them says most
        self._words = ""

    def copy(self) -> _Part:
        """The same, to be read on; without the operations, which are of one model."""
        other = _Part()
        other.__dict__.update(self.__dict__, _values=dict(self._values), _rows=[])
        return other

    def read(self, line: str) -> None:
        """Take in one line more."""
        self._done = self._done or bool(_DONE.search(line))
        self._failed = self._failed or bool(_FAILED.search(line))
        known = (place for place, (text, _, _) in enumerate(_FAILURES[: self._reason]) if text in line)
        self._reason = next(known, self._reason)
        if not self._words and line.startswith(("Compilation failed:", "ERROR")):
            self._words = line
        version = _VERSION.search(line)
        if version:
            runtimes = (number for start, number in _RUNTIMES if version[1].startswith(start))
            self._values.update(version=version[1], min_runtime=next(runtimes, None))
        name, colon, value = line.partition(":")
        if colon and name in _FIELDS:
            field = _FIELDS[name]
            number = _value(field, value.strip())
            if number is not None:
                self._values[field] = number
            return
        row = _ROW.fullmatch(line)
        if row and len(self._rows) < _MOST_OPERATIONS and not line.startswith("Model compiled"):
            self._rows.append(Row(row[1], int(row[2]), row[3], *_explained(row[3])))

    def log(self) -> Log:
        """The compilation."""
        values, rows = dict(self._values), tuple(self._rows)
        done = self._done or values.get("on_tpu") is not None
        if rows and "on_tpu" not in values:
            values["on_tpu"] = sum(row.count for row in rows if row.mapped)
            values["on_cpu"] = sum(row.count for row in rows if not row.mapped)
        compiled = done or bool(rows and not self._failed)
        failure, mend = ("", "") if compiled or not self._failed else self._failure()
        return Log(compiled=compiled, failure=failure, mend=mend, rows=rows, **values)

    def _failure(self) -> tuple[str, str]:
        """Why the compiler failed, and what to do: by the line that says most."""
        if self._reason < len(_FAILURES):
            return _FAILURES[self._reason][1:]
        return self._words or "the compiler does not say why", "clusteradm model inspect says what it cannot map"


def _value(field: str, text: str) -> Any:
    if field in ("input", "output"):
        return text
    if not field.endswith("_bytes"):
        return int(text) if re.fullmatch(r"\d{1,9}", text) else None
    size = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?(B|KiB|MiB|GiB)", text)
    return round(float(size[1]) * _SIZES[size[2]]) if size else None


def _explained(status: str) -> tuple[str, str]:
    if status.startswith(MAPPED):
        return "it runs on the Edge TPU", ""
    for begin, meaning, mend in _STATUSES:
        if status.startswith(begin):
            return meaning, mend
    return f'the compiler says "{status}"', "look for this text in the issues of google-coral/edgetpu"


def advice(log: Log) -> Iterator[str]:
    """What to do about a compiled model, the gravest first."""
    if log.failure:
        yield log.mend
        return
    if log.on_tpu == 0:
        yield "nothing runs on the Edge TPU: the first operation decides, see its reason"
    elif log.on_cpu:
        share = 100 * log.on_cpu / (log.on_cpu + (log.on_tpu or 0))
        yield f"{log.on_cpu} operations ({share:.0f} %) run on the CPU of the board, which is slow: see their reasons"
    if log.streamed_bytes:
        parameters = log.streamed_bytes + (log.cached_bytes or 0)
        pieces = -(-parameters // (7 << 20))
        yield (
            f"{log.streamed_bytes:,} of {parameters:,} bytes of parameters do not fit the chip, and are sent for every "
            f"inference: use a smaller network, or a pipeline of {max(2, pieces)} TPUs (--num_segments)"
        )
    if log.subgraphs and log.subgraphs > 1:
        yield f"{log.subgraphs} parts run on the Edge TPU: each change to the CPU and back costs a transfer"
