"""Plain files that stand for files of sysfs in a board's view of it."""

from __future__ import annotations

import os
from pathlib import Path


def put(path: Path, text: str) -> None:
    """Replace a file's text in place, so that a reader never sees it empty."""
    body = text.encode()
    descriptor = _open(path)
    try:
        os.pwrite(descriptor, body, 0)
        os.ftruncate(descriptor, len(body))
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """The file, to be written: also one that its owner may only read, who is not root in a test."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except PermissionError:
        mode = path.stat().st_mode & 0o777
        path.chmod(mode | 0o200)
        try:
            return os.open(path, flags)
        finally:
            path.chmod(mode)


def files(folder: Path, texts: dict[str, str], mode: int) -> None:
    """Write files of `folder`: name -> text, all with the same mode."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        put(folder / name, text)
        (folder / name).chmod(mode)
