"""Results that are appended to a folder of Parquet files, which is read as one table.

A Parquet file ends with a list of what is in it, so that nothing can be appended to one. The last file of the folder
is replaced by a larger one in one step, until it is large enough: then another is begun.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

from clusteradm import atomic
from clusteradm.errors import UsageError
from clusteradm.jobs import formats
from clusteradm.jobs.ledger import Stored
from clusteradm.jobs.results import Results
from clusteradm.jobs.similar import Query
from clusteradm.node.spec.wire.result import Result

# A file that is smaller is written again with the next results: a camera's pictures come one by one.
LEAST_BYTES = 256 << 10
_NAME = "part-%06d.parquet"
_PART = re.compile(r"part-([0-9]{6,12})\.parquet")


class Parts:
    """One such folder. `fresh`: what is in it is not of this output, and stays as it is."""

    def __init__(self, folder: Path, task: str, query: Query | None, *, fresh: bool) -> None:
        self._folder, self._task, self._query, self._fresh = folder, task, query, fresh

    def end(self) -> int:
        """The number of the file to which the next results go."""
        last = self._last()
        is_other, self._fresh = self._fresh, False
        if not last or is_other or self._path(last).stat().st_size >= LEAST_BYTES:
            return last + 1
        return last

    def body(self, results: Results, numbered: Sequence[Result], place: int) -> bytes:
        """The results of a batch, as a Parquet file. `numbered`: with the numbers that they have in the output."""
        file = io.BytesIO()
        formats.write(formats.PARQUET, self._task, lambda: numbered, file, self._query)
        return file.getvalue()

    def put(self, body: bytes, place: int) -> None:
        """Add them to that file. Raises UsageError where what is in it does not fit."""
        import pyarrow as arrow
        from pyarrow import parquet

        path, table = self._path(place), parquet.read_table(io.BytesIO(body))
        try:
            table = arrow.concat_tables([parquet.read_table(io.BytesIO(path.read_bytes())), table])
        except FileNotFoundError:
            pass
        except arrow.ArrowException as error:
            what = f"it holds no results of this command: {error}"
            raise UsageError(what, where=str(path), next_step="move it away, and start the command again") from None
        with atomic.replacing(path) as file:
            parquet.write_table(table, file)

    def settle(self, last: Stored) -> bool:
        """Whether the results that were to be written last are there, or were, in a file that was taken away since."""
        import pyarrow as arrow
        from pyarrow import compute, parquet

        if not last.size:
            return True
        try:
            numbers = parquet.read_table(io.BytesIO(self._path(last.place).read_bytes()), columns=["index"])["index"]
            return bool(numbers) and bool(compute.max(numbers).as_py() >= last.first)
        except FileNotFoundError:
            return self._last() > last.place
        except (arrow.ArrowException, KeyError):
            return True  # that it is no such file is said when it is to be added to

    def _last(self) -> int:
        """The largest number of a file; 0 where there is none."""
        found = map(_PART.fullmatch, (path.name for path in self._folder.iterdir()))
        return max((int(match.group(1)) for match in found if match), default=0)

    def _path(self, number: int) -> Path:
        return self._folder / (_NAME % number)
