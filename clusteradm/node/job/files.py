"""Files of a job's directory, read and written: whole, or not at all. Their names: node/spec/wire/job_names.py."""

import json
import os
from typing import Any, Dict, Iterator, List, Optional, Type, TypeVar

from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import WireError, decode

T = TypeVar("T")


def outputs(folder: str) -> str:
    """The name, in the job's directory, of the folder for large outputs."""
    return job_names.OUTPUTS % os.path.basename(folder).lstrip(".")


def write_text(path: str, text: str, keep: bool = True) -> None:
    """Replace the file by one rename; if it is to keep, after its bytes are on the disk."""
    fresh = "%s.%d.new" % (path, os.getpid())
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
        if keep:
            file.flush()
            os.fsync(file.fileno())
    os.replace(fresh, path)


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
