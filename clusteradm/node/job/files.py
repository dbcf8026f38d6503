"""Files of a job, read and written: whole, or not at all. Their names: node/spec/wire/job_names.py.

On the shared file system any board can put something else in a file's place: what is opened there is a file, not a link
(to a file of the head, say), and nothing that would have to be waited for.
"""

import errno
import json
import os
import stat
from typing import Any, Dict, Iterator, List, Optional, Type, TypeVar

from clusteradm.node import atomic
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.manifest import LABELS

T = TypeVar("T")

_NO_FILE = "no file of a job: it is a link, or no regular file"
_MOST_DOCUMENT = 16 << 20  # bytes; a timeline of a thousand hosts has three millions


def opener(path: str, flags: int) -> int:
    """An opener for open(): of a regular file with one name, or of a new one that is its owner's alone.

    Raises OSError for anything else.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.EINVAL, _NO_FILE, path) from None
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
        os.close(fd)
        raise OSError(errno.EINVAL, _NO_FILE, path)
    return fd


def outputs(folder: str) -> str:
    """The name, in the job's directory, of the folder for large outputs."""
    return job_names.OUTPUTS % os.path.basename(folder).lstrip(".")


def write_text(path: str, text: str, keep: bool = True) -> None:
    """Replace the file by one rename; if it is to keep, after its bytes are on the disk."""
    with atomic.replacing(path, mode=0o644, durable=keep) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str, document: Any, keep: bool = True) -> None:
    """Replace the file by `document`, which may hold dataclasses, as write_text."""
    write_text(path, json.dumps(document, default=vars) + "\n", keep)


def read(kind: Type[T], path: str) -> Optional[T]:
    """The file as a `kind`; None where it is not there yet, or does not fit."""
    try:
        return decode(kind, read_json(path))
    except WireError:
        return None


def read_json(path: str) -> Optional[Dict[str, Any]]:
    """The document, or None where there is none yet, or what is none that a job has: of another form, or too large."""
    try:
        with open(path, "rb", opener=opener) as file:
            data = file.read(_MOST_DOCUMENT + 1)
        document = loads(data) if len(data) <= _MOST_DOCUMENT else None
    except (FileNotFoundError, WireError):
        return None
    return document if isinstance(document, dict) else None


def read_lines(path: str) -> Iterator[Dict[str, Any]]:
    """The objects of a JSON Lines file. A line that was cut short (power, kill) is left out; no file, no lines."""
    try:
        file = open(path, encoding="utf-8", errors="replace", opener=opener)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        for line in file:
            found = entry(line)
            if found is not None:
                yield found


def entry(line: str) -> Optional[Dict[str, Any]]:
    """The object of a line of JSON Lines; None for one that is cut short, or none."""
    try:
        found = json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def labels(model: str) -> List[str]:
    """The names of the classes of a model, by its path; none where it has none."""
    try:
        with open(os.path.join(os.path.dirname(model), LABELS), encoding="utf-8") as file:
            return file.read().split("\n")
    except FileNotFoundError:
        return []


def sync(path: str) -> None:
    """Have the file and its name on the disk."""
    with open(path, "rb", opener=opener) as file:
        os.fsync(file.fileno())
    atomic.sync_folder(os.path.dirname(path))


def tail(path: str, lines: int = 20) -> List[str]:
    """The last lines of a text file."""
    try:
        with open(path, "rb", opener=opener) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16384))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def size(path: str) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def part(path: str, start: int, most: int = 1 << 20) -> bytes:
    """Bytes of a file from `start` on; none where there is no file."""
    try:
        with open(path, "rb", opener=opener) as file:
            return os.pread(file.fileno(), most, start)
    except FileNotFoundError:
        return b""


def line(entry: Any) -> str:
    """An object as a line of JSON Lines."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
