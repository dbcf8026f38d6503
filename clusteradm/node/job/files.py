"""The files of a job directory, CLUSTER_SHARED/jobs/ID/, and how they are written: whole, or not at all.

spec.json      what is to be done; never changes
inputs.pack    the input files' bytes, one after another; removed when the job is complete
inputs.jsonl   one line an input: {"input": name, "offset", "size", "form": null (a picture) or [dtype, shape]}
attempt-N.json which rank sits where in attempt N; a name of its own, so that no NFS client has an old one in its cache
hostfile       the same for mpirun
journal.jsonl  the results as they came, with the number of the attempt
progress.json  what rank 0 knows, twice a second
status.json    what the supervisor knows
results.jsonl  one line an input, in input order; appears once, complete
outputs-ID/    output tensors that are too large for a line; results.jsonl names them by this path
log            what mpirun and the ranks said
"""

import json
import os
from typing import Any, Dict, Iterator, List, Optional

from clusteradm.node import atomic

SPEC = "spec.json"
PACK = "inputs.pack"
INPUTS = "inputs.jsonl"
ATTEMPT = "attempt-%d.json"
HOSTFILE = "hostfile"
JOURNAL = "journal.jsonl"
PROGRESS = "progress.json"
STATUS = "status.json"
RESULTS = "results.jsonl"
LOG = "log"


def outputs(folder: str) -> str:
    """The name, in the job's directory, of the folder for large outputs."""
    return "outputs-" + os.path.basename(folder).lstrip(".")


def write_text(path: str, text: str, keep: bool = True) -> None:
    """Replace the file by one rename; if it is to keep, after its bytes are on the disk."""
    with atomic.replacing(path, mode=0o644, durable=keep) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str, document: Any, keep: bool = True) -> None:
    """Replace the file by `document`, as write_text."""
    write_text(path, json.dumps(document) + "\n", keep)


def read_json(path: str) -> Optional[Dict[str, Any]]:
    """The document, or None where there is none yet."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def read_lines(path: str) -> Iterator[Dict[str, Any]]:
    """The objects of a JSON Lines file. A line that was cut short (power, kill) is left out; no file, no lines."""
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if not line.endswith("\n"):
                return
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry


def tail(path: str, lines: int = 20) -> List[str]:
    """The last lines of a text file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16384))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def line(entry: Any) -> str:
    """An object as a line of JSON Lines."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
