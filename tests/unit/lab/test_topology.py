"""Names, addresses and interfaces of the boards, and the files that tell others of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from clusteradm.errors import UsageError
from clusteradm.inventory import load
from clusteradm.lab import access
from clusteradm.lab.plan import Places, Plan
from clusteradm.lab.topology import DECOY_MAC, boards

FOUR = Plan(4, 1, ("bookworm",), 1024, "")


def test_half_of_the_boards_are_mendels_and_no_two_share_an_address() -> None:
    four = boards(4, 1)
    assert [board.name for board in four] == ["head", "w1", "w2", "w3"]
    assert [board.mendel for board in four] == [True, False, True, False]
    assert len({board.address for board in four} | {board.cluster_address for board in four}) == 8
    assert {board.cluster_interface for board in four} == {"eth0", "enp2s0"}
    names = [(board, name) for board in four for name in (board.management_interface, board.cluster_interface)]
    assert len({board.mac(name) for board, name in names}) == 8
    assert {board.mac("usb0") for board in four} == {DECOY_MAC}


def test_dev_boards_have_networkmanager_and_half_of_the_pcs_networkd() -> None:
    eight = boards(8, 1)
    assert {board.network for board in eight if board.mendel} == {"networkmanager"}
    assert [board.network for board in eight if not board.mendel] == [
        *("networkd", "ifupdown", "networkd", "networkmanager")
    ]
    assert [board.network for board in boards(3, 1, ["netplan", "ifupdown"])] == ["netplan", "ifupdown", "netplan"]


def test_a_board_has_the_layers_of_its_release_and_tool() -> None:
    lower = (
        ("bookworm", "networkmanager", ("board-b", "base-b")),
        ("trixie", "networkd", ("board-t", "networkd-t", "base-t")),
        ("trixie", "ifupdown", ("board-t", "ifupdown-t", "base-t")),
    )
    plan = Plan(5, 1, ("bookworm", "trixie", "trixie"), 1024, "", ("networkmanager", "networkd", "ifupdown"), lower)
    assert [[str(path) for path in plan.lower_of(board)] for board in plan.boards] == [
        *(["board-b", "base-b"], ["board-t", "networkd-t", "base-t"], ["board-t", "ifupdown-t", "base-t"]),
        *(["board-b", "base-b"], ["board-t", "networkd-t", "base-t"]),
    ]
    assert plan.describe().startswith(
        "5 boards, 1 Edge TPU each (simulated), bookworm, trixie, trixie, 1024 MiB, network"
    )


def test_a_release_that_no_dev_board_has_makes_every_board_a_pc() -> None:
    five = boards(5, 1, suites=["bookworm", "trixie", "trixie"])
    assert [(board.suite, board.mendel) for board in five] == [
        *(("bookworm", True), ("trixie", False), ("trixie", False), ("bookworm", False), ("trixie", False))
    ]


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (Plan(4, 1, ("bookworm",), 1024, "", ("connman",)), "--network: no board has 'connman'"),
        (Plan(4, 1, ("bookworm", "sid"), 1024, ""), "--suite: no board has 'sid'"),
        (Plan(4, 1, ("",), 1024, ""), "--suite: no board has ''"),
        (Plan(4, 1, ("bullseye", "trixie"), 1024, "/usr/bin/pypy3"), "a trixie board has no /usr/bin/pypy3"),
    ],
)
def test_what_no_board_has_is_refused(plan: Plan, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan.check()


def test_plans_are_compared_by_their_boards() -> None:
    assert FOUR.wanted == Plan(4, 1, ("bookworm", "bookworm"), 1024, "").wanted
    assert FOUR.wanted != Plan(4, 1, ("bookworm", "trixie"), 1024, "").wanted
    # A release that no board of the lab would have makes no other lab.
    assert (
        Plan(1, 1, ("bullseye", "trixie"), 1024, "/usr/bin/pypy3").wanted
        == Plan(1, 1, ("bullseye",), 1024, "/usr/bin/pypy3").wanted
    )


def test_tpus_are_numbered_against_their_pci_order() -> None:
    two = boards(1, 2)[0].tpus
    assert [tpu.number for tpu in two] == [0, 1]
    assert two[0].address > two[1].address


def test_the_inventory_is_one_that_clusteradm_reads(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yml"
    file.write_text(access.inventory(Places("one"), FOUR), encoding="utf-8")
    cluster = load(file)
    assert list(cluster.hosts) == ["head", "w1", "w2", "w3"]
    assert cluster.head.name == "head"
    w1 = cluster.hosts["w1"]
    assert (w1.address, w1.user, w1.cluster_ip, w1.cluster_interface) == ("10.77.0.2", "mendel", "10.78.0.2", "enp2s0")
    assert "ProxyCommand" in w1.ssh_common_args


def test_a_single_board_is_a_cluster_too(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yml"
    file.write_text(access.inventory(Places("one"), Plan(1, 0, ("bookworm",), 1024, "")), encoding="utf-8")
    assert load(file).compute == ()


def test_the_inventory_names_the_python_that_was_asked_for() -> None:
    text = access.inventory(Places("one"), Plan(1, 1, ("bullseye",), 1024, "/usr/bin/pypy3"))
    assert yaml.safe_load(text)["all"]["vars"]["ansible_python_interpreter"] == "/usr/bin/pypy3"


def test_known_hosts_has_every_key_under_address_and_name() -> None:
    head, w1 = boards(2, 1)
    text = access.known_hosts({head: ["ssh-ed25519 AAAA", "ssh-rsa BBBB"], w1: ["ssh-ed25519 CCCC"]})
    assert text.splitlines() == [
        "10.77.0.1,head ssh-ed25519 AAAA",
        "10.77.0.1,head ssh-rsa BBBB",
        "10.77.0.2,w1 ssh-ed25519 CCCC",
    ]


@pytest.mark.parametrize(
    ("plan", "option"),
    [
        (Plan(0, 1, ("bookworm",), 1024, ""), "--nodes"),
        (Plan(65, 1, ("bookworm",), 1024, ""), "--nodes"),
        (Plan(1, 17, ("bookworm",), 1024, ""), "--tpus"),
        (Plan(1, -1, ("bookworm",), 1024, ""), "--tpus"),
        (Plan(1, 1, ("bookworm",), 64, ""), "--memory"),
    ],
)
def test_numbers_that_no_lab_can_have_are_refused(plan: Plan, option: str) -> None:
    with pytest.raises(UsageError, match=option):
        plan.check()


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "-x", "a" * 40])
def test_a_name_that_would_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a name for a lab"):
        Places(name)


def test_a_plan_comes_back_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.lab.plan.ROOT", tmp_path)
    places = Places("one")
    assert places.read_plan() is None
    places.root.mkdir()
    lower = (("bookworm", "networkd", ("/a", "/b")),)
    plan = Plan(2, 1, ("bookworm",), 512, "", ("networkd",), lower, (("tpu", "/c"),), ("/d",))
    places.write_plan(plan)
    assert places.read_plan() == plan
    assert {str(path) for path in plan.parts} == {"/a", "/b", "/c", "/d"}


@pytest.mark.parametrize("text", ['{"nodes": 2, "suite": "bookworm"}', "{}", '{"suites": 7}', "[]"])
def test_a_plan_of_another_version_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.lab.plan.ROOT", tmp_path)
    places = Places("one")
    places.root.mkdir()
    places.plan.write_text(text)
    with pytest.raises(UsageError, match="another version of clusteradm") as caught:
        places.read_plan()
    assert caught.value.next_step == "end it with: clusteradm lab down --name one"
