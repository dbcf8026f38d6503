"""Small files and folders of the kernel and the distribution: a missing one is an answer, not an error; and errors in
words."""

import os
from typing import Any, Optional


def read(*parts: str) -> Optional[str]:
    """A file's text without surrounding white space; None if it is missing or unreadable."""
    try:
        with open(os.path.join(*parts), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def names(*parts: str) -> Any:
    """The names in a folder, sorted; empty if it is missing."""
    try:
        return sorted(os.listdir(os.path.join(*parts)))
    except OSError:
        return []


def number(text: Optional[str]) -> Optional[int]:
    """The integer in a file's text; None if the file is missing or holds something else."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def reason(error: BaseException) -> str:
    """An error in words: of the system's, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        return "%s: %s" % (error.filename, error.strerror) if error.filename else error.strerror
    return str(error) or type(error).__name__
