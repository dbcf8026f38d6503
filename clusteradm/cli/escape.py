"""Escapes for text of others: hosts, inventories, playbooks, models and documents name things as they like.

A terminal obeys control characters, and some of what it obeys is harmful: one sequence writes the clipboard, another
hides a line. They are shown as Python writes them: ESC as the four characters `\\x1b`.
"""

from __future__ import annotations

import re

# C0 but for tab and newline, DEL and C1; marks and overrides of the direction of writing; separators of lines; halves
# of surrogate pairs, which cannot be encoded.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_IN_A_LINE = re.compile(f"[\n]|{_UNSAFE.pattern}")


def visible(text: str) -> str:
    """The text with its control characters made visible; newlines and tabs stay. Escaped text stays as it is."""
    return _UNSAFE.sub(_escaped, text)


def line(text: str) -> str:
    """The text as one line: for a name, a cell, a field. Newlines at its end are left out."""
    return _NOT_IN_A_LINE.sub(_escaped, text.rstrip("\r\n"))


def sentence(text: str) -> str:
    """Prose as one line, each of its gaps one space: a cause may be what a program wrote in several lines."""
    return line(" ".join(text.split()))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
