"""Inputs by their similarity to one of them: the cosine of the angle between their embeddings."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.jobs.inputs import File, LocalInputs, resolve
from clusteradm.node.spec.wire.result import Result

Vector = tuple[float | None, ...]
_MOST_BYTES = 128 << 20  # of the file, as for the ranks


@dataclass(frozen=True)
class Similar:
    """One input. `similarity`: from -1 to 1; None where it or the query has no vector, or one of zeros."""

    input: str
    index: int
    similarity: float | None


class Query:
    """An input's vector, which those of others are compared with."""

    def __init__(self, vector: Vector) -> None:
        self.vector = vector
        self._length = _length(vector)

    def of(self, result: Result) -> Similar:
        """A result's similarity."""
        return Similar(result.input, result.index, _cosine(self.vector, self._length, result.embedding))


def order(one: Similar) -> tuple[bool, float, int]:
    """The key that sorts the most similar first, and those without a similarity last."""
    return one.similarity is None, -(one.similarity or 0.0), one.index


def query_file(path: str) -> File:
    """The query. Raises UsageError where it is no file of this machine."""
    query = resolve([path])
    if not isinstance(query, LocalInputs) or len(query.files) != 1 or regular.is_folder(Path(path)):
        raise UsageError("--similar is one file of this machine", where=regular.readable(path))
    return query.files[0]


def digest(file: File) -> str:
    """The sha256 of the query's bytes, and of the array that is meant of them. Raises UsageError."""
    return hashlib.sha256(file.read(_MOST_BYTES) + repr(file.member).encode()).hexdigest()


def with_query(inputs: LocalInputs, path: str) -> tuple[LocalInputs, str]:
    """The inputs with the query among them, and what the results call it. Raises UsageError where it is not there."""
    file = query_file(path)
    place = file.path.resolve()
    for one in inputs.files:
        same = (one.path.name, one.member, one.offset) == (file.path.name, file.member, file.offset)
        if same and one.path.resolve() == place:
            return inputs, one.name
    if any(one.name == file.name for one in inputs.files):
        file = replace(file, name=regular.readable(place))
    files = sorted((*inputs.files, file), key=lambda one: one.name)
    return replace(inputs, files=tuple(files)), file.name


def rank(results: Callable[[], Iterable[Result]], query: str) -> list[Similar]:
    """Every other input, the most similar first, those without a similarity last.

    Each call of `results` gives them from the first on. Raises UsageError where the query has no vector.
    """
    wanted = vector(results(), query)
    return sorted((wanted.of(one) for one in results() if one.input != query), key=order)


def vector(results: Iterable[Result], query: str) -> Query:
    """The vector of one of the inputs. Raises UsageError where it has none."""
    found = next((result for result in results if result.input == query), None)
    if found is None or not found.embedding:
        why = found.error if found and found.error else "it has no result"
        raise UsageError(f"--similar: the file has no vector: {why}", where=query)
    return Query(found.embedding)


def _length(vector: Vector) -> float:
    """The length of a vector; 0 where it has numbers that are none."""
    return 0.0 if None in vector else math.hypot(*(value or 0.0 for value in vector))


def _cosine(one: Vector, length: float, other: Vector) -> float | None:
    size = _length(other)
    if not (length and size) or len(one) != len(other):
        return None
    product: float = sum(map(operator.mul, one, other))
    return round(product / length / size, 6)
