"""Files of an inventory: one file, or those of a folder, which Ansible merges in the order of their names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from clusteradm.errors import Problem
from clusteradm.inventory.yaml_text import read_text

MOST_FILES = 1000
MOST_DEPTH = 10

# What Ansible leaves out of a folder (INVENTORY_IGNORE_EXTS, and what InventoryManager always does).
_LEFT_OUT = re.compile(
    r"^\.|^host_vars$|^group_vars$|^vars_plugins$"
    r"|(\.pyc|\.pyo|\.swp|\.bak|~|\.rpm|\.md|\.txt|\.rst|\.orig|\.cfg|\.retry)$"
)
# A header of Ansible's INI format, or of TOML.
_HEADER = re.compile(r"^\[[\w.-]+(:(vars|children|hosts))?\]\s*([#;].*)?$", re.MULTILINE)
# A host of Ansible's INI format with its variables.
_HOST = re.compile(r"[^\s:=#;\[\]{}]+(\[[\w:,]+\]\S*)?(:\d+)?(\s+[\w.]+=.*)?(\s*[#;].*)?")


def files(path: Path, problems: list[Problem]) -> Iterator[Path]:
    """The file itself; of a folder, its files and those of its folders. Defects are added to `problems`."""
    if not path.is_dir():
        yield path
        return
    found = 0
    for file in _inside(path, (), problems):
        found += 1
        if found > MOST_FILES:
            problems.append(Problem(str(path), 0, f"more than {MOST_FILES} files: is this the folder of an inventory?"))
            return
        yield file
    if not found:
        problems.append(Problem(str(path), 0, "a folder without an inventory in it"))


def _inside(folder: Path, above: tuple[Path, ...], problems: list[Problem]) -> Iterator[Path]:
    above = (*above, folder.resolve())
    if len(above) > MOST_DEPTH or above[-1] in above[:-1]:
        problems.append(Problem(str(folder), 0, f"folders within folders, more than {MOST_DEPTH} deep"))
        return
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problems.append(Problem(str(folder), 0, error.strerror or str(error)))
        return
    for path in paths:
        if _LEFT_OUT.search(path.name):
            continue
        if path.is_dir():
            yield from _inside(path, above, problems)
        else:
            yield path


def other_format(path: Path) -> Problem | None:
    """What a file is that is no YAML inventory but one of Ansible's other kinds, and how to convert it; None if not."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError):
        return None
    if text.startswith("$ANSIBLE_VAULT") or "\0" in text:
        return None
    header = _HEADER.search(text)
    lines = [line.strip() for line in text.splitlines()]
    written = [line for line in lines if line and line[0] not in "#;"]
    if text.startswith("#!"):
        what, line = "a program that writes an inventory", 1
    elif header:
        what, line = "an INI inventory", text.count("\n", 0, header.start()) + 1
    elif written and all(_HOST.fullmatch(line) for line in written):
        what, line = "an INI inventory", lines.index(written[0]) + 1
    else:
        return None
    source, target = shlex.quote(str(path)), shlex.quote(str(path.with_name("inventory.yml")))
    return Problem(
        str(path),
        line,
        f"this is {what}; clusteradm reads YAML. Ansible converts it:\n"
        f"  ansible-inventory -i {source} --list --yaml --export --output {target}",
    )
