"""Edge TPUs of a virtual board with real device processes, and the faults that last over a boot."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from clusteradm.lab import apex, faults, pci
from clusteradm.lab.cgroup import BoardGroup
from clusteradm.lab.fault_kinds import FAULTS
from clusteradm.lab.machine import LabError
from clusteradm.lab.topology import boards
from clusteradm.lab.tpus import VirtualTpus
from clusteradm.lab.virtual_board import VirtualBoard

PC = boards(2, 2)[1]
FIRST, SECOND = PC.tpus


def scene(tpus: VirtualTpus, steps: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        try:
            await steps
        finally:
            tpus.end()

    asyncio.run(run())


def temperature(tpus: VirtualTpus) -> int:
    return int((apex.folder_of(tpus.view, FIRST) / "temp").read_text())


def test_lasting_faults_are_there_after_a_boot(tmp_path: Path) -> None:
    tpus = VirtualTpus(PC, tmp_path)

    async def steps() -> None:
        await tpus.boot({FIRST.number: ["hot", "lamed"], SECOND.number: ["absent"]})
        assert temperature(tpus) == apex.HOT and tpus.owner(FIRST) == "0"
        assert (apex.folder_of(tpus.view, FIRST) / "status").read_text() == "LAMED\n"
        assert tpus.on_bus(FIRST) and tpus.bound(FIRST) and not tpus.on_bus(SECOND)
        await tpus.boot({FIRST.number: [], SECOND.number: []})
        assert temperature(tpus) == apex.usual(PC, FIRST) and tpus.bound(SECOND)

    scene(tpus, steps())


def test_the_driver_does_not_bind_to_a_wedged_one(tmp_path: Path) -> None:
    tpus = VirtualTpus(PC, tmp_path)

    async def steps() -> None:
        await tpus.boot({tpu.number: [] for tpu in PC.tpus})
        tpus.wedge(FIRST)
        assert temperature(tpus) == apex.OFF_BUS and tpus.bound(FIRST)
        await tpus.unplug(FIRST)
        assert not tpus.on_bus(FIRST)
        with pytest.raises(LabError, match="not on the bus"):
            tpus.wedge(FIRST)
        await tpus.plug(FIRST, ["wedged"])
        assert tpus.on_bus(FIRST) and not tpus.bound(FIRST)

    scene(tpus, steps())


def test_a_fault_is_done_once_and_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cables: list[bool] = []
    monkeypatch.setattr("clusteradm.lab.net.cable", lambda board, up: cables.append(up))
    monkeypatch.setattr(BoardGroup, "freeze", lambda group, on: None)
    monkeypatch.setattr(VirtualBoard, "on", True)
    changes: list[None] = []
    board = VirtualBoard(PC, tmp_path, (), BoardGroup(tmp_path, None), 0, lambda: changes.append(None))
    board.shared.mkdir()

    async def steps() -> None:
        await board.tpus.boot({tpu.number: [] for tpu in PC.tpus})
        for kind, numbers in (("cut", []), ("cut", []), ("hot", [0]), ("hot", [0])):
            await faults.do(board, kind, numbers)
        assert faults.describe(board) == ["cut", "hot apex_0"] and cables == [False] and len(changes) == 4
        assert temperature(board.tpus) == apex.HOT
        await faults.do(board, "absent", [1])
        await board.rescan()
        assert not board.tpus.on_bus(SECOND), "a rescan does not find it"
        # It fails, as the board has no first process: then it is not noted.
        with pytest.raises(LabError, match="off"):
            await faults.do(board, "disk", [])
        assert faults.describe(board) == ["cut", "hot apex_0", "absent apex_1"]
        await faults.restore(board)
        assert faults.describe(board) == [] and cables == [False, True]
        assert temperature(board.tpus) == apex.usual(PC, FIRST) and pci.folder_of(board.tpus.view, SECOND).exists()

    scene(board.tpus, steps())


def test_every_kind_of_fault_can_be_done() -> None:
    done = {**dict.fromkeys(faults._BOARD, False), **dict.fromkeys(faults._TPU, True)}
    assert done == {kind: fault.tpu for kind, fault in FAULTS.items()}
