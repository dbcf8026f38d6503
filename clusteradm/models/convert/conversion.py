"""Conversion of one source: a float .tflite first, whose input says what it is calibrated with, then the 8-bit one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clusteradm import extras, regular
from clusteradm.errors import UsageError
from clusteradm.models import labels
from clusteradm.models.child import Child
from clusteradm.models.convert.source import FLOAT, Source, check_float
from clusteradm.models.tflite.inspect import inspect
from clusteradm.models.tflite.model import MOST_BYTES, Model

ENDS = ("uint8", "int8")
Say = Callable[[str], None]
Progress = Callable[[int, int], None]

_RUNTIME = ("numpy", "PIL", "flatbuffers", "ai_edge_litert")
_STAGES = {
    "import": "importing TensorFlow ...",
    "read": "reading the network ...",
    "quantise": "quantising ...",
}


class Conversion:
    """One conversion, which goes on in a child process between its two steps.

    `floats`: the float model with a batch of 1; `model`: what is in it.
    """

    def __init__(self, source: Source, folder: Path, child: Child, say: Say) -> None:
        self._source, self._child, self._say = source, child, say
        self._output = folder / "int8.tflite"
        self.floats = folder / "float.tflite"
        self._lines = child.lines()
        self._until("float", lambda done, total: None)
        content = regular.read(self.floats, MOST_BYTES)
        self.model: Model = inspect(content, source.where)
        if source.kind != FLOAT:
            check_float(self.model, content, source.where)

    def quantise(self, tensors: Path, progress: Progress) -> bytes:
        """The 8-bit model, calibrated with the rows of a .npy file; with the labels that were in its source."""
        self._child.tell({"tensors": str(tensors)})
        self._until("done", progress)
        return regular.read(self._output, MOST_BYTES) + labels.archive(self._source.content)

    def _until(self, stage: str, progress: Progress) -> None:
        """Follow the child until it has done this. Raises UsageError where it says why it cannot."""
        for said in self._lines:
            if "error" in said:
                raise UsageError(
                    str(said["error"]), where=self._source.where, next_step=str(said.get("next_step") or "")
                )
            if "done" in said:
                progress(int(said["done"]), int(said["total"]))
            if said.get("stage") in _STAGES:
                self._say(_STAGES[said["stage"]])
            if said.get("stage") == stage:
                return
        raise UsageError("the converter ended before it was done", where=self._source.where)


def require(source: Source) -> None:
    """Raise UsageError, with the command that installs it, unless the converter of this kind of source is here."""
    if source.kind == FLOAT:
        extras.require("convert", (*_RUNTIME, "ai_edge_quantizer"), "the conversion of float .tflite files")
    else:
        extras.require("convert-tf", (*_RUNTIME, "tensorflow"), f"the conversion of a {source.kind} network")


@contextmanager
def conversion(source: Source, folder: Path, ends: str, say: Say) -> Iterator[Conversion]:
    """The conversion of a source to a model with `ends` of ENDS. `folder`: for files of this run.

    Raises UsageError for a source that its converter cannot read.
    """
    require(source)
    name = "by_quantizer" if source.kind == FLOAT else "by_tensorflow"
    words = [str(source.path.absolute()), str(folder / "float.tflite"), str(folder / "int8.tflite"), ends]
    with Child(f"clusteradm.models.convert.{name}", json.dumps(words)) as child:
        yield Conversion(source, folder, child, say)


def difference(before: Path, after: Path) -> dict[str, Any]:
    """Mean and worst absolute difference of two .npy files of rows, and the range of the first.

    NumPy is imported here: it comes with the extras that convert.
    """
    import numpy as np

    one, other = np.load(before, mmap_mode="r"), np.load(after, mmap_mode="r")
    if one.shape != other.shape:
        return {"shape": [list(one.shape), list(other.shape)]}
    total = worst = 0.0
    low, high = np.inf, -np.inf
    for first, second in zip(one, other, strict=True):
        gap = np.abs(first.astype(np.float64) - second)
        total += float(gap.mean())
        worst = max(worst, float(gap.max()))
        low, high = min(low, float(first.min())), max(high, float(first.max()))
    return {"mean": total / len(one), "worst": worst, "low": low, "high": high}
