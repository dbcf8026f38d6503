"""Journal of a job: its results so far. Outlives every rank; two attempts never write it at once.

It is on the shared file system, where every board can write: what is read back is checked.
"""

import fcntl
import io
import json
import os
import re
import threading
import time
from array import array
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from clusteradm.node import atomic
from clusteradm.node.job import files
from clusteradm.node.job.numbers import Numbers
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire import job_names

# Seconds to wait for the end of rank 0 of an attempt that mpirun has lost: it may live on for a moment.
_LOCK_SECONDS = 20.0
_OUTPUT_FILE = re.compile(job_names.OUTPUT_FILE)
_LINES = 4  # of a journal that are held at once
_SYNC_SECONDS = 1.0  # of results at most, a power failure costs


class JournalError(RuntimeError):
    """A result that is missing, or in no form that a rank writes; the text says which."""


class Journal:
    """Append-only. One line a chunk: {"attempt", "rank", "results": [{"i": index, ...}, ...]}."""

    def __init__(self, folder: str, attempt: int) -> None:
        self.attempt = attempt
        path = os.path.join(folder, job_names.JOURNAL)
        self._file = open(path, "ab+", opener=files.opener)  # noqa: SIM115 - for the attempt's life
        _lock(self._file.fileno())
        self._unsynced = False
        self._failure: Optional[OSError] = None
        self._closing = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="journal", daemon=True)
        self._syncing.start()
        # A line that was cut short must not swallow the next one.
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
                self._file.flush()

    def append(self, rank: int, results: Sequence[Dict[str, Any]]) -> int:
        """Write one chunk's results. They survive this process at once, and a power failure a second later. The place
        of their line. Raises OSError, also for those before."""
        at = self.size
        line = json.dumps({"attempt": self.attempt, "rank": rank, "results": list(results)}, separators=(",", ":"))
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()
        self._unsynced = True
        if self._failure is not None:
            raise self._failure
        return at

    def _sync(self) -> None:
        """Write it to the disk by the second, in a thread of its own: a slow disk takes longer than a chunk, and ranks
        would wait for their next."""
        while not (self._closing.wait(_SYNC_SECONDS) or self._failure):
            if self._unsynced:
                self._unsynced = False
                try:
                    os.fsync(self._file.fileno())
                except OSError as error:
                    self._failure = error

    @property
    def size(self) -> int:
        """Its bytes so far."""
        return self._file.seek(0, os.SEEK_END)

    def clear(self) -> None:
        """Remove all results."""
        self._file.truncate(0)

    def close(self) -> None:
        """Write it to the disk, and unlock it for another attempt."""
        self._closing.set()
        self._syncing.join()
        os.fsync(self._file.fileno())
        self._file.close()


def _lock(fd: int) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError("rank 0 of an earlier attempt still holds the journal") from None
            time.sleep(0.1)


def written(folder: str) -> bool:
    """Whether a rank 0 has it open, and so lives."""
    try:
        with open(os.path.join(folder, job_names.JOURNAL), "rb", opener=files.opener) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def done(folder: str, inputs: int) -> Numbers:
    """The numbers of the inputs that have a result, of a job with so many inputs. Raises JournalError.

    One whose large outputs are gone has none: a journal survives a power failure that a file of seconds ago does not.
    """
    return Numbers(
        result["i"] for _, result in _results(folder) if 0 <= result["i"] < inputs and _whole(folder, result)
    )


def _whole(folder: str, result: Dict[str, Any]) -> bool:
    """Whether the files that the result names are there and not empty."""
    for name in output_files(result):
        try:
            if not os.lstat(os.path.join(folder, name)).st_size:
                return False
        except OSError:
            return False
    return True


def output_files(result: Dict[str, Any]) -> Iterator[str]:
    """The files of a result's large outputs, within the job's folder: what is named as a rank names them."""
    outputs = result.get(answers.OUTPUTS)
    for output in [*(outputs if isinstance(outputs, list) else ()), result.get(answers.MAP)]:
        name = output.get("file") if isinstance(output, dict) else None
        if isinstance(name, str) and _OUTPUT_FILE.fullmatch(name):
            yield name


def counts(folder: str, attempt: int) -> Dict[int, int]:
    """Number of results that each rank of an attempt has delivered. Raises JournalError."""
    found: Dict[int, int] = {}
    for line, _ in _results(folder):
        if line["attempt"] == attempt:
            found[line["rank"]] = found.get(line["rank"], 0) + 1
    return found


def finish(folder: str, index: str, labels: Sequence[str]) -> Dict[str, int]:
    """Write results.jsonl from the journal: one line an input, in input order, the first result of each.

    `index`: path of inputs.jsonl. Returns {"images": all, "errors": those with an error}. Raises JournalError where a
    result is missing or damaged, and then writes nothing.
    """
    images = errors = 0
    path = os.path.join(folder, job_names.RESULTS)
    with open(index, "rb") as lines:
        inputs = sum(1 for _ in lines)
    with Found(folder, _Places(folder, inputs)) as found, atomic.replacing(path, mode=0o644) as file:
        for number, entry in enumerate(files.read_lines(index)):
            result = found.result(number)
            if result is None:
                raise JournalError("input %d (%s) has no result" % (number, entry["input"]))
            errors += "error" in result
            images += 1
            line = json.dumps(record(entry["input"], number, result, labels), ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8"))
    return {"images": images, "errors": errors}


def places(folder: str) -> Dict[int, int]:
    """Where the line with the first result of each input is, of those whose large outputs are there. Raises
    JournalError."""
    found: Dict[int, int] = {}
    for number, at in _placed(folder, whole=True):
        found.setdefault(number, at)
    return found


def _placed(folder: str, whole: bool) -> Iterator[Tuple[int, int]]:
    path, at = os.path.join(folder, job_names.JOURNAL), 0
    with _opened(path) as file:
        for data in file:
            for result in _read(data, path):
                if not whole or _whole(folder, result):
                    yield result["i"], at
            at += len(data)


class _Places:
    """Where the line with the first result of each input is, in eight bytes each. Raises JournalError."""

    def __init__(self, folder: str, inputs: int) -> None:
        self._found = array("q", [0]) * inputs  # 0: none
        for number, at in _placed(folder, whole=False):
            if 0 <= number < inputs and not self._found[number]:
                self._found[number] = at + 1

    def get(self, number: int) -> Optional[int]:
        """Where the line is; None where there is none."""
        at = self._found[number] if number < len(self._found) else 0
        return at - 1 if at else None


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb", opener=files.opener)
    except FileNotFoundError:
        return io.BytesIO()


class Found:
    """Results by the places of their lines. Those are kept in memory, and no result: those of a large job, of vectors
    for instance, are more than the memory of a board."""

    def __init__(self, folder: str, places: Union[Dict[int, int], _Places]) -> None:
        self._path, self._places = os.path.join(folder, job_names.JOURNAL), places
        self._file = _opened(self._path)
        # Lines that were read last. Inputs that are neighbours were mostly in one chunk.
        self._lines: Dict[int, Dict[int, Dict[str, Any]]] = {}

    def __enter__(self) -> "Found":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def result(self, number: int) -> Optional[Dict[str, Any]]:
        """The result of an input; None where there is none. Raises JournalError."""
        at = self._places.get(number)
        if at is None:
            return None
        if at not in self._lines:
            if len(self._lines) == _LINES:
                del self._lines[min(self._lines)]
            self._file.seek(at)
            line: Dict[int, Dict[str, Any]] = {}
            for result in _read(self._file.readline(), self._path):
                line.setdefault(result["i"], result)
            self._lines[at] = line
        return self._lines[at].get(number)


def _read(data: bytes, path: str) -> List[Dict[str, Any]]:
    line = files.entry(data.decode("utf-8", "replace"))
    return [] if line is None else _checked(line, path)


def _results(folder: str) -> Iterator[Tuple[Dict[str, Any], Dict[str, Any]]]:
    """Every line of the journal with each of its results. Raises JournalError."""
    path = os.path.join(folder, job_names.JOURNAL)
    for line in files.read_lines(path):
        for result in _checked(line, path):
            yield line, result


def _checked(line: Dict[str, Any], path: str) -> List[Dict[str, Any]]:
    """The results of a line. Raises JournalError."""
    results = line.get("results")
    if type(line.get("attempt")) is not int or type(line.get("rank")) is not int or type(results) is not list:
        raise JournalError("%s has a line that no rank wrote" % path)
    for result in results:
        if type(result) is not dict or type(result.get("i")) is not int:
            raise JournalError("%s has a result that no rank wrote" % path)
    return list(results)


def record(name: str, index: int, result: Dict[str, Any], labels: Sequence[str]) -> Dict[str, Any]:
    """The journal's short form as a line of results.jsonl. Raises JournalError."""
    record: Dict[str, Any] = {"input": name, "index": index}
    error, kind = result.get("error"), answers.kind(result)
    if type(error) is str:
        record["error"] = error
    elif kind is not None:
        record.update((key, result[key]) for key in (answers.SIZE, kind, answers.MAP) if key in result)
        record = answers.full(record, labels)
    else:
        raise JournalError("input %d (%s) has a result that no rank wrote" % (index, name))
    if "clipped" in result and "error" not in record:
        if not answers.is_score(result["clipped"]):
            raise JournalError("input %d (%s) has a result that no rank wrote" % (index, name))
        record["clipped"] = result["clipped"]
    return record
