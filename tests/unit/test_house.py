"""The rules of DESIGN section 3: which room may know which, who prints, how large a module may grow."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "clusteradm"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)

# Each room and the rooms that it may import from; `errors` and `shipped` are everybody's.
EVERYBODY = {"errors", "nearest", "shipped", "__init__"}
ARROWS = {
    "inventory": set(),
    "transport": {"inventory"},
    "health": {"transport", "inventory"},
    "playbook": {"transport", "inventory"},
    "models": {"transport", "inventory"},
    "fleet": {"health", "models", "playbook", "transport", "inventory"},
    "jobs": {"fleet", "health", "models", "transport", "inventory"},
    "lab": {"transport", "inventory"},
    "cli": {"jobs", "fleet", "playbook", "models", "lab", "health", "transport", "inventory"},
    "node": set(),
}
# The same for modules that lie beside the rooms.
TOP = {
    "__init__": {"api"},
    "api": {"jobs", "fleet", "playbook", "models", "health", "transport", "inventory"},
    "testing": {"transport", "inventory"},
}
# The one thing of node/ that the admin side may import: pure data.
NODE_DATA = "clusteradm.node.spec"
# Third-party imports of the inference ranks, and of nothing else on a board.
RANK_IMPORTS = {"numpy", "PIL", "mpi4py", "pycoral", "tflite_runtime", "ai_edge_litert"}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, as a dotted name."""
    package = ["clusteradm", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module == "clusteradm" or (PACKAGE.parent / Path(*module.split("."))).is_dir():
                yield from (f"{module}.{alias.name}" for alias in node.names)


def test_arrows_point_one_way() -> None:
    wrong = []
    for path in MODULES:
        here = room(path)
        allowed = {**ARROWS, **TOP}.get(here, set()) | EVERYBODY | {here}
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "clusteradm" or len(parts) < 2 or name == NODE_DATA or name.startswith(NODE_DATA + "."):
                continue
            there = parts[1]
            if there == "node" and name == "clusteradm.node" and here != "node":
                continue  # the package of NODE_DATA
            is_room = (PACKAGE / there).is_dir() or (PACKAGE / f"{there}.py").is_file()
            if is_room and there not in allowed and here not in {"__main__"}:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_what_runs_on_a_board_needs_nothing_but_the_standard_library() -> None:
    wrong = []
    for path in MODULES:
        if room(path) != "node":
            continue
        allowed = RANK_IMPORTS if path.parent.name in {"job", "edgetpu"} else set()
        for name in imports(path):
            top = name.split(".")[0]
            if top != "clusteradm" and top not in sys.stdlib_module_names and top not in allowed:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = []
    for path in MODULES:
        # Programs of their own, not parts of the library: what the lab puts into a board, and its device process.
        if room(path) in {"cli", "__main__"} or "board" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
        wrong += [f"{path.relative_to(PACKAGE)} imports rich" for name in imports(path) if name.split(".")[0] == "rich"]
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not source.strip() or ast.get_docstring(ast.parse(source))
