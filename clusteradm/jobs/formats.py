"""Results in other forms than JSON Lines: CSV and Parquet, a row for each answer, and an array of NumPy."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from clusteradm import extras
from clusteradm.errors import UsageError
from clusteradm.jobs import tables
from clusteradm.jobs.similar import Query
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire.manifest import EMBEDDING, RAW
from clusteradm.node.spec.wire.result import Result

JSONL, CSV, PARQUET, NPY = FORMATS = ("jsonl", "csv", "parquet", "npy")
EXTRA = "results"
_MODULES = {PARQUET: ("pyarrow",), NPY: ("numpy",)}
_POINT = "keypoint"
_BATCH = 10_000  # rows of a group in a Parquet file
_BATCH_NUMBERS = 1_000_000  # in its vectors

_FORMULA = ("=", "+", "-", "@")  # with which a cell begins that a spreadsheet reckons
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

Results = Callable[[], Iterable[Result]]


def require(form: str) -> None:
    """Raise UsageError, with the command that installs them, where the packages for a format are not here."""
    extras.require(EXTRA, _MODULES.get(form, ()), f"--format {form}")


def check(form: str, task: str | None) -> None:
    """Raise UsageError for a format that cannot hold the results of the task."""
    if form == NPY and task in (None, RAW):
        raise UsageError(
            "--format npy is one array of numbers, which whole outputs of any shape are not",
            next_step="--format parquet, or jsonl: outputs of more than 1,024 numbers are .npy files of their own",
        )


def write(form: str, task: str | None, results: Results, into: BinaryIO, query: Query | None = None) -> None:
    """Write the results; each call of `results` gives them from the first on. `query`: their similarity to it, too, but
    in NPY."""
    if form == NPY:
        _npy(task, results, into)
        return
    table = tables.table(task, results(), query)
    (_csv if form == CSV else _parquet)(table, into)


def _csv(table: tables.Table, into: BinaryIO) -> None:
    """RFC 4180, in UTF-8, with one line of names; an embedding's numbers are apart by spaces. Texts are `_cell`s."""
    writer = csv.writer(codecs.getwriter("utf-8")(into))  # which leaves the file open, whatever happens
    writer.writerow(table.columns)
    lists = [number for number, kind in enumerate(table.columns.values()) if kind == tables.REALS]
    texts = [number for number, kind in enumerate(table.columns.values()) if kind == tables.TEXT]
    for row in table.rows:
        for number in texts:
            if row[number] is not None:
                row[number] = _cell(row[number])
        for number in lists:
            if row[number] is not None:
                row[number] = " ".join("" if value is None else repr(value) for value in row[number])
        writer.writerow(row)


def _cell(text: str) -> str:
    """A text that neither a spreadsheet takes for a formula, nor a terminal for a command: names of files and of
    classes are not trusted."""
    text = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return "'" + text if text.lstrip().startswith(_FORMULA) else text


def _parquet(table: tables.Table, into: BinaryIO) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    kinds = {
        tables.TEXT: arrow.string(),
        tables.WHOLE: arrow.int64(),
        tables.REAL: arrow.float64(),
        tables.REALS: arrow.list_(arrow.float32()),
    }
    schema = arrow.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    with parquet.ParquetWriter(into, schema) as writer:
        for rows in _batches(table.rows):
            columns = [
                arrow.array(list(column), kind)
                for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
            ]
            writer.write_batch(arrow.record_batch(columns, schema=schema))


def _batches(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    """Rows together: fewer where they have long vectors."""
    batch: list[list[Any]] = []
    numbers = 0
    for row in rows:
        batch.append(row)
        numbers += sum(len(cell) for cell in row if type(cell) is list)
        if len(batch) == _BATCH or numbers >= _BATCH_NUMBERS:
            yield batch
            batch, numbers = [], 0
    if batch:
        yield batch


def _npy(task: str | None, results: Results, into: BinaryIO) -> None:
    """Of embeddings a row of float32 for each input, NaN for one without; else a record for each row of the table.

    The records have the columns that are numbers, -1 or NaN where there is none, and of a key point its number.
    """
    if task == EMBEDDING:
        _vectors(results, into)
        return
    import numpy as np

    table = tables.table(task, results())
    kinds = {tables.WHOLE: "<i8", tables.REAL: "<f8"}
    points = {name: number for number, name in enumerate(answers.POINTS)}
    columns = {name: kind if name != _POINT else tables.WHOLE for name, kind in table.columns.items()}
    numeric = {name: kinds[kind] for name, kind in columns.items() if kind in kinds}
    places = [(list(columns).index(name), name, -1 if kind == "<i8" else np.nan) for name, kind in numeric.items()]
    records = bytearray()
    dtype = np.dtype(list(numeric.items()))
    for rows in _batches(table.rows):
        values = [
            tuple(
                nothing if row[place] is None else points.get(row[place], -1) if name == _POINT else row[place]
                for place, name, nothing in places
            )
            for row in rows
        ]
        records += np.array(values, dtype).tobytes()
    np.lib.format.write_array(into, np.frombuffer(records, dtype), allow_pickle=False)


def _vectors(results: Results, into: BinaryIO) -> None:
    """Raises UsageError where rows differ in length."""
    import numpy as np

    count, width = 0, 0
    for result in results():
        count += 1
        width = width or len(result.embedding)
    np.lib.format.write_array_header_1_0(into, {"descr": "<f4", "fortran_order": False, "shape": (count, width)})
    for result in results():
        row = np.array([np.nan if value is None else value for value in result.embedding], "<f4")
        if len(row) not in (0, width):
            raise UsageError(f"{result.input} has {len(row)} numbers, the first {width}: no array holds both")
        into.write((row if len(row) else np.full(width, np.nan, "<f4")).tobytes())
