"""Suggestion of the known name nearest to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wrong: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of an error message: '; did you mean "NAME"?', or "" if no known name is near.

    `cutoff`: least similarity, from 0 (any name) to 1 (the same name).
    """
    found = difflib.get_close_matches(wrong, sorted(set(known)), n=1, cutoff=cutoff)
    return f'; did you mean "{found[0]}"?' if found else ""
