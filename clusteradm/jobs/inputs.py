"""Inputs of a job: files of this machine, packed while they are sent, or files that are on the head already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusteradm.errors import UsageError

# The files of a folder that are inputs: pictures that every Pillow reads, and NumPy's arrays. A file named by itself is
# always taken.
SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".npy",
    ".npz",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)

ON_HEAD = "head:"

# Small enough for the memory of a laptop and for a resend after a cut line, large enough that round trips do not count.
PART_BYTES = 16 << 20


@dataclass(frozen=True)
class File:
    """One input file. `name`: in the results."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class LocalInputs:
    """Files of this machine, sorted by name. `skipped`: those of the folders that are no inputs by their suffix."""

    files: tuple[File, ...]
    skipped: tuple[Path, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class HeadInputs:
    """Paths on the head, absolute or below the shared directory."""

    paths: tuple[str, ...]


@dataclass
class Part:
    """A piece of the upload: bytes, and the files that begin in it."""

    data: bytes = b""
    files: list[File] = field(default_factory=list)


def resolve(arguments: Sequence[str]) -> LocalInputs | HeadInputs:
    """The inputs that the arguments name. Raises UsageError for what is not there, before any connection.

    `head:PATH` is on the head; anything else is here. One job takes its inputs from one of the two.
    """
    on_head = [argument for argument in arguments if argument.startswith(ON_HEAD)]
    if on_head and len(on_head) != len(arguments):
        raise UsageError("a job's inputs are all here or all on the head, not some of each")
    if on_head:
        return HeadInputs(tuple(argument.removeprefix(ON_HEAD) or "." for argument in on_head))
    found: dict[str, Path] = {}
    skipped: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            taken, left = _folder(path)
            skipped += left
            found.update({str(one.relative_to(path)) if len(arguments) == 1 else str(one): one for one in taken})
        elif path.is_file():
            found[argument] = path
        else:
            raise UsageError(
                f"no file or folder {argument} here", next_step=f"what is on the head is named {ON_HEAD}{argument}"
            )
    if not found:
        raise UsageError(
            f"no inputs in {', '.join(arguments)}",
            next_step="in a folder these count: " + " ".join(SUFFIXES) + "; name other files outright",
        )
    files = []
    for name, path in sorted(found.items()):
        try:
            with path.open("rb") as file:
                files.append(File(name, path, os.fstat(file.fileno()).st_size))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return LocalInputs(tuple(files), tuple(skipped))


def _folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below a folder that are inputs by their suffix, and the others; hidden ones are neither."""
    taken: list[Path] = []
    left: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                (taken if name.lower().endswith(SUFFIXES) else left).append(Path(place) / name)
    return taken, sorted(left)


def parts(files: Sequence[File], size: int = PART_BYTES) -> Iterator[Part]:
    """The files' bytes one after another, in parts of `size` bytes; a large file goes on in the next part.

    Raises UsageError where a file is no longer as long as it was when the job was planned.
    """
    part, buffer = Part(), bytearray()
    for item in files:
        part.files.append(item)
        left = item.size
        with item.path.open("rb") as file:
            while left:
                data = file.read(min(left, size - len(buffer)))
                if not data:
                    raise UsageError(f"{item.path} has become shorter while it was sent")
                left -= len(data)
                buffer += data
                if len(buffer) == size:
                    part.data = bytes(buffer)
                    yield part
                    part, buffer = Part(), bytearray()
    if part.files or buffer:
        part.data = bytes(buffer)
        yield part
