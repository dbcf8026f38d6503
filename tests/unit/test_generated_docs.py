"""The tables of docs/ are what docs/generate.py writes, and nothing is missing from them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from clusteradm.inventory.variables import CONNECTION, VARIABLES
from clusteradm.node.spec import MODULES
from clusteradm.playbook.read.keywords import HANDLER, PLAY

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
    assert (DOCS / page).read_text(encoding="utf-8") == GENERATOR.generated(page), "run: make docs"


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
    for name, spec in MODULES.items():
        section = playbooks.split(f"\n### {name}\n")[1].split("\n### ")[0]
        assert [option for option in spec["options"] if f"| `{option}` |" not in section] == [], name


def test_a_default_of_the_cluster_is_said() -> None:
    row = next(line for line in GENERATOR.variables(VARIABLES).splitlines() if "`cluster_uid`" in line)
    assert row == "| `cluster_uid` | a whole number from 1 on | `6600` | no | its uid, the same on every host |"
