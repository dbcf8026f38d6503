"""Labels of a model's classes: read from the forms of label files in use, from the model itself, and written.

The number of classes decides what the form of a file leaves open: whether "1 dollar" is a class's number and its name,
and whether numbers count from 0 or from 1. What remains open is refused, never guessed. In the zip archive at a model's
end, where TensorFlow Lite's metadata and Ultralytics put them, a file is one of labels only if something calls it so:
the metadata, or without metadata its own name; any other text in there (a vocabulary, a licence) is none.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from clusteradm.errors import UsageError
from clusteradm.models import label_documents
from clusteradm.models.label_documents import LabelMap, Unknown
from clusteradm.node.spec.zips import UNSOUND

# A label file of more than this is none; it also bounds what a zip inside a model may unfold to.
MOST_BYTES = 4 << 20
MOST_CLASSES = 1_000_000
MOST_CHARACTERS = 1000  # of one label

_LINE_END = re.compile(r"\r\n|\n|\r")  # and no other: U+2028 and a form feed are characters of a label
_MOST_DIGITS = 9
_FEW = 10  # of so many labels, one may be another's
_BACKGROUND = ("background", "__background__", "???", "unlabeled")
# The zip is searched for in so much of a model's end: its own files are labels, vocabularies and a description.
_ARCHIVE_BYTES = 16 << 20
# The most that is read from a zip at once; it is the size of its list of files (64 KiB: a thousand).
_READ_BYTES = (64 << 10) + 22

# Files in which Ultralytics' exporters write what they know of a model, as JSON, YAML or a Python literal.
_ULTRALYTICS = re.compile(r"(temp_)?meta(data)?\.(txt|json|yaml)")
_NAMES = re.compile(r"""(^|[{,]\s{0,20})["']?names["']?\s{0,20}:""", re.MULTILINE)

_NEXT_STEP = "a label file has one label per line, in the order of the classes"


def parse(text: str, classes: int | None = None, where: str = "") -> tuple[str, ...]:
    """The label of each class, by its number; "" where a numbered file leaves a class out; () where all are empty.

    `classes`: the model's, None where it is no classifier; `where`: the file, for its suffix and for errors. Raises
    UsageError for a form that is not known, and for labels that cannot be those of so many classes.
    """
    text = text.removeprefix("\ufeff")
    try:
        if "\0" in text:
            raise Unknown("it has NUL characters: it is no text in UTF-8")
        found = label_documents.read(text, PurePath(where).suffix.lower())
        if found is None:
            found = _lines(text, classes)
        _check_sizes(found)
        if isinstance(found, LabelMap):
            found = _from_zero(found, classes)
        return _by_number(found, classes) if isinstance(found, dict) else _by_place(found, classes)
    except Unknown as error:
        raise UsageError(str(error), where=where, next_step=_NEXT_STEP) from None


def render(labels: tuple[str, ...]) -> bytes:
    """labels.txt as the repository keeps it: line N is class N."""
    return ("\n".join(labels) + "\n").encode("utf-8")


def _check_sizes(labels: tuple[str, ...] | dict[int, str]) -> None:
    """Raise Unknown for what would burden every result of every job."""
    longest = max(labels.items() if isinstance(labels, dict) else enumerate(labels), key=_length, default=(0, ""))
    if len(labels) > MOST_CLASSES or _length(longest) > MOST_CHARACTERS:
        raise Unknown(
            f"{len(labels):,} labels, the longest, of class {longest[0]}, of {_length(longest):,} characters; "
            f"at most {MOST_CLASSES:,} of {MOST_CHARACTERS:,} are taken"
        )


def _length(numbered: tuple[int, str]) -> int:
    return len(numbered[1])


def _by_place(labels: tuple[str, ...], classes: int | None) -> tuple[str, ...]:
    """Labels in the order of the classes. Raises Unknown where their number is another one."""
    if not any(labels):
        return ()
    if classes is None or len(labels) == classes:
        return labels
    text = f"{len(labels):,} labels, but the model has {classes:,} classes"
    if len(labels) == classes + 1 and labels[0].lower() in _BACKGROUND:
        raise Unknown(f"{text}: the first label, {labels[0]!r}, is of no class of it: remove that line")
    if len(labels) == classes - 1 and labels[0].lower() not in _BACKGROUND:
        raise Unknown(f"{text}: where its class 0 is the background, put a line for that before the others")
    raise Unknown(text)


def _by_number(labels: dict[int, str], classes: int | None) -> tuple[str, ...]:
    """Labels with the numbers of their classes. Raises Unknown where a number is of no class."""
    if not any(labels.values()):
        return ()
    low, high = min(labels), max(labels)
    if classes is not None and high == classes and low == 1:
        labels, high = {number - 1: label for number, label in labels.items()}, high - 1
    if classes is not None and high >= classes:
        raise Unknown(f"it has a label of class {high}, but the model has {classes:,} classes, 0 to {classes - 1}")
    if high >= _most_classes(len(labels)):
        raise Unknown(f"its {len(labels):,} labels are of classes up to {high}: that is no list of labels")
    return tuple(labels.get(number, "") for number in range(high + 1))


def _from_zero(labels: LabelMap, classes: int | None) -> dict[int, str]:
    """The classes of a label map, whose ids count from 1: in the model from 0, or 0 is the background.

    Source: tensorflow/models object_detection/protos/string_int_label_map.proto; TFLite_Detection_PostProcess has no
    background.
    """
    if 0 in labels or (classes is not None and classes > max(labels, default=0)):
        return dict(labels)
    return {number - 1: label for number, label in labels.items()}


def _most_classes(labels: int) -> int:
    """A hole of thousands of classes would be no label file."""
    return min(10 * labels + 1000, MOST_CLASSES)


def _lines(text: str, classes: int | None) -> tuple[str, ...] | dict[int, str]:
    """Labels of plain lines: with their numbers where every line has one that the number of classes bears out."""
    lines = [line.strip() for line in _LINE_END.split(text)]
    while lines and not lines[-1]:
        lines.pop()
    filled = [line for line in lines if line]
    found = [pair for pair in map(_number_first, filled) if pair]
    if found and len(found) == len(filled) and _are_classes(found, len(lines), classes):
        if _tell_apart(found, filled):
            return dict(zip((number for number, _ in found), filled, strict=True))
        return dict(found)
    found = [pair for pair in map(_number_last, filled) if pair]
    if len(found) == len(filled) > 1 and _are_every_class(found, classes) and found != sorted(found):
        return dict(found)
    return tuple(filled if len(filled) == classes else lines)


def _are_classes(found: list[tuple[int, str]], lines: int, classes: int | None) -> bool:
    """Whether the numbers that the lines begin with are classes, and no part of the labels. Raises Unknown."""
    numbers, labels = {number for number, _ in found}, {label for _, label in found}
    low, high, count = min(numbers), max(numbers), len(found)
    if count == 1:
        return low == 0  # a lone line "7 up" is a label
    if len(labels) == 1 or high >= _most_classes(count):
        return False  # "1 dollar", "2 dollar"
    if len(numbers) < count:
        if low == 0 and high < count and len(labels) == count:
            (twice, _), *_ = Counter(number for number, _ in found).most_common(1)
            raise Unknown(f"it has two labels of class {twice}")
        return False
    if low == 0 or (low == 1 and high == count):
        # All numbers are different: where the last one is a class, so are the others.
        return classes is None or high < classes or (low == 1 and high == classes) or lines != classes
    if classes is None:
        return low == 1 and high < 2 * count
    return high < classes and lines != classes and low == 1


def _tell_apart(found: list[tuple[int, str]], lines: list[str]) -> bool:
    """Whether the numbers, of whatever use besides, are words of the labels: "0 items", "1 item", "2 items".

    So where they are set off as words are, and more than a tenth of the labels are another's without them. Numbered
    lists of ImageNet's 1000 classes have two labels twice.
    """
    if not all(re.match(r"\d+ \S", line) for line in lines):
        return False
    times = Counter(label for _, label in found)
    return sum(count for count in times.values() if count > 1) * _FEW > len(found)


def _are_every_class(found: list[tuple[int, str]], classes: int | None) -> bool:
    """Whether the numbers are those of all classes, and the labels all different: "gate 2" and "gate 1" are not."""
    count = len(found)
    every = {number for number, _ in found} == set(range(count))
    return every and len({label for _, label in found}) == count and classes in (None, count)


def _number_first(line: str) -> tuple[int, str] | None:
    """Number and label of a line "17  cat", "17: cat" or "17,cat"; None for another."""
    digits = len(line) - len(line.lstrip("0123456789"))
    if not 0 < digits <= _MOST_DIGITS:
        return None
    rest = line[digits:]
    label = rest.lstrip()
    if label[:1] in tuple(":,;=") and label[1:].strip():
        return int(line[:digits]), label[1:].strip()
    return (int(line[:digits]), label) if label and label != rest else None


def _number_last(line: str) -> tuple[int, str] | None:
    """Number and label of a line "cat 17" or "cat: 17"; None for another."""
    digits = len(line) - len(line.rstrip("0123456789"))
    if not 0 < digits <= _MOST_DIGITS:
        return None
    rest = line[:-digits]
    label = rest.rstrip()
    if label[-1:] in tuple(":,;=") and label[:-1].strip():
        return int(line[-digits:]), label[:-1].strip()
    return (int(line[-digits:]), label) if label and label != rest else None


class _Tail(io.BytesIO):
    """The end of a model, for zipfile, which believes the sizes that a zip claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _READ_BYTES:
            raise zipfile.BadZipFile(f"a list of files of {size} bytes")
        return super().read(size)


def embedded(data: bytes, named: Sequence[str] | None = None) -> str | None:
    """The text of the label file inside a model; None where there is none.

    `named`: the files that the model's metadata calls labels; None where it has no metadata.
    """
    try:
        with zipfile.ZipFile(_Tail(data[-_ARCHIVE_BYTES:])) as archive:
            members = archive.infolist()
            if named is None:
                called = [info for info in members if re.search(r"label[^/]*\.txt\Z", info.filename, re.IGNORECASE)]
            else:
                called = [info for name in named for info in members if info.filename == name]
            text = _text(archive, called[0]) if called else None
            if text is not None:
                return text
            for info in members:
                if _ULTRALYTICS.fullmatch(info.filename.rpartition("/")[2]):
                    text = _text(archive, info)
                    if text is not None and _NAMES.search(text):
                        return text
    except (*UNSOUND, OSError):
        # Weights may hold the bytes of a zip's end by chance: that is a model without labels, and no error.
        return None
    return None


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    """The file's text; None where it is too large or compressed as the metadata's tools do not, without a limit."""
    if info.file_size > MOST_BYTES or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    with archive.open(info) as member:
        return b"".join(iter(lambda: member.read(_READ_BYTES // 2), b"")).decode("utf-8", "replace")


def archive(data: bytes) -> bytes:
    """The zip archive at a model's end, with its labels; b"" where there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            start = min((info.header_offset for info in members.infolist()), default=len(data))
    except (*UNSOUND, OSError):
        return b""
    return data[start:] if start >= 0 else b""
