"""Results of a job: read from its results.jsonl, and saved with the large tensors beside.

The file comes from the head and is not trusted: a line that does not fit is HostFailed, and no name in it leads out of
the folder of the output file.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clusteradm import atomic, regular
from clusteradm.errors import HostFailed, UsageError
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.job_names import OUTPUTS
from clusteradm.node.spec.wire.result import Result

_MOST_LINE = 64 << 20  # bytes; the longest that ranks write have some millions


def writable(output: Path, what: str = "the results") -> Path:
    """The file for the results; UsageError now, not after the job, where it cannot be written."""
    try:
        # What is no file is written to, and a file replaced, by a rename in its own folder.
        place = output if atomic.in_place(output) else Path(os.path.realpath(output)).parent
        if output.is_dir():
            reason = "it is a folder"
        elif not os.path.lexists(place):
            reason = f"there is no folder {regular.readable(place)}"
        elif place != output and not place.is_dir():
            reason = f"{regular.readable(place)} is no folder"
        else:
            reason = "" if os.access(place, os.W_OK) else f"{regular.readable(place)} may not be written to"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise UsageError(
            f"cannot write {regular.readable(output)}: {reason}",
            next_step=f"name a file, for {what}, in a folder that is there and can be written to",
        )
    return output


class Results:
    """The results of one job, as fetched from the head."""

    def __init__(self, job: str, head: str, file: BinaryIO) -> None:
        self.job = job
        self._head = head
        self._file = file

    def lines(self) -> Iterator[Result]:
        """Every result, in input order. Raises HostFailed."""
        return (self._decoded(number, line) for number, line in self._numbered())

    def failures(self, most: int) -> list[Result]:
        """The first results that are an error, at most so many. Raises HostFailed."""
        wanted = (self._decoded(number, line) for number, line in self._numbered() if b'"error"' in line)
        return list(itertools.islice((result for result in wanted if result.error is not None), most))

    def documents(self) -> list[Any]:
        """Every line as JSON has it, in input order. Raises HostFailed."""
        found = []
        for number, line in self._numbered():
            self._decoded(number, line)
            found.append(loads(line))
        return found

    def tensor_files(self) -> list[str]:
        """The names of the large tensors' files, all below the job's own folder of outputs. Raises HostFailed."""
        folder = OUTPUTS % self.job + "/"
        names = []
        for number, line in self._numbered():
            if b'"file"' not in line:
                continue  # nearly every line: decoding them all would cost more than to copy them
            result = self._decoded(number, line)
            for tensor in (*result.outputs, *((result.map,) if result.map else ())):
                if tensor.file is not None:
                    if not tensor.file.startswith(folder):
                        raise self._damaged(number, f"{tensor.file} is a file of another job")
                    names.append(tensor.file)
        return names

    def clipped(self) -> tuple[int, float]:
        """The inputs that had numbers out of range, and the largest share of such numbers. Raises HostFailed."""
        shares = [
            self._decoded(number, line).clipped or 0.0 for number, line in self._numbered() if b'"clipped"' in line
        ]
        shares = [share for share in shares if share]
        return len(shares), max(shares, default=0.0)

    def copy(self, into: BinaryIO) -> None:
        """Copy results.jsonl as it is."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, into)

    def save(
        self,
        output: Path,
        fetch: Callable[[str, BinaryIO], None],
        write: Callable[[BinaryIO], None] | None = None,
    ) -> None:
        """Write the results to `output` and the large tensors below its folder, each file whole or not at all.

        `fetch` copies a file of the job; `write` writes the results where not as they are. Beside a device or a pipe
        there are no tensors. Raises HostFailed; UsageError where something else has the folder's name; OSError.
        """
        if not atomic.in_place(output):
            self.save_tensors(output.parent, fetch)
        with atomic.replacing(output) as file:
            (write or self.copy)(file)

    def save_tensors(self, above: Path, fetch: Callable[[str, BinaryIO], None]) -> None:
        """Write the large tensors alone, below `above`. Raises as `save`."""
        names = self.tensor_files()
        folder = above / (OUTPUTS % self.job)
        if names:
            if folder.is_symlink():
                raise UsageError(f"{folder} is a link", next_step="remove it, or name another --output")
            folder.mkdir(exist_ok=True)
        for name in names:
            path = folder / name.rpartition("/")[2]
            if path.is_symlink():  # never written through
                path.unlink()
            with atomic.replacing(path) as file:
                fetch(name, file)

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for number, line in enumerate(iter(lambda: self._file.readline(_MOST_LINE + 1), b""), 1):
            if len(line) > _MOST_LINE:
                raise self._damaged(number, f"it has more than {_MOST_LINE:,} bytes")
            yield number, line

    def _decoded(self, number: int, line: bytes) -> Result:
        try:
            result = decode(Result, loads(line))
            answers.check(vars(result))
            return result
        except WireError as error:
            raise self._damaged(number, str(error)) from None

    def _damaged(self, number: int, what: str) -> HostFailed:
        return HostFailed(f"line {number} of the results of job {self.job} is damaged: {what}", where=self._head)
