"""Catalogue of the models that Coral publishes (zoo.yml): their names, addresses, tasks, published times and sha256."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusteradm.errors import UsageError
from clusteradm.nearest import nearest

TABLE = Path(__file__).with_name("zoo.yml")
COMPILED = "_edgetpu"
_SUFFIX = ".tflite"


@dataclass(frozen=True)
class ZooFile:
    """A file of the zoo. `sha256`: None where the catalogue does not have it."""

    name: str
    address: str
    sha256: str | None


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo, in two files: for a CPU, and compiled for the Edge TPU.

    `input`: width x height; `usb`: the published ms of one inference with the USB Accelerator, None for none.
    """

    name: str
    task: str
    input: str
    usb: float | None
    cpu: ZooFile
    compiled: ZooFile


@functools.cache
def models() -> tuple[ZooModel, ...]:
    """All of them, in the order of the table."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    base = f"{table['address']}{table['commit']}/"
    return tuple(_model(base, row) for row in table["models"])


def _model(base: str, row: dict[str, Any]) -> ZooModel:
    sums = row.get("sha256", {})
    files = [
        ZooFile(name, f"{base}{name}{_SUFFIX}", sums.get(key))
        for key, name in (("cpu", row["name"]), ("edgetpu", row["name"] + COMPILED))
    ]
    return ZooModel(row["name"], row["task"], row["input"], row.get("usb"), *files)


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
