"""The errors that a user reads: their tree is drawn in full, and a cause that is no defect is explained."""

from __future__ import annotations

import ast
import errno
from pathlib import Path

import pytest

from clusteradm import errors
from clusteradm.cli import main

PACKAGE = Path(errors.__file__).parent


def drawn() -> dict[str, tuple[str, int]]:
    """Class -> its base and exit status, as the docstring draws them."""
    tree: dict[str, tuple[str, int]] = {}
    above: list[str] = []
    for line in str(errors.__doc__).splitlines():
        words = line.split()
        if line.startswith("    ") and words:
            depth = (len(line) - len(line.lstrip()) - 4) // 2
            above = [*above[:depth], words[0]]
            tree[words[0]] = (above[depth - 1] if depth else "Exception", int(words[1]))
    return tree


def defined() -> dict[str, tuple[str, int]]:
    """The same of the classes that there are, wherever they are defined."""
    found: dict[str, tuple[str, int]] = {}
    classes = [
        node
        for path in sorted(PACKAGE.rglob("*.py"))
        if "node" not in path.relative_to(PACKAGE).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.bases
    ]
    known = {"ClusteradmError"}
    while True:
        new = {
            each.name: base.id
            for each in classes
            for base in each.bases
            if isinstance(base, ast.Name) and base.id in known and each.name not in known
        }
        if not new:
            break
        known |= new.keys()
        found.update({name: (base, 0) for name, base in new.items()})
    status = {"ClusteradmError": errors.ClusteradmError.exit_code}
    for name, (base, _) in found.items():
        own = getattr(errors, name, None)
        status[name] = own.exit_code if own is not None else status[base]
        found[name] = (base, status[name])
    return {"ClusteradmError": ("Exception", status["ClusteradmError"]), **found}


def test_the_tree_at_the_top_has_every_class() -> None:
    assert drawn() == defined()


def test_too_many_open_files_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        try:
            raise OSError(errno.EMFILE, "Too many open files")
        except OSError:
            raise RuntimeError("can't start new thread") from None

    monkeypatch.setattr("clusteradm.cli.context.load", fail)
    assert main.main(["inventory", "--list", "-i", "inventory.yml"]) == errors.TooManyOpenFiles.exit_code
    said = capsys.readouterr().err
    assert "too many open files on this machine" in said and "ulimit -n" in said and "internal error" not in said
