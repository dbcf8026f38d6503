"""Labels of a model's classes: read from the forms of label files in use, from the model itself, and written."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from itertools import pairwise

# A label file of more than this is none; it also bounds what a zip inside a model may unfold to.
MOST_BYTES = 4 << 20
MOST_CLASSES = 1_000_000
MOST_CHARACTERS = 1000  # of one label

# The zip is searched for in so much of a model's end: its own files are labels, vocabularies and a description.
_ARCHIVE_BYTES = 16 << 20
# The most that is read from a zip at once; it is the size of its list of files (64 KiB: a thousand).
_READ_BYTES = (64 << 10) + 22
_MOST_DIGITS = 9


def parse(text: str) -> tuple[str, ...]:
    """The label of each class, by its number; "" where a numbered file leaves a class out.

    A file is numbered if every line begins with a number of its own and the numbers rise; else a line's place is its
    class.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    matches = [_numbered(line.strip()) for line in lines if line.strip()]
    numbers = [match[0] for match in matches if match]
    rising = all(before < after for before, after in pairwise(numbers))
    # A lone line "7 up" is a label; and a hole of thousands of classes would be no label file.
    if len(numbers) != len(matches) or len(numbers) < 2 or not rising or numbers[-1] >= _most_classes(numbers):
        return tuple(line.strip() for line in lines)
    labels = [""] * (numbers[-1] + 1)
    for match in matches:
        if match:
            labels[match[0]] = match[1]
    return tuple(labels)


def _most_classes(numbers: list[int]) -> int:
    return min(10 * len(numbers) + 1000, MOST_CLASSES)


def _numbered(line: str) -> tuple[int, str] | None:
    """Number and label of a line "17  cat" or "17: cat", the form of some of Coral's own files; None for another."""
    digits = len(line) - len(line.lstrip("0123456789"))
    if not 0 < digits <= _MOST_DIGITS:
        return None
    rest = line[digits:]
    label = rest.lstrip()
    if label[:1] == ":" and label[1:].strip():
        return int(line[:digits]), label[1:].strip()
    return (int(line[:digits]), label) if label and label != rest else None


def render(labels: tuple[str, ...]) -> bytes:
    """labels.txt as the repository keeps it: line N is class N."""
    return ("\n".join(labels) + "\n").encode("utf-8")


class _Tail(io.BytesIO):
    """The end of a model, for zipfile, which believes the sizes that a zip claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _READ_BYTES:
            raise zipfile.BadZipFile(f"a list of files of {size} bytes")
        return super().read(size)


def embedded(data: bytes) -> str | None:
    """The label file inside a model (TensorFlow Lite metadata: a zip archive at its end); None where there is none."""
    try:
        with zipfile.ZipFile(_Tail(data[-_ARCHIVE_BYTES:])) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith(".txt")]
            named = [info for info in names if "label" in info.filename.lower()] or (names if len(names) == 1 else [])
            if not named or named[0].file_size > MOST_BYTES:
                return None
            # Others are not written by the metadata's tools, and unpack without a limit.
            if named[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return None
            with archive.open(named[0]) as member:
                return b"".join(iter(lambda: member.read(_READ_BYTES // 2), b"")).decode("utf-8", "replace")
    except (
        zipfile.BadZipFile,
        NotImplementedError,  # a version or a method of compression
        RuntimeError,  # encrypted
        ValueError,  # an offset before the beginning, a name that is not UTF-8
        OverflowError,  # an offset of 64 bits
        EOFError,
        OSError,
        struct.error,
        zlib.error,
    ):
        # Weights may hold the bytes of a zip's end by chance: that is a model without labels, and no error.
        return None
