"""Log of a job: what mpirun, the ranks and the supervisor say. A job that watches a folder may never end: of a log that
has become long, the begin and the end are kept, with a line between them that says so."""

import os
import re

from clusteradm.node.job import files

MOST_BYTES = 8 << 20
FIRST_BYTES = 256 << 10  # how the job began
LAST_BYTES = 2 << 20
_LEFT_OUT = "... %d bytes of this log were left out here: of a long one, the begin and the end are kept ...\n"
_MARK = re.compile(re.escape(_LEFT_OUT.encode("ascii")).replace(b"%d", b"([0-9]{1,18})"))
_MOST_MARK = len(_LEFT_OUT) + 18
_PIECE = 1 << 20


def bound(path: str) -> None:
    """Shorten the log in its place, if it is too long: mpirun has it open, and appends. A line that it writes in the
    moment of that may be lost. Raises OSError."""
    if files.size(path) <= MOST_BYTES:
        return
    with open(path, "r+b", buffering=0, opener=files.opener) as file:
        log, size = file.fileno(), files.size(path)
        first = os.pread(log, FIRST_BYTES + _MOST_MARK, 0)
        before = _MARK.search(first)
        if before is not None:
            left_out, kept, first = int(before.group(1)), before.end(), first[: before.start()]
        else:
            left_out, first = 0, first[: first.rfind(b"\n", 0, FIRST_BYTES) + 1]
            kept = len(first)
        last = os.pread(log, LAST_BYTES, size - LAST_BYTES)
        last = last[last.find(b"\n") + 1 :]
        text = (_LEFT_OUT % (left_out + size - len(last) - kept)).encode("ascii") + last
        at = len(first)
        while text:
            at += os.pwrite(log, text, at)
            text = os.pread(log, _PIECE, size)  # what has come meanwhile
            size += len(text)
        os.ftruncate(log, at)
