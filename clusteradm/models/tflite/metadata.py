"""TensorFlow Lite's metadata of a model: how its input is fed, and which file inside it has its labels.

Source: tflite-support, tensorflow_lite_support/metadata/metadata_schema.fbs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from clusteradm.models.tflite.flatbuffer import Budget, Malformed, Table

BUFFER = "TFLITE_METADATA"  # the name, among a model's metadata, of the buffer with this
_IDENTIFIER = b"M001"
_MOST_TABLES = 256
_MOST_NAME = 1024
_MOST_CHANNELS = 64

IMAGE, OTHER = "image", "other"


class _ModelMetadata(IntEnum):
    SUBGRAPH_METADATA = 3


class _SubGraph(IntEnum):
    INPUT_TENSOR_METADATA = 2
    OUTPUT_TENSOR_METADATA = 3


class _Tensor(IntEnum):
    CONTENT = 3
    PROCESS_UNITS = 4
    ASSOCIATED_FILES = 6


class _Unit(IntEnum):
    OPTIONS_TYPE = 0
    OPTIONS = 1


class _Normalization(IntEnum):
    MEAN = 0
    STD = 1


class _File(IntEnum):
    NAME = 0
    TYPE = 2
    LOCALE = 3


_NORMALIZATION = 1  # of the union ProcessUnitOptions
_IMAGE_PROPERTIES = 2  # of the union ContentProperties
_LABELS = (2, 3)  # AssociatedFileType: TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS


@dataclass(frozen=True)
class Metadata:
    """Of the first subgraph: `content` of the first input (None: not said), its normalisation (() where there is none),
    and the files that are labels of an output, the one without a language first."""

    content: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


def read(data: memoryview, budget: Budget) -> Metadata:
    """The metadata in a buffer. Raises Malformed."""
    if bytes(data[4:8]) != _IDENTIFIER:
        raise Malformed("its metadata has another format")
    graphs = _few(Table.root(data, budget), _ModelMetadata.SUBGRAPH_METADATA)
    if not graphs:
        return Metadata()
    inputs = _few(graphs[0], _SubGraph.INPUT_TENSOR_METADATA)
    content, mean, std = _input(inputs[0]) if inputs else (None, (), ())
    files = [
        (bool(file.text(_File.LOCALE, _MOST_NAME)), file.text(_File.NAME, _MOST_NAME))
        for output in _few(graphs[0], _SubGraph.OUTPUT_TENSOR_METADATA)
        for file in _few(output, _Tensor.ASSOCIATED_FILES)
        if file.number(_File.TYPE, "<b") in _LABELS
    ]
    return Metadata(content, mean, std, tuple(name for _, name in sorted(files, key=lambda file: file[0])))


def _input(tensor: Table) -> tuple[str | None, tuple[float, ...], tuple[float, ...]]:
    about = tensor.table(_Tensor.CONTENT)
    kind = about.number(0, "<B") if about else 0
    content = None if not kind else IMAGE if kind == _IMAGE_PROPERTIES else OTHER
    units = [
        unit.table(_Unit.OPTIONS)
        for unit in _few(tensor, _Tensor.PROCESS_UNITS)
        if unit.number(_Unit.OPTIONS_TYPE, "<B") == _NORMALIZATION
    ]
    if len(units) != 1 or units[0] is None:
        return content, (), ()
    mean = tuple(units[0].floats(_Normalization.MEAN, _MOST_CHANNELS))
    std = tuple(units[0].floats(_Normalization.STD, _MOST_CHANNELS))
    sound = mean and std and all(map(math.isfinite, (*mean, *std))) and min(std) > 0
    return (content, mean, std) if sound else (content, (), ())


def _few(table: Table, slot: int) -> list[Table]:
    tables = table.tables(slot)
    if len(tables) > _MOST_TABLES:
        raise Malformed(f"a list of {len(tables)} entries in its metadata")
    return tables
