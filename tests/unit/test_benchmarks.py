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


SCALE = _load("scale")
KEPT = json.loads((BENCHMARKS / "results/scale.json").read_text(encoding="utf-8"))["figures"]
COST = {name.partition(": ")[2]: value[0] for name, value in KEPT.items() if name.startswith("cost: ")}


@pytest.mark.parametrize("name", SCALE.DESIGNS)
def test_the_figures_of_the_page_are_those_of_the_simulation(name: str) -> None:
    design = SCALE.DESIGNS[name]
    for boards in (4, 16):
        outcome = design.run(COST, boards)
        assert KEPT[f"{name}; {boards} boards; {design.unit}"] == [pytest.approx(outcome.value)]
        for what, used in outcome.shares.items():
            assert KEPT[f"{name}; {boards} boards; used of {what}"] == [pytest.approx(used)] and 0 <= used <= 1
    assert f"cost: {name}" not in KEPT and COST.keys() == SCALE.costs(SCALE._measured(KEPT)).keys()


@pytest.mark.parametrize("name", SCALE.DESIGNS)
def test_boards_take_their_time_and_do_no_more_than_their_tpus(name: str) -> None:
    design, sizes = SCALE.DESIGNS[name], (1, 4, 16, 64)
    outcomes = [design.run(COST, boards) for boards in sizes]
    values = [outcome.value for outcome in outcomes]
    holds = [outcome.holds for outcome in outcomes]
    assert holds == sorted(holds, reverse=True)  # no more boards than too many are few enough
    if design.unit == "s":
        assert values == sorted(values)
    else:
        # Some images of a chunk that is under way at the ends of the window count for it, or not.
        assert all(0 < value <= 1.03 * n / COST["an inference"] for value, n in zip(values, sizes, strict=True))


def test_figures_that_rest_on_a_boards_assumed_speed_are_marked() -> None:
    marked = {name for name, design in SCALE.DESIGNS.items() if SCALE.assumes(design, KEPT)}
    jobs = ("job, tensors", "job, pictures", "job, inputs on the boards")
    assert marked == SCALE.DESIGNS.keys() - {"a model read by all", *jobs, "endpoint, tensors", "endpoint, pictures"}
    assert {line[0].endswith(" †") for line in SCALE.table(KEPT) if line[0].removesuffix(" †") in marked} == {True}
    assert "6 times slower" in SCALE.legend(KEPT)


def test_a_simulation_is_a_table_with_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a model read by all", "job, tensors")
    monkeypatch.setattr(SCALE, "DESIGNS", {name: SCALE.DESIGNS[name] for name in names})
    figures = SCALE.simulate(SCALE.costs(SCALE._measured(KEPT)), (4,))
    head, *lines = SCALE.table(figures)
    assert head == ("design", "4", "holds up to", "ended by")
    # 118 MB/s for a minute are 1,770 models of 4 MB; a second is 784 tensors, two TPUs and a little.
    assert [(line[0], *line[2:]) for line in lines] == [
        (names[0], "1,770", "link of the head"),
        (names[1], "2", "link of the head, to boards"),
    ]


def test_known_limits_come_out() -> None:
    # 1 Gbit/s carries 118 MB/s: 784 tensors of 150,528 bytes, 7,202 pictures of 16 KiB, 100 models of 4 MB in 3.4 s.
    link = COST["a link"]
    assert SCALE.job(COST, 64, 1, 150528).value == pytest.approx(link / 150528, rel=0.02)
    assert SCALE.job(COST, 64, 1, 16384).value == pytest.approx(link / 16384, rel=0.02)
    assert SCALE.model(COST, 100).value == pytest.approx(100 * COST["a model"] / link)
    # Where nothing else takes time, it is as many as the TPUs do.
    free = {**dict.fromkeys(COST, 0.0), **{name: COST[name] for name in ("a chunk", "an inference", "a link")}}
    assert SCALE.job(free, 16, 1, 0).value == pytest.approx(16 / COST["an inference"], rel=0.03)


def test_each_host_of_a_survey_is_asked_once() -> None:
    alone = {**COST, "cores of the admin machine": 1.0, "start of a command": 0.0, "a board is slower by": 0.0}
    mine = COST["a host, both sides"] * COST["admin's share of that"]
    for boards in (1, 5, 33):  # with boards that take no time, it is this machine's processor alone
        assert SCALE.survey(alone, boards, 32, probes=False).value == pytest.approx(boards * mine)


def test_rank_0_is_busier_on_a_slower_head() -> None:
    fast, slow = SCALE.job(COST, 20, 1, 0), SCALE.job(COST, 20, 6, 0)
    key, disk = "processor of rank 0", COST["journal's fsync"]  # which is as slow on both
    assert slow.shares[key] - disk == pytest.approx(6 * (fast.shares[key] - disk), rel=0.03)
