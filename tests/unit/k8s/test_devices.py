"""Devices of the kubelet, from captured hosts and from trees of sysfs files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import ClusteradmError
from clusteradm.kubernetes.devices import Watch, read
from clusteradm.node.probe import pcie
from clusteradm.node.probe import tpu as probe

PROBES = Path(__file__).parents[2] / "fixtures/probes"


def captured(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PROBES / f"{name}.json").read_text())["document"]
    return document


def owned(document: dict[str, Any], **owner: Any) -> dict[str, Any]:
    device = document["tpu"]["apex"][0]
    device["is_device_owned"], device["device_owner"] = "1", "4711"
    device["owner"] = {"pid": 4711, "user": "root", "command": "python3 detect.py", "job": None, "pod": False, **owner}
    return document


def test_seven_of_eight_are_there_and_healthy() -> None:
    devices = read(captured("absent-1-of-8"))
    assert [device.healthy for device in devices] == [True] * 7
    assert devices[0].id == "0000:04:00.0" and devices[0].path.startswith("/dev/apex_")


@pytest.mark.parametrize(("name", "state"), [("lamed", "LAMED"), ("no-driver-blacklisted", "NO_DRIVER")])
def test_one_that_does_not_work_is_not_given_out(name: str, state: str) -> None:
    devices = read(captured(name))
    assert devices and not any(device.healthy for device in devices)
    assert devices[0].reason.startswith(f"{state}: ")


@pytest.mark.parametrize("name", ["hot-mendel", "link-gen1"])
def test_one_that_is_only_slow_is_given_out(name: str) -> None:
    assert all(device.healthy for device in read(captured(name)))


def test_who_may_open_the_node_is_the_kubelets_affair() -> None:
    document = captured("link-gen1")
    document["tpu"]["user_in_group"] = False
    for device in document["tpu"]["apex"]:
        device["node"]["group"] = "44"
    assert all(device.healthy for device in read(document))


def test_one_that_a_pod_has_is_the_kubelets_to_count() -> None:
    assert read(owned(captured("link-gen1"), pod=True))[0].healthy


def test_one_whose_owner_cannot_be_seen_is_a_pods() -> None:
    document = owned(captured("link-gen1"))
    document["tpu"]["apex"][0]["owner"] = {"pid": 4711, "user": None, "command": None, "job": None, "pod": False}
    assert read(document)[0].healthy


@pytest.mark.parametrize(
    ("owner", "by"), [({}, "process 4711: python3 detect.py"), ({"job": "j-1", "user": "cluster"}, "job j-1")]
)
def test_one_that_a_process_in_no_pod_has_is_not_given_out(owner: dict[str, Any], by: str) -> None:
    reason = read(owned(captured("link-gen1"), **owner))[0].reason
    assert reason == f"BUSY: it is in use by {by}, which is in no pod"


@pytest.mark.parametrize("document", [None, {}, {"tpu": {"error": "it hung"}}, {"tpu": 3}])
def test_a_probe_that_failed_says_nothing_of_the_devices(document: Any) -> None:
    if document == {"tpu": {"error": "it hung"}}:
        with pytest.raises(ClusteradmError, match="it hung"):
            read(document)
    else:
        assert read(document) == ()


@pytest.mark.parametrize(("text", "numa"), [("1\n", 1), ("-1\n", None), ("x\n", None), (None, None)])
def test_the_memory_node_is_the_kernels(tmp_path: Path, text: str | None, numa: int | None) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text("0x1ac1\n")
    (folder / "device").write_text("0x089a\n")
    if text is not None:
        (folder / "numa_node").write_text(text)
    assert read({"tpu": {"pci": pcie.cards(str(tmp_path))}})[0].numa == numa


@pytest.mark.parametrize(
    ("cgroup", "pod"),
    [
        ("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope\n", True),
        ("0::/system.slice/clusteradm-serve.service\n", False),
        (None, False),
    ],
)
def test_a_process_in_a_pod_is_known_by_its_cgroup(tmp_path: Path, cgroup: str | None, pod: bool) -> None:
    folder = tmp_path / "proc/17"
    folder.mkdir(parents=True)
    if cgroup is not None:
        (folder / "cgroup").write_text(cgroup)
    found = probe.process(str(tmp_path), "17")
    assert found is not None and found["pod"] is pod


def test_a_machine_is_looked_at_by_its_own_node_program() -> None:
    watch = Watch("cluster")
    try:
        assert watch.look() == watch.look()
    finally:
        watch.close()


STICK = {
    "address": "usb:1-2",
    "name": "2-2",
    "id": "18d1:9302",
    "speed": "5000",
    "configuration": "1",
    "authorized": "1",
    "path": "/dev/bus/usb/002/003",
    "node": {
        "path": "/dev/bus/usb/002/003",
        "mode": "0660",
        "owner": "root",
        "group": "44",
        "major": 189,
        "minor": 130,
    },
    "user_in_group": False,
}
BY = {"pid": 4711, "user": "root", "command": "python3 detect.py", "job": None, "pod": False}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"speed": "480"}, ""),
        ({"owner": {**BY, "pod": True}}, ""),
        ({"owner": BY}, "BUSY: it is in use by process 4711: python3 detect.py, which is in no pod"),
        ({"id": "1a6e:089a", "path": "/dev/bus/usb/001/007"}, "NEW: its firmware is not loaded"),
        ({"configuration": ""}, "POWER: "),
        ({"node": None}, "NO_NODE: "),
    ],
)
def test_an_accelerator_on_usb_is_given_out_by_its_present_node(changed: dict[str, Any], reason: str) -> None:
    document = {"tpu": {**captured("link-gen1")["tpu"], "usb": [{**STICK, **changed}]}}
    *cards, stick = read(document)
    assert len(cards) == len(document["tpu"]["pci"]) and all(card.healthy for card in cards)
    assert (stick.id, stick.path, stick.numa) == ("usb:1-2", changed.get("path", STICK["path"]), None)
    assert stick.reason.startswith(reason) and stick.healthy is not bool(reason)
