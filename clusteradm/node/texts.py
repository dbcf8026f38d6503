"""Small files and folders, as the kernel and the distribution have them: that one is not there is an answer."""

import os
from typing import Any, Optional


def read(*parts: str) -> Optional[str]:
    """A small file's text without the white space around it; None if it is not there or cannot be read."""
    try:
        with open(os.path.join(*parts), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def names(*parts: str) -> Any:
    """The names in a directory, sorted; none if it is not there."""
    try:
        return sorted(os.listdir(os.path.join(*parts)))
    except OSError:
        return []


def number(text: Optional[str]) -> Optional[int]:
    """A file's whole number; None where it is not there or holds something else."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
