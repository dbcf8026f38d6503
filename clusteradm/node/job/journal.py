"""Journal of a job: its results so far. Outlives every rank; two attempts never write it at once."""

import fcntl
import json
import os
import time
from typing import Any, Dict, List, Sequence, Set

from clusteradm.node.job import files
from clusteradm.node.spec.wire import job_names
from clusteradm.node.state import owners

# Seconds to wait for the end of rank 0 of an attempt that mpirun has lost: it may live on for a moment.
_LOCK_SECONDS = 20.0


class Journal:
    """Append-only. One line a chunk: {"attempt", "rank", "results": [{"i": index, ...}, ...]}."""

    def __init__(self, folder: str, attempt: int) -> None:
        self.attempt = attempt
        path = os.path.join(folder, job_names.JOURNAL)
        self._file = open(path, "ab+", opener=owners)  # noqa: SIM115 - for the attempt's life
        _lock(self._file.fileno())
        # A line that was cut short must not swallow the next one.
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
                self._file.flush()

    def append(self, rank: int, results: Sequence[Dict[str, Any]]) -> None:
        """Write one chunk's results; when this returns they survive this process, not a power failure."""
        line = json.dumps({"attempt": self.attempt, "rank": rank, "results": list(results)}, separators=(",", ":"))
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Write it to the disk, and unlock it for another attempt."""
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


def done(folder: str) -> Set[int]:
    """The numbers of the inputs that have a result."""
    return {
        result["i"]
        for line in files.read_lines(os.path.join(folder, job_names.JOURNAL))
        for result in line.get("results", ())
    }


def counts(folder: str, attempt: int) -> Dict[int, int]:
    """Number of results that each rank of an attempt has delivered."""
    found: Dict[int, int] = {}
    for line in files.read_lines(os.path.join(folder, job_names.JOURNAL)):
        if line.get("attempt") == attempt:
            found[line["rank"]] = found.get(line["rank"], 0) + len(line["results"])
    return found


def finish(folder: str, labels: Sequence[str]) -> Dict[str, int]:
    """Write results.jsonl from the journal: one line an input, in input order, the first result of each.

    Returns {"images": all, "errors": those with an error}. Raises RuntimeError where a result is missing, and then
    writes nothing.
    """
    results: Dict[int, Dict[str, Any]] = {}
    for line in files.read_lines(os.path.join(folder, job_names.JOURNAL)):
        for result in line.get("results", ()):
            results.setdefault(result["i"], result)
    errors = 0
    lines: List[str] = []
    for index, entry in enumerate(files.read_lines(os.path.join(folder, job_names.INPUTS))):
        if index not in results:
            raise RuntimeError("input %d (%s) has no result" % (index, entry["input"]))
        result = results[index]
        errors += "error" in result
        lines.append(json.dumps(_record(entry["input"], index, result, labels), ensure_ascii=False) + "\n")
    files.write_text(os.path.join(folder, job_names.RESULTS), "".join(lines))
    return {"images": len(lines), "errors": errors}


def _record(name: str, index: int, result: Dict[str, Any], labels: Sequence[str]) -> Dict[str, Any]:
    """The journal's short form as a line of results.jsonl."""
    record: Dict[str, Any] = {"input": name, "index": index}
    if "error" in result:
        record["error"] = result["error"]
    elif "top" in result:
        record["top"] = [_answer(number, score, labels) for number, score in result["top"]]
    else:
        record["outputs"] = result["outputs"]
    return record


def _answer(number: int, score: float, labels: Sequence[str]) -> Dict[str, Any]:
    answer: Dict[str, Any] = {"class": number}
    if number < len(labels) and labels[number]:
        answer["label"] = labels[number]
    answer["score"] = score
    return answer
