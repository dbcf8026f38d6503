"""What the benchmarks keep, and how they judge it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
KEYS = {"name", "date", "machine", "versions", "figures", "ratios", "goals"}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


RECORD = _load("record")


def test_a_ratio_is_that_of_the_rounds_and_not_of_the_medians() -> None:
    # A disturbance that lasts for a round is on both sides of it.
    assert RECORD.ratio([10.0, 40.0, 12.0], [1.0, 4.0, 1.0]) == 10.0
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        RECORD.ratio([10.0, 40.0], [1.0])


def test_more_is_better_but_of_the_floor(tmp_path: Path) -> None:
    ratios = {"them / us": 21.0, "us, of the floor": 3.0, "them / us, late": 19.9, "us, late, of the floor": 5.1}
    goals = {"them / us": 20, "us, of the floor": 5, "them / us, late": 20, "us, late, of the floor": 5}
    record = RECORD.Record("bootstrap", {}, ratios=ratios, goals=goals)
    assert [record.met(name) for name in ratios] == [True, True, False, False]
    assert [line.rpartition(": ")[2] for line in record.lines()] == ["met", "met", "MISSED", "MISSED"]
    record.write(tmp_path / "results" / "bootstrap.json")
    assert json.loads((tmp_path / "results" / "bootstrap.json").read_text()).keys() == KEYS


def test_what_is_kept_has_the_shape_that_the_readme_quotes() -> None:
    for path in RESULTS:
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert kept.keys() == KEYS and kept["name"] == path.stem
        assert kept["goals"].keys() <= kept["ratios"].keys()
        assert all(seconds for seconds in kept["figures"].values())
