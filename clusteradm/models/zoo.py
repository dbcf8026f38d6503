"""Catalogue of the models that Coral publishes (zoo.yml): their names, addresses, tasks, published times and sha256."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusteradm.errors import UsageError
from clusteradm.nearest import nearest

TABLE = Path(__file__).with_name("zoo.yml")
COMPILED = "_edgetpu"
_SUFFIX = ".tflite"
_MODELS = "coral.ai/models"
_SEGMENT = re.compile(r"_segment_\d+_of_\d+")


@dataclass(frozen=True)
class ZooFile:
    """A file of the zoo. `sha256`: None where the catalogue does not have it."""

    name: str
    address: str
    sha256: str | None


@dataclass(frozen=True)
class Latency:
    """Times of one inference in ms; None where none is published.

    `side`: of the input, pixels; `source`: who says so.
    """

    model: str
    side: int
    usb: float | None
    dev_board: float | None
    source: str


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo, in two files: for a CPU, and compiled for the Edge TPU.

    `input`: width x height; `usb`: the published ms of one inference with the USB Accelerator, None for none; `source`:
    who says so.
    """

    name: str
    task: str
    input: str
    usb: float | None
    source: str | None
    cpu: ZooFile
    compiled: ZooFile


@functools.cache
def models() -> tuple[ZooModel, ...]:
    """All of them, in the order of the table."""
    table = _table()
    base = f"{table['address']}{table['commit']}/"
    return tuple(_model(base, row) for row in table["models"])


def _model(base: str, row: dict[str, Any]) -> ZooModel:
    sums = row.get("sha256", {})
    files = [
        ZooFile(name, f"{base}{name}{_SUFFIX}", sums.get(key))
        for key, name in (("cpu", row["name"]), ("edgetpu", row["name"] + COMPILED))
    ]
    width, height = map(int, row["input"].split("x"))
    told = latency(row["name"], (1, height, width, 3))
    return ZooModel(
        row["name"], row["task"], row["input"], told.usb if told else None, told.source if told else None, *files
    )


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return table


@functools.cache
def _own() -> dict[tuple[str, str], float]:
    """Times that are published of a file of the zoo: by its name's words, and its input."""
    return {(_words(row["name"]), row["input"]): row["usb"] for row in _table()["models"] if "usb" in row}


def _words(name: str) -> str:
    return name.lower().replace("-", "_")


def latency(file_name: str, shape: Sequence[int]) -> Latency | None:
    """What is published of a model, by its file's name and its input's shape; None where either does not fit.

    A segment of a pipeline is no whole model. A name may lie: the answer is what to compare with, no measurement.
    """
    stem = file_name.removesuffix(_SUFFIX).removesuffix(COMPILED)
    name = _words(stem)
    if len(shape) != 4 or _SEGMENT.search(name):
        return None
    _, height, width, _ = shape
    usb = _own().get((name, f"{width}x{height}"))
    if usb is not None:
        return Latency(stem, height, usb, None, _MODELS)
    for row in _table()["published"]:
        if row["side"] == height == width and re.search(row["name"], name):
            return Latency(row["model"], height, row["usb"], row.get("dev_board"), row["source"])
    return None


def find(name: str) -> ZooFile:
    """The file of a name, with or without _edgetpu. Raises UsageError for one that is not in the catalogue."""
    files = {file.name: file for model in models() for file in (model.compiled, model.cpu)}
    found = files.get(name.removesuffix(_SUFFIX))
    if found is None:
        raise UsageError(
            f"the catalogue has no model {name!r}{nearest(name, files)}",
            next_step="clusteradm model catalogue lists them all; others are named by their address, with --sha256",
        )
    return found
