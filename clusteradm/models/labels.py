"""Labels of a model's classes: read from the forms of label files in use, from the model itself, and written."""

from __future__ import annotations

import io
import re
import zipfile
from itertools import pairwise

# A label file of more than this is none; it also bounds what a zip inside a model may unfold to.
_MOST_BYTES = 4 << 20

# "17  cat", "17: cat": the form of some of Coral's own files; the number is the class.
_NUMBERED = re.compile(r"\s*(\d+)(?:\s*:\s*|\s+)(\S.*?)\s*")


def parse(text: str) -> tuple[str, ...]:
    """The label of each class, by its number; "" where a numbered file leaves a class out.

    A file is numbered if every line begins with a number of its own and the numbers rise; else a line's place is its
    class.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    matches = [_NUMBERED.fullmatch(line) for line in lines if line.strip()]
    numbers = [int(match[1]) for match in matches if match]
    rising = all(before < after for before, after in pairwise(numbers))
    # A lone line "7 up" is a label; and a hole of thousands of classes would be no label file.
    if len(numbers) != len(matches) or len(numbers) < 2 or not rising or numbers[-1] > 10 * len(numbers) + 1000:
        return tuple(line.strip() for line in lines)
    labels = [""] * (numbers[-1] + 1)
    for match in matches:
        if match:
            labels[int(match[1])] = match[2]
    return tuple(labels)


def render(labels: tuple[str, ...]) -> bytes:
    """labels.txt as the repository keeps it: line N is class N."""
    return ("\n".join(labels) + "\n").encode("utf-8")


def embedded(data: bytes) -> str | None:
    """The label file inside a model (TensorFlow Lite metadata: a zip archive at its end); None where there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith(".txt")]
            named = [info for info in names if "label" in info.filename.lower()] or (names if len(names) == 1 else [])
            if not named or named[0].file_size > _MOST_BYTES:
                return None
            return archive.read(named[0]).decode("utf-8", "replace")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError):
        # Weights may hold the bytes of a zip's end by chance: that is a model without labels, and no error.
        return None
