"""The nearest known name to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wrong: str, known: Iterable[str], alike: float = 0.5) -> str:
    """The end of an error: which of the known names may have been meant, or "" where none is near.

    `alike`: how near at least, from 0 (any name) to 1 (the same).
    """
    found = difflib.get_close_matches(wrong, sorted(set(known)), n=1, cutoff=alike)
    return f'; did you mean "{found[0]}"?' if found else ""
