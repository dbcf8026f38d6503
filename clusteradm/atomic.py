"""Atomic replacement of a file: readers see the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MOST_NAME = 50  # characters, of up to four bytes each


def in_place(path: Path) -> bool:
    """Whether the path is written to directly: a device or a pipe. Raises OSError."""
    return path.is_relative_to("/dev") or (path.exists() and not path.is_file())


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` at the end of the block; if the block raises, `path` stays as it was.

    `mode`: permissions; None: those of the file that is replaced, or of a new file by the umask. What a symbolic link
    points to is replaced, not the link. A device or a pipe (/dev/stdout) is written to directly. Raises OSError.
    """
    if in_place(path):
        with path.open("wb") as device:
            yield device
        return
    target = path.resolve()
    if mode is None and target.exists():
        mode = stat.S_IMODE(target.stat().st_mode)
    # In the same folder, so that the rename stays on one file system; of a long name the begin, as names have an end.
    new = target.with_name(f".{target.name[:_MOST_NAME]}-{secrets.token_hex(4)}.tmp")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        try:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def write(path: Path, content: str | bytes, mode: int | None = None) -> None:
    """Replace the content of a file (text in UTF-8), or create it; `mode` as in `replacing`. Raises OSError."""
    with replacing(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)
