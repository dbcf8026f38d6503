"""Sources of a conversion: which kind of file or folder it is, by its bytes, and whether it can be converted."""

from __future__ import annotations

import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.models.tflite import graph, schema
from clusteradm.models.tflite.flatbuffer import Malformed
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import MOST_BYTES, Model

FLOAT, KERAS, SAVED_MODEL = "float .tflite", "Keras", "SavedModel"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BEGIN = 16


@dataclass(frozen=True)
class Source:
    """What is to be converted. `content`: of a .tflite file, else empty."""

    path: Path
    kind: str
    content: bytes = b""

    @property
    def where(self) -> str:
        """Its path, for messages."""
        return regular.readable(self.path)


def look(path: Path) -> Source:
    """The source at this path. Raises UsageError for what cannot be converted, with what can."""
    where = regular.readable(path)
    if path.is_dir():
        if regular.is_file(path / "saved_model.pb"):
            return Source(path, SAVED_MODEL)
        raise UsageError("a folder without saved_model.pb: no SavedModel", where=where, next_step=_TAKES)
    with regular.open_file(path) as file:
        begin = file.read(_BEGIN)
    if begin[4:8] == schema.IDENTIFIER:
        content = regular.read(path, MOST_BYTES)
        check_float(inspect(content, where), content, where)
        return Source(path, FLOAT, content)
    if begin.startswith(_HDF5):
        return Source(path, KERAS)
    if begin.startswith(b"PK\3\4") and _is_keras(path):
        return Source(path, KERAS)
    raise UsageError(f"it cannot be converted: {_other(path, begin)}", where=where, next_step=_TAKES)


_TAKES = "model convert takes float .tflite files, Keras' .keras and .h5, and folders of SavedModels"


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _other(path: Path, begin: bytes) -> str:
    suffix = path.suffix.lower()
    if not begin:
        return "it is empty"
    if suffix == ".onnx":
        return "it is ONNX; convert it to a SavedModel first (onnx2tf)"
    if suffix in (".pt", ".pth") or begin.startswith(b"PK\3\4"):
        return "it is of PyTorch, or another zip archive; export it to TensorFlow Lite first (litert-torch)"
    if suffix == ".pb":
        return "it is one file of TensorFlow; name the folder of the SavedModel that it is in"
    return f"it begins with {begin[:8]!r}"


def check_float(model: Model, content: bytes, where: str) -> None:
    """Raise UsageError for a .tflite file that is no float model with one input, with what to do instead."""
    if model.tpu_operations:
        raise UsageError(
            "it is compiled for the Edge TPU already", where=where, next_step="convert what it was made of, if at all"
        )
    if model.subgraphs > 1:
        raise UsageError(
            "it has control flow (several subgraphs), which an Edge TPU cannot run",
            where=where,
            next_step="unroll its loops (unroll=True of Keras' LSTM, GRU and RNN), and convert it again",
        )
    try:
        first = graph.read(content)[0]
    except Malformed as error:
        raise NotAModel(f"it is damaged: {error}", where=where) from error
    floats = sum(first.tensors[number].dtype == "float32" for one in first.operations for number in one.outputs[:1])
    if model.hybrid:
        raise UsageError(
            "its weights are quantised and its numbers are not (dynamic range quantisation)",
            where=where,
            next_step="convert the float model that it was made of",
        )
    if model.mapped or not floats:
        raise UsageError(
            "it is quantised already",
            where=where,
            next_step=f"what is left to do: clusteradm model inspect {shlex.quote(where)}",
        )
    if len(model.inputs) != 1:
        raise UsageError(f"it has {len(model.inputs)} inputs; model convert takes models with one", where=where)
    if model.inputs[0].dtype != "float32":
        raise UsageError(
            f"its input is of the type {model.inputs[0].dtype}, not float32",
            where=where,
            next_step="convert the network with an input of float32",
        )
    unknown = sorted(name for name in model.operators if name not in schema.OPERATORS and name not in _CUSTOM)
    if unknown:
        raise UsageError(
            f"it has operations that the nodes' runtimes lack: {', '.join(unknown[:8])}",
            where=where,
            next_step="convert the network with the operations of TensorFlow Lite alone",
        )
    opened = model.signatures[0][1:]
    if any(size < 0 for size in opened):
        shape = "x".join("?" if size < 0 else str(size) for size in model.signatures[0])
        raise UsageError(
            f"its input has no fixed size ({shape}): which one?",
            where=where,
            next_step="convert the network with the size of its input",
        )


_CUSTOM = ("TFLite_Detection_PostProcess",)
