"""Plain files that stand for files of sysfs in a board's view of it."""

from __future__ import annotations

import os
from pathlib import Path


def put(path: Path, text: str) -> None:
    """Replace a file's text in place, so that a reader never sees it empty."""
    body = text.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, body, 0)
        os.ftruncate(descriptor, len(body))
    finally:
        os.close(descriptor)


def files(folder: Path, texts: dict[str, str], mode: int) -> None:
    """Write files of `folder`: name -> text, all with the same mode."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        put(folder / name, text)
        (folder / name).chmod(mode)
