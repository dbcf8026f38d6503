"""Types of lookups and transforms: what each part takes, and what comes out."""

from typing import Any, Dict, Sequence, Tuple

from clusteradm.node.spec.datatypes import TEXT, datatype_of
from clusteradm.node.spec.feeding import FLOATS, INTEGERS
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.servables.tables import scalar, shown
from clusteradm.node.spec.wire.manifest import Tensor
from clusteradm.node.spec.wire.servables import (
    CONCATENATE,
    EMBEDDING,
    MOST_TENSORS,
    MOST_VALUES,
    ONE_HOT,
    QUANTISE,
    STANDARDISE,
    Feature,
    Lookup,
    Servable,
)

# Shape and dtype of a table of numbers, by the name of its file.
Arrays = Dict[str, Tuple[str, Tuple[int, ...]]]
_MOST_DIMENSIONS = 16


def check_tensors(tensors: Sequence[Tensor], what: str) -> None:
    """Raise Problem for inputs or outputs of which one cannot be. `what`: "input" or "output"."""
    if not 0 < len(tensors) <= MOST_TENSORS:
        raise Problem("%d %ss; 1 to %d are possible" % (len(tensors), what, MOST_TENSORS))
    names = [each.name for each in tensors]
    for each in tensors:
        if not each.name or len(each.name) > 200 or names.count(each.name) > 1:
            raise Problem("an %s has no name of its own: %s" % (what, shown(each.name)))
        if each.dtype != TEXT and each.dtype != "bool" and each.dtype not in INTEGERS and each.dtype not in FLOATS:
            raise Problem("%s %s: no type %s" % (what, each.name, shown(each.dtype)))
        if len(each.shape) > _MOST_DIMENSIONS or any(size < -1 or size == 0 or size >= 1 << 31 for size in each.shape):
            raise Problem("%s %s: no shape: %s" % (what, each.name, list(each.shape)[:20]))


def described(tensor: Tensor) -> str:
    """Type and shape for a message; a type that KServe does not name as NumPy does."""
    try:
        kind = datatype_of(tensor.dtype)
    except KeyError:
        kind = tensor.dtype
    return "%s %s" % (kind, list(tensor.shape))


def lookup(definition: Lookup, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
    """The output of a lookup. Raises Problem."""
    if len(inputs) != 1 or len(outputs) != 1:
        raise Problem("a lookup has one input and one output, not %d and %d" % (len(inputs), len(outputs)))
    if inputs[0].dtype != TEXT and inputs[0].dtype not in INTEGERS:
        raise Problem("a lookup takes BYTES or whole numbers, not %s" % datatype_of(inputs[0].dtype))
    if definition.default is not None:
        scalar(definition.default, outputs[0].dtype, "default")
    return (Tensor(outputs[0].name, inputs[0].shape, outputs[0].dtype),)


def transform(servable: Servable, inputs: Sequence[Tensor], arrays: Arrays) -> Tuple[Tensor, ...]:
    """The outputs of a transform. Raises Problem."""
    known = {each.name: each for each in inputs}
    for feature in servable.features:
        try:
            if feature.output in known:
                raise Problem("there is something of this name already")
            missing = [name for name in feature.inputs if name not in known]
            if missing:
                raise Problem("its input %s is neither an input nor a feature before it" % shown(missing[0]))
            known[feature.output] = _feature(feature, [known[name] for name in feature.inputs], arrays)
        except Problem as problem:
            raise Problem("feature %s: %s" % (feature.output, problem)) from None
    return results(servable, known)


def results(servable: Servable, known: Dict[str, Tensor]) -> Tuple[Tensor, ...]:
    """The outputs of a transform or an ensemble, of what is known in it. Raises Problem."""
    found = []
    for name, source in servable.results.items():
        if source not in known:
            raise Problem("output %s: there is no %s; there are %s" % (name, shown(source), ", ".join(sorted(known))))
        found.append(Tensor(name, known[source].shape, known[source].dtype))
    return tuple(found)


def _feature(feature: Feature, inputs: Sequence[Tensor], arrays: Arrays) -> Tensor:
    if feature.op == CONCATENATE:
        return _concatenated(feature, inputs)
    if len(inputs) != 1:
        raise Problem("%s has one input, not %d" % (feature.op, len(inputs)))
    one = inputs[0]
    if feature.op == STANDARDISE:
        _needs(feature, bool(feature.mean and feature.std), "mean and std")
        if one.dtype == TEXT:
            raise Problem("standardise takes numbers, not BYTES")
        for numbers in (feature.mean, feature.std):
            if len(numbers) not in (1, one.shape[-1] if one.shape else 1):
                raise Problem("%d numbers of mean or std for %s" % (len(numbers), described(one)))
        if any(not value > 0 for value in feature.std):
            raise Problem("a std is above 0")
        return Tensor(feature.output, one.shape, "float32")
    if feature.op == ONE_HOT:
        return Tensor(feature.output, (*one.shape, len(values(feature, one.dtype))), "float32")
    if feature.op == EMBEDDING:
        _needs(feature, feature.table is not None, "table")
        if one.dtype not in INTEGERS:
            raise Problem("embedding takes the numbers of rows, not %s; a lookup makes them of texts" % described(one))
        dtype, shape = arrays.get(str(feature.table), ("", ()))
        if len(shape) != 2 or not all(shape):
            raise Problem("%s has the shape %s, not rows and columns" % (feature.table, list(shape)))
        return Tensor(feature.output, (*one.shape, shape[1]), dtype)
    _needs(feature, feature.op == QUANTISE and bool(feature.scale) and feature.dtype is not None, "scale and datatype")
    if one.dtype not in FLOATS:
        raise Problem("quantise takes real numbers, not %s" % described(one))
    if not (feature.scale or 0.0) > 0:
        raise Problem("a scale is above 0")
    return Tensor(feature.output, one.shape, str(feature.dtype))


def _needs(feature: Feature, there: bool, what: str) -> None:
    if not there:
        raise Problem("%s needs %s" % (feature.op, what))


def values(feature: Feature, dtype: str) -> Tuple[Any, ...]:
    """The values of a one-hot feature in the type of its input. Raises Problem."""
    _needs(feature, bool(feature.values), "values")
    if dtype != TEXT and dtype not in INTEGERS and dtype != "bool":
        raise Problem("one_hot takes BYTES or whole numbers, not %s" % datatype_of(dtype))
    found = tuple(scalar(each, dtype, "value %d" % number) for number, each in enumerate(feature.values))
    if len(set(found)) < len(found):
        raise Problem("a value is there twice")
    return found


def _concatenated(feature: Feature, inputs: Sequence[Tensor]) -> Tensor:
    first = inputs[0] if inputs else None
    if first is None or not first.shape:
        raise Problem("concatenate needs inputs that have a dimension")
    width = 0
    for each in inputs:
        same = len(each.shape) == len(first.shape) and all(
            -1 in pair or pair[0] == pair[1] for pair in zip(each.shape[:-1], first.shape[:-1])
        )
        if each.dtype != first.dtype or not same or each.dtype == TEXT:
            raise Problem(
                "%s and %s cannot be joined: %s, %s" % (first.name, each.name, described(first), described(each))
            )
        if each.shape[-1] < 0:
            raise Problem("the last dimension of %s is open" % each.name)
        width += each.shape[-1]
    if width > MOST_VALUES * MOST_TENSORS:
        raise Problem("%d columns are too many" % width)
    return Tensor(feature.output, (*first.shape[:-1], width), first.dtype)
