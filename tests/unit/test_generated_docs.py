"""Generated parts of the documentation: up to date, and complete."""

from __future__ import annotations

import dataclasses
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Generic, Optional, TypeVar

import pytest

from clusteradm.inventory.variables import CONNECTION, VARIABLES
from clusteradm.node import spec
from clusteradm.node.spec.modules import MODULES
from clusteradm.playbook.read.keywords import HANDLER, PLAY

P, R = TypeVar("P"), TypeVar("R")

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


@pytest.mark.parametrize("page", GENERATOR.PAGES)
def test_writing_the_tables_anew_changes_nothing(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == GENERATOR.generated(page), "run: make docs-tables"


def test_a_marker_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATOR, "DOCS", tmp_path)
    (tmp_path / "variables.md").write_text("# Variables\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"variables.md must have one <!-- cluster"):
        GENERATOR.generated("variables.md")


def test_every_variable_keyword_module_and_option_is_there() -> None:
    variables = (DOCS / "variables.md").read_text(encoding="utf-8")
    assert [name for name in {**VARIABLES, **CONNECTION} if f"| `{name}` |" not in variables] == []
    playbooks = (DOCS / "playbooks.md").read_text(encoding="utf-8")
    assert [name for name in {**PLAY, **HANDLER} if f"| `{name}` |" not in playbooks] == []
    for name, module in MODULES.items():
        section = playbooks.split(f"\n### {name}\n")[1].split("\n### ")[0]
        assert [option for option in module["options"] if f"| `{option}` |" not in section] == [], name


def test_a_default_of_the_cluster_is_said() -> None:
    row = next(line for line in GENERATOR.variables(VARIABLES).splitlines() if "`cluster_uid`" in line)
    assert row == "| `cluster_uid` | a whole number from 1 on | `6600` | no | its uid, the same on every host |"


@dataclasses.dataclass
class Part:
    """One part of a file."""

    data: str


@dataclasses.dataclass
class End:
    """The end of a file."""

    size: Optional[int]  # noqa: UP045 - as node/spec, which is Python 3.7, writes it
    state: str = dataclasses.field(default="ok", metadata={"text": SimpleNamespace(choices=("ok", "cut"))})


class Streaming(Generic[P, R]):
    do = ""


@dataclasses.dataclass
class Fetch(Streaming[Part, End]):
    """Ask for a file."""

    names: dict[str, list[float]]
    do = "fetch"


def test_a_request_and_its_replies_are_described() -> None:
    text = GENERATOR._types(sys.modules[__name__])
    assert (
        "| `fetch` | Ask for a file. | `names`: object of list of number | any number of `Part`, then `End` |" in text
    )
    assert "| `End` | The end of a file. | `size`: integer or null; `state`?: one of `ok`, `cut` |" in text


def test_every_type_of_the_border_is_there() -> None:
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    for found in pkgutil.walk_packages(spec.__path__, f"{spec.__name__}."):
        for kind in vars(importlib.import_module(found.name)).values():
            if dataclasses.is_dataclass(kind) and kind.__module__ == found.name:
                assert f"| `{getattr(kind, 'do', '') or kind.__name__}` |" in page
