"""Inputs that are named by files: lists of paths, the members of a tar file, one array of an .npz file."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.node.spec import tars

LIST = "@"
_MEMBER = re.compile(r"(.+\.npz):(.+)", re.DOTALL | re.IGNORECASE)

_MOST_LIST = 256 << 20  # bytes of a list


def expanded(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the lines of a list in the place of @LIST. Raises UsageError for a list that cannot be read,
    or names what is not there."""
    for argument in arguments:
        if not argument.startswith(LIST):
            yield argument
            continue
        path = Path(argument.removeprefix(LIST))
        if argument.startswith(LIST + "head:"):
            where = regular.readable(argument)
            raise UsageError("no list here", where=where, next_step="a list that is on the head is named head:@PATH")
        data = regular.read(path, _MOST_LIST).removeprefix(codecs.BOM_UTF8)  # as Windows' programs write
        for number, line in enumerate(data.split(b"\n"), 1):
            name = os.fsdecode(line.removesuffix(b"\r"))
            if not name:
                continue
            if "\0" in name or name.startswith(LIST):
                raise UsageError("no path of an input", where=f"{regular.readable(path)}, line {number}")
            if not name.startswith("head:") and not os.path.lexists(name) and member(name) is None:
                raise UsageError(
                    f"no file or folder {regular.readable(name)} here",
                    where=f"{regular.readable(path)}, line {number}",
                    next_step="its paths are counted from the folder in which clusteradm is started",
                )
            yield name


def member(argument: str) -> tuple[Path, str] | None:
    """The .npz file and the name of an array in it, of FILE.npz:NAME; None where there is no such file."""
    found = _MEMBER.fullmatch(argument)
    return (Path(found[1]), found[2]) if found and os.path.lexists(found[1]) else None


def is_tar(path: Path) -> bool:
    """Whether it is a tar file by its name. Raises UsageError for a compressed one."""
    try:
        return tars.is_tar(path.name)
    except tars.Unsound as error:
        raise UsageError(str(error), where=regular.readable(path), next_step=tars.DECOMPRESS) from None


def members(file: BinaryIO, where: str, suffixes: tuple[str, ...]) -> Iterator[tars.Member]:
    """The files in a tar file, as tars.members; `where`: what it is called. Raises UsageError."""
    try:
        yield from tars.members(file, suffixes)
    except tars.Unsound as error:
        more = tars.DECOMPRESS if str(error) == tars.COMPRESSED else ""
        raise UsageError(str(error), where=where, next_step=more) from None
