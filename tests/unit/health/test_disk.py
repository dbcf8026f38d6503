"""When a file system is full: what it is for, what there is of it, and what is told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm.health.checks import host
from clusteradm.health.finding import Finding
from clusteradm.inventory import load

MIB = 1024**2
GB = 1000**3
INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {h: {cluster_ip: 10.0.0.1}}}
"""
SHARED = "/srv/cluster"
SYSTEM, KERNELS = "apt-get clean, journalctl --vacuum-size=50M", "apt-get autoremove --purge (old kernels)"
JOBS = f"remove old jobs (clusteradm job list, clusteradm job remove JOB) or models in {SHARED}"


def disk(size: float, free: float, device: int | None = 1, inodes: tuple[int, int] = (500_000, 400_000)) -> Any:
    return {"device": device, "size": size, "free": free, "inodes": inodes[0], "inodes_free": inodes[1]}


def judge(tmp_path: Path, disks: dict[str, Any]) -> list[Finding]:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    cluster = load(tmp_path / "inventory.yml")
    system = {"system": {"disks": disks, "failed_units": []}}
    return [each for each in host.judge(cluster, cluster.head, {"h": system}) if each.check == "disk"]


@pytest.mark.parametrize(
    ("path", "size", "free", "state"),
    [
        ("/", 8 * GB, 210 * MIB, "OK"),
        ("/", 8 * GB, 190 * MIB, "FULL"),
        ("/", 8 * GB, 0, "FULL"),
        # A small partition is not full for being small: 5 % of 2 GiB are 102 MiB.
        ("/var", 2048 * MIB, 110 * MIB, "OK"),
        ("/var", 2048 * MIB, 100 * MIB, "FULL"),
        ("/var", 4 * MIB, 0, "FULL"),
        # Mendel's partition, with what Mendel has on it, and when there is no room for the next kernel.
        ("/boot", 128 * MIB, 88 * MIB, "OK"),
        ("/boot", 128 * MIB, 14 * MIB, "OK"),
        ("/boot", 128 * MIB, 8 * MIB, "FULL"),
        # A PC's, with three kernels of 150 MB.
        ("/boot", 512e6, 62e6, "OK"),
        ("/boot", 512e6, 40e6, "OK"),
        ("/boot", 512e6, 20e6, "FULL"),
        ("/boot", 2 * GB, 60e6, "OK"),
        (SHARED, 4000 * GB, 150 * GB, "OK"),
        (SHARED, 4000 * GB, 1 * GB, "OK"),
        (SHARED, 4000 * GB, 100e6, "FULL"),
    ],
)
def test_room(tmp_path: Path, path: str, size: float, free: float, state: str) -> None:
    (finding,) = judge(tmp_path, {path: disk(size, free)})
    assert finding.state == state
    if not finding.ok:
        assert finding.cause == f"{path} has {free / 1e6:.0f} of {size / 1e6:,.0f} MB free"


@pytest.mark.parametrize(
    ("inodes", "state"),
    [
        ((1000, 3), "FULL"),
        ((500_000, 9_000), "FULL"),
        ((500_000, 0), "FULL"),
        ((500_000, 24_000), "OK"),
        ((32_768, 2_000), "OK"),
        ((250_000_000, 1_000_000), "OK"),  # 0.4 % of a large share
        ((0, 0), "OK"),  # btrfs, vfat
    ],
)
def test_inodes(tmp_path: Path, inodes: tuple[int, int], state: str) -> None:
    (finding,) = judge(tmp_path, {"/": disk(8 * GB, 4 * GB, inodes=inodes)})
    assert finding.state == state
    if not finding.ok:
        assert finding.cause == f"/ has {inodes[1]} of {inodes[0]:,} inodes free"
        assert "small files" in finding.remedy


@pytest.mark.parametrize(
    ("path", "remedy"), [("/", SYSTEM), ("/var", SYSTEM), ("/boot", KERNELS), (SHARED, JOBS), ("/nfs", "in /nfs")]
)
def test_the_remedy_goes_by_the_path(tmp_path: Path, path: str, remedy: str) -> None:
    (finding,) = judge(tmp_path, {path: disk(8 * GB, 0)})
    assert finding.remedy.startswith("make room: ") and finding.remedy.endswith(remedy)


def test_one_device_is_told_once_with_all_that_can_be_done_there(tmp_path: Path) -> None:
    full = disk(8 * GB, 50e6)
    (finding,) = judge(tmp_path, {"/": full, "/var": full, "/boot": full, SHARED: full})
    assert finding.cause == "/ has 50 of 8,000 MB free"
    assert finding.remedy == f"make room: {SYSTEM}; {KERNELS}; {JOBS}"


def test_a_directory_boot_is_judged_as_the_device_it_is_on(tmp_path: Path) -> None:
    for disks in (["/", "/boot"], ["/boot", "/"]):
        (finding,) = judge(tmp_path, dict.fromkeys(disks, disk(8 * GB, 100e6)))
        assert finding.state == "FULL"


def test_each_device_is_told(tmp_path: Path) -> None:
    disks = {"/": disk(8 * GB, 0, 1), "/var": disk(8 * GB, 4 * GB, 2), "/boot": disk(128 * MIB, 0, 3)}
    assert [each.cause.split()[0] for each in judge(tmp_path, disks)] == ["/", "/boot"]
    # Of which device they are was not told by older versions.
    assert len(judge(tmp_path, {"/": disk(8 * GB, 0, None), "/boot": disk(8 * GB, 0, None)})) == 2


def test_where_all_is_well_the_fullest_is_told(tmp_path: Path) -> None:
    disks = {"/": disk(8 * GB, 4 * GB, 1), "/var": disk(8 * GB, 2 * GB, 2), "/boot": None, SHARED: disk(0, 0, 4)}
    (finding,) = judge(tmp_path, disks)
    assert (finding.state, finding.detail) == ("OK", "25% free")
    (finding,) = judge(tmp_path, {"/boot": None})
    assert (finding.state, finding.detail) == ("OK", "n/a")
