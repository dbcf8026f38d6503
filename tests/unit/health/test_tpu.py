"""One state per TPU, from trees of every driver generation and every illness that files can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clusteradm.health.finding import Severity
from clusteradm.health.tpu import state as tpu
from clusteradm.node.probe import tpu as probe

from .conftest import DKMS_1_2, MENDEL_1_1, STAGING_1_0, Tree

A, B = "0000:01:00.0", "0000:02:00.0"
Probed = Callable[[], dict[str, Any]]


def states(document: dict[str, Any], expected: int | None = None) -> list[tuple[str, str]]:
    return [(finding.subject, finding.state) for finding in tpu.judge("h", expected, document)]


@pytest.mark.parametrize("files", [STAGING_1_0, MENDEL_1_1, DKMS_1_2], ids=["staging-1.0", "mendel-1.1", "dkms-1.2"])
def test_each_driver_generation_is_well(tree: Tree, probed: Probed, files: dict[str, str]) -> None:
    tree.card(A, 0, files)
    document = probed()
    assert states(document, 1) == [(f"h {A}", "OK")]
    assert tpu.healthy("h", document) == (tpu.Tpu(A, "/dev/apex_0"),)


def test_eight_of_them_numbered_against_the_order_of_the_bus(tree: Tree, probed: Probed) -> None:
    addresses = [f"0000:{bus:02x}:00.0" for bus in range(8)]
    for number, address in enumerate(reversed(addresses)):
        tree.card(address, number, DKMS_1_2)
    document = probed()
    assert states(document, 8) == [(f"h {address}", "OK") for address in addresses]
    found = tpu.healthy("h", document)
    assert [(each.pci_address, each.device_path) for each in found] == [
        (address, f"/dev/apex_{7 - bus}") for bus, address in enumerate(addresses)
    ]


def test_one_is_missing(tree: Tree, probed: Probed) -> None:
    tree.card(A, 0, DKMS_1_2)
    document = probed()
    assert states(document, 3) == [(f"h {A}", "OK"), ("h", "ABSENT")]
    assert "2 of 3" in list(tpu.judge("h", 3, document))[-1].cause


@pytest.mark.parametrize(
    ("change", "state", "cause"),
    [
        ({"temp": "-89700"}, "WEDGED", "-89.7 °C"),
        ({"status": "LAMED"}, "LAMED", "MSI-X"),
        ({"status": "DEAD"}, "WEDGED", "DEAD"),
        ({"is_device_owned": "1", "device_owner": "999999"}, "BUSY", "process 999999"),
        ({"temp": "91050"}, "THROTTLED", "it runs at 125 of 500 MHz"),
        ({"temp": "84800"}, "THROTTLED", "it runs at 250 of 500 MHz"),
        ({"temp": "96050", "temp_poll_interval": "0"}, "HOT", "does not throttle"),
        ({"temp": "84550"}, "OK", ""),
        ({"temp": "garbage"}, "OK", ""),
    ],
)
def test_what_its_files_tell(tree: Tree, probed: Probed, change: dict[str, str], state: str, cause: str) -> None:
    tree.card(A, 0, {**DKMS_1_2, **change})
    document = probed()
    (finding,) = tpu.judge("h", 1, document)
    assert (finding.state, cause in finding.cause) == (state, True)
    assert bool(finding.remedy) is (state != "OK")
    assert bool(tpu.healthy("h", document)) is (state == "OK")


def test_no_interrupts(tree: Tree, probed: Probed) -> None:
    tree.card(A, 0, {name: text for name, text in DKMS_1_2.items() if name != "interrupt_counts"})
    assert states(probed()) == [(f"h {A}", "LAMED")]


def test_no_driver(tree: Tree, probed: Probed) -> None:
    tree.card(A, None, {}, driver=None)
    (finding,) = tpu.judge("h", 1, probed())
    assert finding.state == "NO_DRIVER" and "not loaded" in finding.cause and "bootstrap" in finding.remedy


def test_a_driver_that_made_no_device(tree: Tree, probed: Probed) -> None:
    tree.card(A, None, {})
    assert states(probed()) == [(f"h {A}", "NO_NODE")]


def test_no_device_node(tree: Tree, probed: Probed) -> None:
    tree.card(A, 0, DKMS_1_2)
    tree.nodes.clear()
    assert states(probed()) == [(f"h {A}", "NO_NODE")]


@pytest.mark.parametrize(
    ("node", "in_group", "cause"),
    [
        ({"mode": "0600", "group": "root"}, True, "root:root 0600"),
        ({"mode": "0640", "group": "apex"}, True, "root:apex 0640"),
        ({"mode": "0660", "group": "apex"}, False, "not in the group apex"),
    ],
)
def test_no_permission(
    tree: Tree, probed: Probed, node: dict[str, str], in_group: bool, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.card(A, 0, DKMS_1_2)
    tree.nodes["/dev/apex_0"] = {"path": "/dev/apex_0", "owner": "root", **node}
    document = probed()
    document["tpu"]["user_in_group"] = in_group
    (finding,) = tpu.judge("h", 1, document)
    assert finding.state == "NO_PERMISSION" and cause in finding.cause


def test_the_three_counts_of_the_bus_disagree(tree: Tree, probed: Probed) -> None:
    tree.card(A, 0, DKMS_1_2)
    document = probed()
    document["tpu"]["lspci"] = [A, B]
    found = list(tpu.judge("h", 1, document))
    assert [finding.state for finding in found] == ["DISAGREES", "OK"]
    assert found[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    ("board", "page_size", "state", "remedy"),
    [
        ("brcm,bcm2712", 16384, "PAGE_SIZE", "write kernel=kernel8.img into /boot/firmware/config.txt"),
        ("rockchip,rk3588", 65536, "PAGE_SIZE", "boot a kernel with pages of 4096 bytes"),
        ("brcm,bcm2711", 4096, "UNFIT", "use the card in a Raspberry Pi 5"),
        ("brcm,bcm2712", 4096, None, ""),
        ("brcm,bcm2712", None, None, ""),
    ],
)
def test_a_host_that_a_tpu_does_not_work_with(
    board: str, page_size: int | None, state: str | None, remedy: str, tree: Tree, probed: Probed
) -> None:
    tree.card(A, 0, DKMS_1_2)
    document = probed()
    document["tpu"].update(page_size=page_size, device_tree={"model": "", "compatible": [board], "cores": {}})
    *found, one = tpu.judge("h", 1, document)
    assert [finding.state for finding in found] == ([state] if state else [])
    assert all(finding.severity is Severity.WARNING and finding.remedy.startswith(remedy) for finding in found)
    assert one.state == "OK"
    # Without a card it is no matter.
    document["tpu"].update(pci=[], apex=[], lspci=[], proc=[])
    assert list(tpu.judge("h", 0, document)) == []


def test_an_empty_root_is_no_crash(probed: Probed) -> None:
    document = probed()
    assert states(document) == []
    assert document["tpu"]["proc"] is None


def test_proc_bus_pci_devices() -> None:
    # A bound and an unbound TPU, and a bridge; show_device of the kernel's drivers/pci/proc.c has the format.
    numbers = "\t".join(["0"] * 15)
    text = f"0100\t1ac1089a\t{numbers}\tapex\n0200\t1ac1089a\t{numbers}\t\n0000\t1b211182\t{numbers}\tpcieport\n"
    assert probe.proc(text) == [{"slot": "0100", "driver": "apex"}, {"slot": "0200", "driver": None}]
