"""group_vars/ and host_vars/ beside the inventory: NAME, NAME.yml, NAME.yaml, NAME.json, or a folder of such files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clusteradm.errors import Problem
from clusteradm.inventory.cluster import NOWHERE
from clusteradm.inventory.document import Document, Written
from clusteradm.inventory.merge import GroupText, Text

_ENDINGS = ("", ".yml", ".yaml", ".json")


def read(place: Path, text: Text, problems: list[Problem]) -> None:
    """Add the variables of group_vars/ and host_vars/ in `place` to groups and hosts; other files are ignored."""
    folder = place / "group_vars"
    if folder.is_dir():
        text.groups.setdefault("all", GroupText("all", NOWHERE))
        for name, group in text.groups.items():
            group.folder.update(_variables(folder, name, problems))
    folder = place / "host_vars"
    if folder.is_dir():
        for name, host in text.hosts.items():
            host.folder.update(_variables(folder, name, problems))


def _variables(folder: Path, name: str, problems: list[Problem]) -> dict[str, Written]:
    found: dict[str, Written] = {}
    for path in _files(folder, name):
        document = Document(path, problems)
        if document.root is not None:
            found.update(document.variables(document.root, str(path.name)))
    return found


def _files(folder: Path, name: str) -> Iterator[Path]:
    """The first of NAME, NAME.yml, ... that exists; of a folder NAME all files, sorted by name."""
    for ending in _ENDINGS:
        path = folder / f"{name}{ending}"
        if path.is_file():
            yield path
            return
        if path.is_dir() and not ending:
            yield from sorted(_inside(path, set()))
            return


def _inside(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The files below a folder. `seen`: the folders that have been read: a link may lead back to one."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir():
            yield from _inside(path, seen)
        elif path.suffix in _ENDINGS:
            yield path
