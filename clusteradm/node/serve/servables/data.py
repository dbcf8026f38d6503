"""Lookups and transforms at work: tables in memory, numbers by NumPy."""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.serve.servables.work import Arrays, BadInput, Work, texts
from clusteradm.node.spec import npy
from clusteradm.node.spec.datatypes import TEXT
from clusteradm.node.spec.servables import tables, transforms
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.manifest import Manifest, Tensor
from clusteradm.node.spec.wire.servables import CONCATENATE, EMBEDDING, ONE_HOT, STANDARDISE, ZEROS, Feature, Servable

_MOST_SHOWN = 60
Tensors = Tuple[Tensor, ...]


class LookupWork(Work):
    """A lookup."""

    def __init__(
        self, servable: Servable, inputs: Tuple[Tensor, ...], outputs: Tuple[Tensor, ...], folder: str
    ) -> None:
        """Raises Problem, OSError."""
        definition = servable.lookup
        assert definition is not None  # noqa: S101 - as its kind says
        self.inputs, self.outputs = inputs, outputs
        transforms.lookup(definition, inputs, outputs)
        data = _bytes(os.path.join(folder, definition.table), tables.MOST_BYTES)
        key, value = inputs[0].dtype, outputs[0].dtype
        self._table = tables.read(definition, data, key, value)
        self._default = None
        if definition.default is not None:
            self._default = tables.scalar(definition.default, value, "default")

    def run(self, step: Optional[int], inputs: Arrays) -> Arrays:
        """The entries."""
        given = inputs[self.inputs[0].name]
        get, default = self._table.get, self._default
        found: List[Any] = [get(each, default) for each in given.ravel().tolist()]
        if default is None and None in found:
            wrong = given.ravel().tolist()[found.index(None)]
            raise BadInput("%s is not in its table" % tables.shown(wrong)[:_MOST_SHOWN])
        output = self.outputs[0]
        array = (
            texts(found, given.shape) if output.dtype == TEXT else np.array(found, output.dtype).reshape(given.shape)
        )
        return {output.name: array}

    def sample(self) -> Arrays:
        """The first entry's key."""
        key = next(iter(self._table))
        one = self.inputs[0]
        shape = [1 if size < 0 else size for size in one.shape]
        return {one.name: np.full(shape, key, object if one.dtype == TEXT else one.dtype)}


class TransformWork(Work):
    """A transform."""

    def __init__(
        self, servable: Servable, inputs: Tuple[Tensor, ...], outputs: Tuple[Tensor, ...], folder: str
    ) -> None:
        """Raises Problem, OSError."""
        self._servable, self.inputs, self.outputs = servable, inputs, outputs
        self._arrays = {name: _array(os.path.join(folder, name), name) for name in servable.files}
        shapes = {name: (each.dtype.name, tuple(each.shape)) for name, each in self._arrays.items()}
        made = transforms.transform(servable, inputs, shapes)
        if [(each.name, each.dtype) for each in made] != [(each.name, each.dtype) for each in outputs]:
            raise Problem("its outputs are not those that its manifest says: deploy it again")
        self._places: Dict[str, Dict[Any, int]] = {}

    def run(self, step: Optional[int], inputs: Arrays) -> Arrays:
        """One feature after the other."""
        known = dict(inputs)
        for feature in self._servable.features:
            try:
                known[feature.output] = self._feature(feature, [known[name] for name in feature.inputs])
            except BadInput as error:
                raise BadInput("feature %s: %s" % (feature.output, error)) from None
        return {name: known[source] for name, source in self._servable.results.items()}

    def _feature(self, feature: Feature, inputs: Sequence[Any]) -> Any:
        one = inputs[0]
        if feature.op == CONCATENATE:
            if len({each.shape[:-1] for each in inputs}) > 1:
                raise BadInput("its inputs have different numbers of rows: %s" % [list(each.shape) for each in inputs])
            return np.concatenate(inputs, -1)
        if feature.op == STANDARDISE:
            return ((one.astype(np.float64) - feature.mean) / feature.std).astype(np.float32)
        if feature.op == EMBEDDING:
            return self._rows(feature, one)
        if feature.op == ONE_HOT:
            return self._one_hot(feature, one)
        if not np.isfinite(one).all():
            raise BadInput("NaN or infinity, for which %s has no number" % feature.dtype)
        limits = np.iinfo(np.dtype(feature.dtype))
        numbers = np.round(one.astype(np.float64) / (feature.scale or 1.0)) + feature.zero_point
        return np.clip(numbers, limits.min, limits.max).astype(feature.dtype)

    def _one_hot(self, feature: Feature, values: Any) -> Any:
        places = self._places.get(feature.output)
        if places is None:
            dtype = TEXT if values.dtype == object else values.dtype.name
            known = transforms.values(feature, dtype)
            places = self._places[feature.output] = {each: number for number, each in enumerate(known)}
        flat = values.ravel().tolist()
        found = np.array([places.get(each, -1) for each in flat], np.int64)
        self._check(feature, found < 0, flat)
        made = np.zeros((len(flat), len(places)), np.float32)
        rows = np.flatnonzero(found >= 0)
        made[rows, found[rows]] = 1.0
        return made.reshape((*values.shape, len(places)))

    def _rows(self, feature: Feature, values: Any) -> Any:
        table = self._arrays[str(feature.table)]
        flat = values.ravel()
        wrong = (flat < 0) | (flat >= len(table))
        self._check(feature, wrong, flat.tolist())
        # A copy: what NumPy 1.16 takes out of a file cannot be written.
        made = np.array(table[np.where(wrong, 0, flat).astype(np.int64)])
        made[wrong] = 0
        return made.reshape((*values.shape, table.shape[1]))

    @staticmethod
    def _check(feature: Feature, wrong: Any, values: Sequence[Any]) -> None:
        if feature.unknown != ZEROS and wrong.any():
            first = values[int(np.argmax(wrong))]
            raise BadInput("%s is none of its values" % tables.shown(first)[:_MOST_SHOWN])


def _bytes(path: str, most: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Problem("%s has more than %d bytes" % (os.path.basename(path), most))
    return data


def _array(path: str, name: str) -> Any:
    """A table of numbers, read as it is needed. Its header is looked at before NumPy does."""
    try:
        with open(path, "rb") as file:
            npy.header(file, os.fstat(file.fileno()).st_size)
    except npy.Unusable as error:
        raise Problem("%s: %s" % (name, str(error).partition(": ")[2] or error)) from None
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise Problem("%s: %s" % (name, " ".join(str(error).split())[:300])) from None


def made(manifest: Manifest, folder: str) -> Work:
    """The work of a lookup or a transform. Raises Problem, OSError."""
    servable = manifest.servable
    assert servable is not None  # noqa: S101 - whoever calls has looked
    kind = LookupWork if servable.lookup is not None else TransformWork
    return kind(servable, manifest.inputs, manifest.outputs, folder)
