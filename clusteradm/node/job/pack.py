"""Pack of a job's inputs and its index: many small files as one, so that a rank reads a chunk in one NFS read.

The pack is the files' bytes, one after another. A picture is one input; an array file (.npy, .npz) is as many inputs as
it has rows of the model's input, found by its header and read in place. No numpy: this runs on the head's own Python.
"""

import json
import os
from functools import partial
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

from clusteradm.node.job import several, sound
from clusteradm.node.job.arrays import Window, members
from clusteradm.node.job.files import opener
from clusteradm.node.spec import feeding
from clusteradm.node.spec.npy import Array, Damaged, Unusable, header
from clusteradm.node.spec.wire.job import InputForm

ARRAYS = (".npy", ".npz")
SOUND = ".wav"

# Types of inputs for numbers as they are, ids for instance: any whole numbers that they hold.
_WIDE = ("int16", "int32", "int64", "uint16", "uint32", "uint64")

# A rank holds a whole picture file in memory, beside what it decodes to.
MOST_PICTURE = 128 << 20
# Rank 0 holds the index in memory.
MOST_INPUTS = 5000000
_MOST_REASONS = 3  # in an error
# What compressed arrays may unfold to, all of a job's together: so many times the inputs' bytes, and so much besides.
_MOST_RATIO = 100
_MOST_BESIDES = 1 << 30


class PackError(Exception):
    """Inputs that are no job; the text says why."""


class NoInput(Exception):
    """A file that cannot be read; the text says why."""


class Entry(NamedTuple):
    """A file in the pack. `error`: why its bytes are not to be used; `member`: the array that is meant of an .npz."""

    name: str
    offset: int
    size: int
    error: Optional[str] = None
    member: Optional[str] = None


class Wanted(NamedTuple):
    """The model's input. `refusal`: why it takes no pictures; `pixels`: whether an array of uint8 is pixels to it;
    `window`: samples of sound that it takes at once, 0 for none; `rate`: samples a second; `name`: where there are
    several."""

    dtype: str
    shape: Tuple[int, ...]
    quantised: bool = False
    refusal: str = ""
    pixels: bool = True
    window: int = 0
    rate: int = feeding.SAMPLE_RATE
    name: str = ""


def wanted(form: InputForm) -> Wanted:
    """The model's input, by the job's spec."""
    try:
        feeding.rule(form)
        refusal = ""
    except feeding.NoRule as error:
        refusal = str(error)
    rate = (form.feed.rate if form.feed else None) or feeding.SAMPLE_RATE
    pixels, window = feeding.takes_pixels(form), feeding.window(form)
    return Wanted(form.dtype, form.shape, bool(form.scale), refusal, pixels, window, rate, form.name)


def append(pack: str, source: BinaryIO) -> int:
    """Append a file's bytes to the pack; returns their number. Raises NoInput, and then appends nothing."""
    with open(pack, "ab", opener=opener) as file:
        before = file.tell()
        while True:
            try:
                data = source.read(1 << 20)
            except OSError as error:
                file.truncate(before)
                raise NoInput("cannot read it: %s" % error.strerror) from None
            if not data:
                return file.tell() - before
            file.write(data)


def index(pack: str, entries: Sequence[Entry], wanted: Wanted, *more: Wanted) -> Iterator[Dict[str, Any]]:
    """The lines of inputs.jsonl. `more`: the model's inputs besides the first.

    An input that is damaged, too large or does not fit the model has a line whose form is {"error": why}: a rank
    answers with that.
    """
    room = _MOST_RATIO * sum(entry.size for entry in entries) + _MOST_BESIDES
    for entry in entries:
        suffix = ".npz" if entry.member is not None else os.path.splitext(entry.name)[1].lower()
        if entry.error is not None:
            yield refused(entry.name, entry.error)
        elif more:
            try:
                if suffix != ".npz" or entry.member is not None:
                    names = ", ".join(several.short(one.name) for one in (wanted, *more))
                    raise Unusable("the model has %d inputs: give it .npz files of %s" % (1 + len(more), names))
                parts = [several.Part(one.name, one.shape, partial(_check, wanted=one)) for one in (wanted, *more)]
                for line in several.inputs(pack, entry.name, entry.offset, entry.size, parts, room):
                    room -= line["size"]
                    yield line
            except Unusable as error:
                yield refused(entry.name, str(error))
        elif suffix in ARRAYS:
            for name, array in _arrays(pack, entry, suffix, wanted, room):
                if isinstance(array, str):
                    yield refused(name, array)
                else:
                    room -= array.size
                    yield from _rows(name, array, wanted)
        elif suffix == SOUND:
            yield from _windows(pack, entry, wanted)
        elif wanted.refusal:
            yield refused(entry.name, wanted.refusal)
        elif entry.size > MOST_PICTURE:
            why = "a picture file of %d bytes, more than %d" % (entry.size, MOST_PICTURE)
            yield refused(entry.name, str(Damaged(why)))
        else:
            yield {"input": entry.name, "offset": entry.offset, "size": entry.size, "form": None}


def refused(name: str, why: str) -> Dict[str, Any]:
    """The line of an input that cannot be used."""
    return {"input": name, "offset": 0, "size": 0, "form": {"error": why}}


def _arrays(pack: str, entry: Entry, suffix: str, wanted: Wanted, room: int) -> Iterator[Tuple[str, Any]]:
    """(name, Array in the pack, or why it cannot be read) of a file."""

    def whole(member: str) -> str:
        return "%s:%s" % (entry.name, member) if member and entry.member is None else entry.name

    try:
        if suffix == ".npz":
            fits = partial(_fits, wanted)
            found = members(pack, entry.offset, entry.size, fits, room, entry.member)
            for name, array in found:
                yield whole(name), array
            return
        with open(pack, "rb", opener=opener) as file:
            one = header(cast(BinaryIO, Window(file, entry.offset, entry.size)), entry.size)
        yield entry.name, one.at(entry.offset + one.start)
    except Unusable as error:
        yield entry.name, str(error)


def _windows(pack: str, entry: Entry, wanted: Wanted) -> Iterator[Dict[str, Any]]:
    """Inputs of a sound: as many samples one after another as the model takes at once; the last is filled up."""
    try:
        with open(pack, "rb", opener=opener) as file:
            found = sound.header(cast(BinaryIO, Window(file, entry.offset, entry.size)), entry.size)
        if not wanted.window:
            raise Unusable("the model takes %s, no samples of sound" % _by(wanted.shape))
        if found.rate != wanted.rate:
            text = (
                "it has %d samples/s and the model takes %d: resample it, or say what the model takes (--sample-rate)"
            )
            raise Unusable(text % (found.rate, wanted.rate))
        if not found.frames:
            raise Unusable("it holds no sample")
    except Unusable as error:
        yield refused(entry.name, str(error))
        return
    form = [feeding.SOUND, found.channels]
    count = -(-found.frames // wanted.window)
    for number in range(count):
        first = number * wanted.window
        size = min(wanted.window, found.frames - first) * found.frame
        name = entry.name if count == 1 else "%s[%d]" % (entry.name, number)
        offset = entry.offset + found.start + first * found.frame
        yield {"input": name, "offset": offset, "size": size, "form": form}


def _fits(wanted: Wanted, name: str, array: Array) -> None:
    _check(array, wanted)


def write_index(path: str, lines: Iterator[Dict[str, Any]]) -> int:
    """Write inputs.jsonl; returns the number of inputs.

    Raises PackError where there are too many for one job, and where not one of them can be used.
    """
    count, usable = 0, False
    reasons: List[str] = []
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
            if not isinstance(line["form"], dict):
                usable = True
            elif len(reasons) < _MOST_REASONS:
                reasons.append("%s: %s" % (line["input"], line["form"]["error"]))
            if count > MOST_INPUTS:
                raise PackError("more than %d inputs: make several jobs of them" % MOST_INPUTS)
    if not usable:
        more = ["and %d more" % (count - len(reasons))] if count > len(reasons) else []
        raise PackError("no input can be used: " + "; ".join(reasons + more))
    return count


def _check(array: Array, wanted: Wanted) -> Optional[int]:
    """Number of inputs in an array, of which the first dimension counts them; None where it is one as a whole.

    Dimensions of 1 are ignored. Raises Unusable where it does not fit the model.
    """
    one = [size for size in wanted.shape if size != 1]
    whole = [size for size in array.shape if size != 1] == one
    if 0 in wanted.shape or not (whole or (len(array.shape) > 1 and [n for n in array.shape[1:] if n != 1] == one)):
        text = "it has shape %s; the model takes %s, or any number of them"
        raise Unusable(text % (_by(array.shape), _by(wanted.shape)))
    if not _takes(wanted, array.dtype):
        text = "it has %s numbers; the model takes %s%s: save what it is to be fed, as one of these (array.astype)"
        raise Unusable(text % (array.dtype, wanted.dtype, _besides(wanted)))
    if not whole and not array.shape[0]:
        raise Unusable("it holds no input: its shape is %s" % _by(array.shape))
    return None if whole else array.shape[0]


def _takes(wanted: Wanted, dtype: str) -> bool:
    """Whether numbers of this type have one meaning for the input.

    Those of its own type are taken as they are, real numbers are quantised by its scale, and whole numbers are no real
    numbers: they may be pixels, samples of sound, or quantised already.
    """
    if dtype == wanted.dtype:
        return True
    if dtype.startswith("float"):
        return wanted.dtype in feeding.TYPES and wanted.dtype != "bool"
    if dtype == "uint8" and wanted.pixels:
        return True
    return dtype in feeding.INTEGERS and wanted.dtype in _WIDE and not wanted.quantised


def _besides(wanted: Wanted) -> str:
    """What else than its own type the input takes."""
    others = [] if wanted.dtype.startswith("float") or wanted.dtype == "bool" else ["real numbers"]
    return "".join(" or " + one for one in [*others, *(["pixels (uint8)"] if wanted.pixels else [])])


def _rows(name: str, array: Array, wanted: Wanted) -> Iterator[Dict[str, Any]]:
    """Inputs of an array: one, or as many as its first dimension; one with an error where it does not fit."""
    try:
        rows = _check(array, wanted)
    except Unusable as error:
        yield refused(name, str(error))
        return
    size = array.item * feeding.size(wanted.shape)
    form = [array.form, list(wanted.shape)]
    if rows is None:
        yield {"input": name, "offset": array.start, "size": size, "form": form}
        return
    for row in range(rows):
        yield {"input": "%s[%d]" % (name, row), "offset": array.start + row * size, "size": size, "form": form}


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "()"
