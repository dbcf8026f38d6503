"""USB Accelerators of a virtual board: its files, its udev rules, and the library that finds and opens them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from clusteradm.lab import hardware, tpu_package, usb
from clusteradm.lab.compiler import compile_file
from clusteradm.lab.topology import boards
from clusteradm.node import usb as node_usb

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
    usb.use(usb.folder_of(tmp_path / "view", board.usb[0]))
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


def test_the_library_lists_and_opens_it_and_it_becomes_another_device(tmp_path: Path) -> None:
    board = boards(1, 0, usb=1)[0]
    view = tmp_path / "view"
    hardware.make(view, board)
    folder = usb.folder_of(view, board.usb[0])
    node = tmp_path / "dev" / board.usb[0].node.removeprefix("/dev/")
    node.parent.mkdir(parents=True)
    node.touch()
    places = {"SOCKETS": tmp_path, "CLASS": view / "sys-class/apex", "DEV": tmp_path / "dev", "USB": folder.parent}
    tpu_package.compile_library(tmp_path / "libedgetpu.so.1", places)
    model = tmp_path / "model.tflite"
    compile_file(DIGITS, model)
    socket = tmp_path / "usb-2-1.sock"
    device = subprocess.Popen([sys.executable, "-m", "clusteradm.lab.device", str(socket), str(folder), "0"])
    try:
        end = time.monotonic() + 60
        while not socket.exists() and time.monotonic() < end:
            time.sleep(0.02)

        def run(code: str, *arguments: str) -> str:
            command = [sys.executable, "-c", code, *arguments]
            environment = {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            return done.stdout or done.stderr

        assert json.loads(run(LIST)) == [["usb", str(folder)]]
        assert (folder / "idVendor").read_text() == "1a6e\n"
        assert run(INFER, str(model), "usb:0") == "done\n"
        assert (folder / "idVendor").read_text() + (folder / "idProduct").read_text() == "18d1\n9302\n"
        assert run(INFER, str(model), "") == "done\n"
        for other in ("pci:0", "usb:1"):
            assert "Failed to load delegate" in run(INFER, str(model), other), other
    finally:
        device.kill()
        device.wait()
