"""The architecture's rules: which room may import which, no import circles, who prints, how large a module may grow."""

from __future__ import annotations

import ast
import configparser
import functools
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clusteradm"
MAX_LINES = 400

# Each room and the rooms that it may import from; every room may import those of EVERYBODY.
EVERYBODY = {"atomic", "errors", "extras", "nearest", "regular", "shipped", "__init__"}
ARROWS = {
    "inventory": set(),
    "fetch": set(),
    "transport": {"inventory"},
    "health": {"transport", "inventory"},
    "playbook": {"transport", "inventory"},
    "models": {"transport", "inventory", "fetch"},
    "fleet": {"health", "models", "playbook", "transport", "inventory", "fetch"},
    "jobs": {"fleet", "health", "models", "transport", "inventory"},
    "serving": {"jobs", "fleet", "health", "models", "playbook", "transport", "inventory"},
    "lab": {"models", "transport", "inventory"},
    "kubernetes": {"health", "transport", "inventory"},
    "cli": {
        "fetch",
        "serving",
        "jobs",
        "fleet",
        "playbook",
        "models",
        "lab",
        "kubernetes",
        "health",
        "transport",
        "inventory",
    },
    "node": set(),
}
# The same for modules that lie beside the rooms.
TOP = {
    "__init__": {"api"},
    "api": {"jobs", "fleet", "playbook", "models", "health", "transport", "inventory"},
    "testing": {"transport", "inventory"},
}
# The part of node/ that the admin side may import: pure data.
NODE_DATA = "clusteradm.node.spec"
# Third-party imports of the inference ranks and of the probe that runs as MPI ranks, and of nothing else on a board.
RANK_PROBE = PACKAGE / "node" / "probe" / "pairs.py"
RANK_IMPORTS = {"numpy", "PIL", "mpi4py", "pycoral", "tflite_runtime", "ai_edge_litert"}
# Those of a board's server.
SERVER = PACKAGE / "node" / "serve"
SERVER_IMPORTS = {"numpy", "PIL", "aiohttp", "grpc", "google", "orjson", "zmq"}


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is the module where the name is a module, else the module that has the name."""

    target: str
    line: int


@dataclass(frozen=True)
class Module:
    """A file of the package, parsed. `name` is dotted; a package's __init__.py has the package's name."""

    path: Path
    name: str
    source: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Module:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        source = path.read_text(encoding="utf-8")
        return cls(path, ".".join(parts), source, ast.parse(source))

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def room(self) -> str:
        """The folder below clusteradm/; a file there is a room of its own."""
        parts = self.path.relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else self.path.stem

    @property
    def is_program_of_a_board(self) -> bool:
        """Whether it is copied into a virtual board and run there: a program of its own, no part of the library."""
        return "board" in self.path.relative_to(PACKAGE).parts

    @functools.cached_property
    def imports(self) -> list[Import]:
        """Every import of the file, those in functions and under TYPE_CHECKING included."""
        return list(self._imports())

    def _imports(self) -> Iterator[Import]:
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    yield Import(inner if is_module(inner) else module, node.lineno)


@functools.cache
def is_module(name: str) -> bool:
    """Whether a dotted name is a module of ours, and not something in one."""
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("clusteradm.") and (path.is_dir() or path.with_suffix(".py").is_file())


@functools.cache
def modules() -> list[Module]:
    """All of clusteradm/, each file parsed once."""
    return [Module.read(path) for path in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts]


# Within a package: each child (module or sub-package) -> the children that it imports, each with one place that does.
Graph = dict[str, dict[str, str]]


def graph_of(package: str) -> Graph:
    depth = package.count(".") + 2

    def child(name: str) -> str | None:
        if name == package:
            # The top package holds the version, and may offer what the rooms have.
            return None if package == "clusteradm" else f"{package}.__init__"
        return ".".join(name.split(".")[:depth]) if name.startswith(f"{package}.") else None

    graph: Graph = {}
    for module in modules():
        if module.is_program_of_a_board:
            continue
        here = child(module.name)
        for each in module.imports:
            there = child(each.target)
            if here and there and here != there:
                graph.setdefault(here, {}).setdefault(there, f"{module}:{each.line} imports {each.target}")
    return graph


def circle_through(start: str, graph: Graph) -> list[str]:
    """The shortest way from a child back to itself, [] if there is none."""
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for there in graph.get(here, {}):
            if there == start:
                way = [here]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if there not in came_from:
                came_from[there] = here
                waiting.append(there)
    return []


def circles_of(graph: Graph) -> dict[frozenset[str], str]:
    """The members of each circle -> its imports, one a line."""
    found = {}
    for start in graph:
        way = circle_through(start, graph)
        if way:
            found.setdefault(
                frozenset(way), "\n".join(graph[a][b] for a, b in zip(way, [*way[1:], way[0]], strict=True))
            )
    return found


def test_arrows_point_one_way() -> None:
    wrong = []
    for module in modules():
        allowed = {**ARROWS, **TOP}.get(module.room, set()) | EVERYBODY | {module.room}
        for each in module.imports:
            parts = each.target.split(".")
            is_ours = parts[0] == "clusteradm" and len(parts) > 1
            is_node_data = each.target == NODE_DATA or each.target.startswith(f"{NODE_DATA}.")
            if is_ours and not is_node_data and parts[1] not in allowed and module.room != "__main__":
                wrong.append(f"{module}:{each.line} imports {each.target}")
    assert wrong == []


def test_every_room_has_its_arrows() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - EVERYBODY == set(ARROWS)


def test_no_import_circles() -> None:
    """Neither between rooms nor inside one, between modules or between sub-packages."""
    packages = [module.name for module in modules() if module.path.name == "__init__.py"]
    found: dict[frozenset[str], str] = {}
    for package in packages:
        found |= circles_of(graph_of(package))
    assert "\n\n".join(found.values()) == ""


def test_a_circle_is_found_and_shown() -> None:
    graph: Graph = {
        "a": {"b": "a.py:1 imports b"},
        "b": {"c": "b.py:2 imports c", "d": "b.py:3 imports d"},
        "c": {"d": "c.py:4 imports d"},
        "d": {"b": "d.py:5 imports b"},
    }
    assert circles_of(graph) == {
        frozenset("bd"): "b.py:3 imports d\nd.py:5 imports b",
        frozenset("bcd"): "c.py:4 imports d\nd.py:5 imports b\nb.py:2 imports c",
    }
    assert circles_of({"a": graph["a"], "b": {}}) == {}


def test_the_node_needs_nothing_but_the_standard_library() -> None:
    wrong = []
    for module in modules():
        if module.room != "node":
            continue
        allowed = (
            RANK_IMPORTS
            if module.path.parent.name in {"job", "edgetpu", "tasks"} or module.path == RANK_PROBE
            else set()
        )
        if SERVER in module.path.parents:
            allowed = SERVER_IMPORTS
        for each in module.imports:
            top = each.target.split(".")[0]
            if top != "clusteradm" and top not in sys.stdlib_module_names and top not in allowed:
                wrong.append(f"{module}:{each.line} imports {each.target}")
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = []
    for module in modules():
        if module.room in {"cli", "__main__"} or module.is_program_of_a_board:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{module}:{node.lineno} prints")
        wrong += [
            f"{module}:{each.line} imports rich" for each in module.imports if each.target.split(".")[0] == "rich"
        ]
    assert wrong == []


# Modules of cli/ that make a text of Rich or name a standard stream: `show` escapes all that goes through it, that of
# `tables` too; `display` asks; `parser` and `main` escape what they write without Rich.
WRITERS = {"show", "tables", "display", "parser", "main"}
# Of Rich, what holds no text by itself, or takes a text that `show` has made.
HARMLESS = {"Group", "RenderableType", "Spinner", "Progress", "TextColumn", "BarColumn", "MofNCompleteColumn"} | {
    "DownloadColumn",
    "TransferSpeedColumn",
}


def test_only_one_place_writes_to_the_terminal() -> None:
    wrong = []
    for module in modules():
        if module.room != "cli" or module.path.stem in WRITERS:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
                wrong.append(f"{module}: {ast.unparse(node)}")
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "rich":
                names = {alias.name for alias in node.names} - HARMLESS
                wrong += [f"{module}:{node.lineno} imports {name} of rich" for name in sorted(names)]
    # The program that `lab ssh` becomes finds nothing in the buffer.
    assert wrong == ["clusteradm/cli/lab.py: sys.stdout"]


def test_modules_are_small_and_documented() -> None:
    wrong = []
    for module in modules():
        lines = len(module.source.splitlines())
        if lines > MAX_LINES:
            wrong.append(f"{module} has {lines} lines, more than {MAX_LINES}")
        if module.source.strip() and not ast.get_docstring(module.tree):
            wrong.append(f"{module} has no docstring")
    assert wrong == []


def test_the_wheel_has_every_package_and_data_file() -> None:
    """setup.cfg lists them: one that is missing there is missing in an installed clusteradm alone."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = settings["options"]["packages"].split()
    folders = {
        module.name for module in modules() if module.path.name == "__init__.py" and not module.is_program_of_a_board
    }
    assert {name for name in listed if not name.startswith("clusteradm.shipped.")} == folders

    carried = {module.path for module in modules() if module.path.parent in map(folder_of, listed)}
    for package, patterns in settings["options.package_data"].items():
        for pattern in patterns.split():
            carried |= set(folder_of(package).glob(pattern))
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert sorted(str(path.relative_to(ROOT)) for path in files - carried) == []


def folder_of(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))
