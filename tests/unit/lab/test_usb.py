"""USB Accelerators of a virtual board: its files, its udev rules, and the library that finds and opens them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clusteradm.lab import hardware, tpu_package, usb
from clusteradm.lab.compiler import compile_file
from clusteradm.lab.topology import boards
from clusteradm.node import usb as node_usb
from clusteradm.node.edgetpu import library

from .test_hardware import board_program

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm/lab/digits/digits.tflite"
RULES = """\
SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", MODE="0664"
SUBSYSTEM=="usb", ATTR{idVendor}=="1a6e", ATTR{idProduct}=="089a", MODE="0660", GROUP="apex"
SUBSYSTEM=="apex", MODE="0666"
"""

LIST = """\
import json, sys
from clusteradm.node.edgetpu.library import Library
print(json.dumps([(each.kind, each.path) for each in Library().devices()]))
"""
INFER = """\
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate
delegate = load_delegate("libedgetpu.so.1", {"device": sys.argv[2]})
found = Interpreter(sys.argv[1], experimental_delegates=[delegate])
found.allocate_tensors()
found.invoke()
print("done")
"""


def test_a_board_has_the_accelerators_of_its_plan(tmp_path: Path) -> None:
    board = boards(1, 1, usb=2)[0]
    hardware.make(tmp_path / "view", board)
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/bus").symlink_to(tmp_path / "view/sys-bus")
    found = node_usb.accelerators(str(tmp_path))
    assert [(each.address, each.id) for each in found] == [("usb:2-1", "1a6e:089a"), ("usb:2-2", "1a6e:089a")]
    assert [node_usb.device_node(str(tmp_path), each.name) for each in found] == [each.node for each in board.usb]
    usb.load(usb.folder_of(tmp_path / "view", board.usb[0]))
    assert [each.id for each in node_usb.accelerators(str(tmp_path))] == ["18d1:9302", "1a6e:089a"]


def test_a_board_without_them_has_no_bus(tmp_path: Path) -> None:
    hardware.make(tmp_path, boards(1, 1)[0])
    assert not (tmp_path / "sys-bus").exists()


def test_udev_rules_may_name_its_ids(tmp_path: Path) -> None:
    udevadm = board_program("udevadm")
    hardware.make(tmp_path, boards(1, 0, usb=1)[0])
    path, known = udevadm.of_usb(str(tmp_path / "sys-bus/usb/devices/2-1"))
    permissions = udevadm.permissions
    assert path == "/dev/bus/usb/002/002"
    assert permissions(RULES.splitlines(), known) == {"MODE": "0660", "GROUP": "apex"}
    assert permissions(RULES.replace("1a6e", "18d1").splitlines(), known) == {"MODE": "0664"}


@dataclass
class Sticks:
    """Accelerators with their processes. `folders`: theirs in sysfs, `nodes`: their device nodes."""

    root: Path
    folders: list[Path]
    nodes: list[Path]
    model: Path

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Python, with the simulated library."""
        environment = {"LD_LIBRARY_PATH": str(self.root), "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, *command], env=environment, text=True, **pipes)

    def run(self, code: str, *arguments: str) -> str:
        out, err = self.start("-c", code, *arguments).communicate()
        return out or err


@pytest.fixture
def sticks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sticks]:
    """As many as the test's parameter says, before their first use."""
    board = boards(1, 0, usb=request.param)[0]
    view = tmp_path / "view"
    hardware.make(view, board)
    folders = [usb.folder_of(view, each) for each in board.usb]
    nodes = [tmp_path / "dev" / each.node.removeprefix("/dev/") for each in board.usb]
    for node in nodes:
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
    places = {"SOCKETS": tmp_path, "CLASS": view / "sys-class/apex", "DEV": tmp_path / "dev", "USB": folders[0].parent}
    tpu_package.compile_library(tmp_path / "libedgetpu.so.1", places)
    compile_file(DIGITS, tmp_path / "model.tflite")
    sockets = [tmp_path / f"usb-{each.name}.sock" for each in board.usb]
    program = [sys.executable, "-m", "clusteradm.lab.device"]
    devices = [
        subprocess.Popen([*program, str(socket), str(folder), "0"])
        for socket, folder in zip(sockets, folders, strict=True)
    ]
    try:
        end = time.monotonic() + 60
        while not all(socket.exists() for socket in sockets) and time.monotonic() < end:
            time.sleep(0.02)
        yield Sticks(tmp_path, folders, nodes, tmp_path / "model.tflite")
    finally:
        for device in devices:
            device.kill()
            device.wait()


@pytest.mark.parametrize("sticks", [1], indirect=True)
def test_the_library_lists_and_opens_it_and_it_becomes_another_device(sticks: Sticks) -> None:
    (folder,), model = sticks.folders, str(sticks.model)
    assert json.loads(sticks.run(LIST)) == [["usb", str(folder)]]
    assert (folder / "idVendor").read_text() == "1a6e\n"
    assert sticks.run(INFER, model, "usb:0") == "done\n"
    assert (folder / "idVendor").read_text() + (folder / "idProduct").read_text() == "18d1\n9302\n"
    assert sticks.run(INFER, model, "") == "done\n"
    for other in ("pci:0", "usb:1"):
        assert "Failed to load delegate" in sticks.run(INFER, model, other), other


@pytest.mark.parametrize("sticks", [3], indirect=True)
def test_new_ones_are_tried_side_by_side_and_none_is_taken_for_another(sticks: Sticks) -> None:
    """Each leaves the bus at its first use, and libedgetpu counts those that are there."""

    def tries(wait: str) -> list[str]:
        tried = [
            sticks.start("-m", "clusteradm.node.edgetpu.trial", str(folder), str(node), str(sticks.model), "60", wait)
            for folder, node in zip(sticks.folders, sticks.nodes, strict=True)
        ]
        return [out + err for out, err in (process.communicate(timeout=120) for process in tried)]

    with library.Turn(str(sticks.folders[0]), 0.0) as turn:
        assert turn.mine
        assert [said.splitlines()[-1] for said in tries("0")] == ['{"stage": "turn"}'] * 3, "one whose turn is not"
    assert {(folder / "idVendor").read_text() for folder in sticks.folders} == {"1a6e\n"}
    said = tries("60")
    assert ['"inference": true' in each and '"done"' in each for each in said] == [True] * 3, said
    assert {(folder / "idVendor").read_text() for folder in sticks.folders} == {"18d1\n"}
