"""Inputs that are made for a model: pictures of its size, or arrays of its type, the same at every run.

Each is listed many times, so that a job of thousands of inputs takes little room here; on the way to the head, and from
there to the ranks, each is sent as often.
"""

from __future__ import annotations

import io
import math
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from clusteradm.errors import UsageError
from clusteradm.jobs.inputs import File, LocalInputs
from clusteradm.node.spec import feeding
from clusteradm.node.spec.feeding import Picture
from clusteradm.node.spec.wire.job import InputForm, ModelFile

MOST_BYTES = 256 << 20  # of all inputs
MOST_INPUTS = 100_000
_DISTINCT = 8  # pictures, or rows of arrays
_COLOURS = {1: 0, 3: 2, 4: 6}  # PNG's types of colour, by channels
# Type -> NumPy's name of it, the bytes of a number, and how struct writes a number from 0 to 1 (None: any bytes do).
_NUMBERS: dict[str, tuple[str, int, str | None]] = {
    "uint8": ("|u1", 1, None),
    "int8": ("|i1", 1, None),
    "int16": ("<i2", 2, None),
    "uint16": ("<u2", 2, None),
    "bool": ("|b1", 1, "?"),
    "float16": ("<f2", 2, "e"),
    "float32": ("<f4", 4, "f"),
    "float64": ("<f8", 8, "d"),
}


def inputs(model: ModelFile, count: int, folder: Path) -> LocalInputs:
    """So many inputs of a model, fewer where they would take more than MOST_BYTES. `folder`: for their files.

    Raises UsageError for a model whose inputs cannot be made up.
    """
    contents = list(_contents(model))
    most = MOST_BYTES // max(len(data) for _, data in contents)
    files = []
    for number, (suffix, data) in enumerate(contents):
        path = folder / f"made-{number}{suffix}"
        path.write_bytes(data)
        files.append((path, len(data), suffix))
    listed = []
    for number in range(max(1, min(count, most, MOST_INPUTS))):
        path, size, suffix = files[number % len(files)]
        listed.append(File(f"made-{number:06d}{suffix}", path, size))
    return LocalInputs(tuple(listed))


def _contents(model: ModelFile) -> Iterator[tuple[str, bytes]]:
    """Suffix and bytes of each distinct file: one input each."""
    chance = random.Random(1)  # noqa: S311 - no secret
    forms = (model.input, *model.more)
    if len(forms) > 1:
        for _ in range(_DISTINCT):
            yield ".npz", _npz({form.name: _npy(form, chance) for form in forms})
        return
    picture = _picture(model.input)
    for number in range(_DISTINCT):
        if picture is not None:
            yield ".png", png(picture, number)
        else:
            yield ".npy", _npy(model.input, chance)


def _picture(form: InputForm) -> Picture | None:
    """The picture that the model takes; None where it takes none."""
    try:
        picture = feeding.rule(form).picture
    except feeding.NoRule:
        return None
    return picture if picture.channels in _COLOURS else None


def png(picture: Picture, number: int) -> bytes:
    """A picture of slanting stripes as PNG: well packed, and each number another one."""
    width = picture.width * picture.channels
    wave = bytes(int(127 + 120 * math.sin((at + 1) * (number + 2) / 17)) for at in range(2 * width))
    rows = bytearray()
    for down in range(picture.height):
        start = (down * picture.channels) % width
        rows += b"\0" + wave[start : start + width]
    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, _COLOURS[picture.channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows), 6)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _npy(form: InputForm, chance: random.Random) -> bytes:
    """One input as an array of the model's own type. Raises UsageError for a type that is no number."""
    if form.dtype not in _NUMBERS or 0 in form.shape:
        raise UsageError(
            f"inputs of {form.dtype} {'x'.join(map(str, form.shape))} cannot be made up", next_step="name INPUTS"
        )
    kind, size, code = _NUMBERS[form.dtype]
    count = math.prod(form.shape)
    if size * count > MOST_BYTES:
        raise UsageError(f"an input of {size * count:,} bytes is not made up", next_step="name INPUTS")
    if code is None:
        body = chance.randbytes(size * count)
    else:
        body = struct.pack(f"<{count}{code}", *(round(chance.random(), 3) for _ in range(count)))
    shape = ", ".join(map(str, form.shape)) + ("," if len(form.shape) == 1 else "")
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii") + body


def _npz(arrays: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data)
    return file.getvalue()
