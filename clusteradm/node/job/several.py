"""Inputs of a model that takes several tensors at once: arrays of one .npz file, each named as an input of the model.

The rows of an input are put together at the end of the pack, in the model's order, so that a rank reads it at once. No
numpy: this runs on the head's own Python.
"""

import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from clusteradm.node.job.arrays import TOO_LARGE, members
from clusteradm.node.job.files import opener
from clusteradm.node.spec import feeding
from clusteradm.node.spec.npy import Array, Damaged, Unusable

# What TensorFlow puts around the names that a model's author gave its inputs.
_PREFIX, _SUFFIX = "serving_default_", ":0"
_COPY = 1 << 20


class Part(NamedTuple):
    """One of the inputs of a model. `check(array)`: the number of inputs in an array, None where it is one as a whole;
    raises Unusable where it does not fit."""

    name: str
    shape: Tuple[int, ...]
    check: Callable[[Array], Optional[int]]


def short(name: str) -> str:
    """The name that a model's author gave an input."""
    name = name[len(_PREFIX) :] if name.startswith(_PREFIX) else name
    return name[: -len(_SUFFIX)] if name.endswith(_SUFFIX) else name


def inputs(pack: str, name: str, offset: int, size: int, parts: Sequence[Part], room: int) -> Iterator[Dict[str, Any]]:
    """The lines of the index of an .npz file in the pack. Raises Unusable where it is no input.

    `room`: bytes that its arrays may unfold to.
    """
    named = {key: part for part in parts for key in (part.name, short(part.name))}

    def fits(key: str, array: Array) -> None:
        if key not in named:
            raise Unusable("it is no input of the model")  # and is not unpacked
        named[key].check(array)

    found: Dict[str, Union[Array, str]] = {}
    for key, array in members(pack, offset, size, fits, room):
        if key and key not in named:
            continue  # whatever it is: names of the rows, for instance
        if isinstance(array, str):
            # Its words come with their own beginning.
            raise _Said("%s: %s" % (key, array) if key else array)
        found[named[key].name] = array
    missing = [part.name for part in parts if part.name not in found]
    if missing:
        raise Unusable("it has no array for the input %s" % ", ".join(missing))
    counts: List[Optional[int]] = []
    arrays: List[Array] = []
    for part in parts:
        array = found[part.name]
        assert isinstance(array, Array)  # noqa: S101 - text was raised above
        try:
            counts.append(part.check(array))
        except Unusable as error:
            raise _Said("%s: %s" % (part.name, error)) from None
        arrays.append(array)
    if len(set(counts)) > 1:
        text = "its arrays hold different numbers of inputs: %s"
        raise Unusable(text % ", ".join("%s %d" % (p.name, n or 1) for p, n in zip(parts, counts)))
    sizes = [array.size // (count or 1) for array, count in zip(arrays, counts)]
    if sum(array.size for array in arrays) > room:
        raise Damaged(TOO_LARGE)
    form = [feeding.SEVERAL, [[array.form, list(part.shape)] for array, part in zip(arrays, parts)]]
    rows = counts[0]
    with open(pack, "r+b", opener=opener) as file:
        for row in range(1 if rows is None else rows):
            start = file.seek(0, os.SEEK_END)
            for array, length in zip(arrays, sizes):
                _copy(file, array.start + row * length, length)
            line = name if rows is None else "%s[%d]" % (name, row)
            yield {"input": line, "offset": start, "size": sum(sizes), "form": form}


def _copy(file: Any, start: int, size: int) -> None:
    """Copy bytes of a file to its end."""
    while size:
        file.seek(start)
        data = file.read(min(size, _COPY))
        if not data:
            raise Damaged("it is cut short")
        file.seek(0, os.SEEK_END)
        file.write(data)
        start, size = start + len(data), size - len(data)


class _Said(Unusable):
    """What says itself what is wrong."""

    what = "%s"
