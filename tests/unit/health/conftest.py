"""Hosts as a kernel shows them: trees of sysfs files, one per driver generation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.probe import tpu

# What every driver of the gasket family shows (google/gasket-driver, gasket_core.c).
STAGING_1_0 = {
    "status": "ALIVE",
    "driver_version": "1.0",
    "framework_version": "1.1.2",
    "is_device_owned": "0",
    "device_owner": "0",
    "write_open_count": "0",
    "interrupt_counts": "\n".join(f"0x{number:02x}: 0" for number in range(13)),
}
# Mendel's adds temperatures, and by default does nothing about them.
MENDEL_1_1 = {
    **STAGING_1_0,
    "driver_version": "1.1",
    "temp": "44550",
    "temp_poll_interval": "0",
    "trip_point0_temp": "84800",
    "trip_point1_temp": "89800",
    "trip_point2_temp": "94800",
}
DKMS_1_2 = {**MENDEL_1_1, "driver_version": "1.2", "temp_poll_interval": "5000", "unique_id": "0123456789abcdef" * 2}


class Tree:
    """Builds a root; `probe` reads it, with the device nodes that a test cannot make filled in as udev leaves them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: dict[str, dict[str, Any] | None] = {}

    def card(self, address: str, number: int | None, files: dict[str, str], *, driver: str | None = "apex") -> None:
        folder = self.root / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in {"vendor": "0x1ac1", "device": "0x089a", "current_link_speed": "5 GT/s"}.items():
            (folder / name).write_text(text + "\n")
        if driver:
            (folder / "driver").symlink_to(f"../../drivers/{driver}")
        if number is None:
            return
        apex = self.root / f"sys/class/apex/apex_{number}"
        apex.mkdir(parents=True)
        for name, text in {**files, "pci_address": address}.items():
            (apex / name).write_text(text + "\n")
        path = f"/dev/apex_{number}"
        self.nodes[path] = {"path": path, "mode": "0660", "owner": "root", "group": "apex"}

    def probe(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.setattr(tpu, "node", lambda root, path: self.nodes.get(path))
        monkeypatch.setattr(tpu, "in_group", lambda user, group: True)
        cards = sorted(path.name for path in (self.root / "sys/bus/pci/devices").glob("*"))
        monkeypatch.setattr(tpu, "lspci", lambda: cards)
        return {"tpu": tpu.probe(str(self.root), {"user": "cluster"})}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def probed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    return lambda: tree.probe(monkeypatch)
