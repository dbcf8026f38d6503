"""What keeps a host out until a person mends it (playbooks/vars/obstacles.yml), for what boards report."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.playbook import Templates
from clusteradm.playbook import load as load_playbook
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState

INVENTORY = """\
all:
  vars: {cluster_subnet: 192.168.100.0/24}
  children:
    head: {hosts: {head: {cluster_ip: 192.168.100.1, cluster_interface: eth0}}}
    compute:
      hosts:
        w1: {cluster_ip: 192.168.100.2, cluster_interface: enp2s0}
        w2: {cluster_ip: 192.168.100.3, cluster_interface: eth0}
"""
ROOM = ["room 4000 /", "room 4000 /", "room 4000 /", "room 4000 /"]


def run_state(name: str, *more: str) -> list[str]:
    number = ["head", "w1", "w2"].index(name)
    return [f"machine-id {number:032x}", f"MAC 7c:d9:5c:00:00:{number:02x}", *ROOM, *more]


def judged(tmp_path: Path, host: str, **looks: list[str]) -> list[str]:
    """What is in the way of `host`, when the hosts named have reported these lines."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    cluster = load(tmp_path / "inventory.yml")
    playbook = load_playbook(shipped.PLAYBOOKS / "prepare.yml", cluster)
    play = playbook.plays[1]
    run_state = RunState(cluster.hosts.values())
    run_state.begin_play(play, cluster.hosts)
    for name, lines in looks.items():
        run_state.hosts[name].results["look"] = {"stdout_lines": lines}
    planner = Planner(playbook, run_state, Templates(), check=False, diff=False, limit=None)
    step = play.steps[0]
    found = strict(planner.variables(cluster.hosts[host], play, step.task, 0).render("{{ in_the_way }}"))
    result = planner.plan(run_state.hosts[host], play, step).result
    assert result is not None and bool(result.get("failed")) == bool(found)
    if found:
        assert result["msg"] == " ".join(found)
    return [" ".join(text.split()) for text in found]


def test_nothing_is_in_the_way_of_an_ordinary_board(tmp_path: Path) -> None:
    bare = ["missing openmpi-bin", "missing python3-numpy", "unfinished pciutils", "archived /etc/apt/sources.list"]
    assert judged(tmp_path, "w1", head=run_state("head"), w1=run_state("w1", *bare), w2=run_state("w2")) == []


@pytest.mark.parametrize(("line", "words"), [(0, "the same machine-id"), (1, "the same MAC 7c:d9:5c:00:00:00")])
def test_of_two_with_one_identity_the_later_is_refused_and_both_are_named(
    tmp_path: Path, line: int, words: str
) -> None:
    looks = {name: run_state(name) for name in ("head", "w1", "w2")}
    looks["w2"][line] = looks["w1"][line] = looks["head"][line]
    assert judged(tmp_path, "head", **looks) == []
    (found,) = judged(tmp_path, "w2", **looks)
    assert f"w2 and head have {words}" in found
    assert "bootstrap again" in found
    # Who was not asked, or did not answer, is compared with nobody.
    del looks["head"]
    (found,) = judged(tmp_path, "w2", **looks)
    assert "w2 and w1 have" in found
    assert judged(tmp_path, "w1", **looks) == []


def test_a_gadgets_network_within_the_clusters(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, "w1", w1=run_state("w1", "overlap usb0 192.168.100.0/24"))
    assert found.startswith(
        "usb0 on w1 has the network 192.168.100.0/24, which is in cluster_subnet (192.168.100.0/24)"
    )
    assert "Choose another cluster_subnet" in found


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["interfaces eth0 lo wlan0"], "w1 has no interface enp2s0 (there are: eth0, wlan0)"),
        (["interfaces enp2s0 lo", "kind 1", "carrier 0"], "enp2s0 on w1 has no carrier. Check the cable"),
        (["interfaces enp2s0 lo", "kind 772"], "enp2s0 on w1 is no Ethernet interface"),
        (["interfaces br0 enp2s0 lo", "kind 1", "carrier 1", "master br0"], "enp2s0 on w1 is part of br0"),
    ],
)
def test_a_wrong_interface_is_found_before_the_change(tmp_path: Path, lines: list[str], words: str) -> None:
    (found,) = judged(tmp_path, "w1", w1=run_state("w1", *lines))
    assert found.startswith(words) and "cluster_interface" in found and found.endswith("run bootstrap again.")


@pytest.mark.parametrize("carrier", [["carrier 1"], []], ids=["up", "switched off"])
def test_a_right_interface_is_not_in_the_way(tmp_path: Path, carrier: list[str]) -> None:
    lines = ["interfaces enp1s0 enp2s0 lo", "kind 1", *carrier]
    assert judged(tmp_path, "w1", w1=run_state("w1", *lines)) == []


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["allowusers mendel", "allowusers ann@10.*"], "(AllowUsers). Add it to AllowUsers"),
        (["allowgroups sudo"], "(AllowGroups). Add it to AllowGroups"),
        (["denyusers clus*"], "(DenyUsers). Take it out of DenyUsers"),
        (["denygroups ape?"], "(DenyGroups). Take it out of DenyGroups"),
        (["denyusers cluster@192.168.100.*"], "(DenyUsers). Take it out of DenyUsers"),
        (["denyusers *@head"], "(DenyUsers). Take it out of DenyUsers"),
        (["allowusers * !clust*"], "(AllowUsers). Add it to AllowUsers"),
        (["allowusers cluster[12]"], "(AllowUsers). Add it to AllowUsers"),
    ],
)
def test_an_sshd_that_keeps_the_cluster_user_out(tmp_path: Path, rules: list[str], words: str) -> None:
    lines = [f"login {rule}" for rule in rules]
    (found,) = judged(tmp_path, "w1", w1=run_state("w1", *lines))
    assert found.startswith("sshd on w1 keeps the cluster user cluster out") and words in found
    assert judged(tmp_path, "head", head=run_state("head", *lines)) == [], "the head does not log in to itself"


@pytest.mark.parametrize(
    "rule",
    [
        "allowusers cl?ster@10.0.0.*",
        "allowgroups mendel apex",
        "denyusers cluster2 lust",
        "denyusers *@203.0.113.0/24",
        "denyusers cluster@203.0.113.*",
        "denyusers * !cluster",
    ],
)
def test_an_sshd_that_lets_the_cluster_user_in(tmp_path: Path, rule: str) -> None:
    assert judged(tmp_path, "w1", w1=run_state("w1", f"login {rule}")) == []


def test_a_group_that_the_cluster_user_has_already(tmp_path: Path) -> None:
    lines = ["login allowgroups ssh-users", "groups cluster ssh-users"]
    assert judged(tmp_path, "w1", w1=run_state("w1", *lines)) == []
    (found,) = judged(tmp_path, "w1", w1=run_state("w1", "login denygroups ssh-users", lines[1]))
    assert "(DenyGroups)" in found


def test_a_wireless_interface_is_unfit(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, "w1", w1=run_state("w1", "interfaces enp1s0 enp2s0 lo", "kind 1", "kind wireless"))
    assert found.startswith("enp2s0 on w1 is a wireless interface, which is unfit for the cluster's network")
    assert "Set cluster_interface of w1 to a wired one (there are: enp1s0)" in found


def test_a_tool_that_the_host_contradicts(tmp_path: Path) -> None:
    (held,) = judged(tmp_path, "w1", w1=run_state("w1", "unfit holds ifupdown", "network networkd"))
    assert held.startswith("cluster_network of w1 is auto, but ifupdown configures enp2s0 there.")
    (off,) = judged(tmp_path, "w1", w1=run_state("w1", "unfit systemd-networkd does not run", "network networkd"))
    assert "but systemd-networkd does not run there. Leave cluster_network out" in off


def test_room_is_judged_by_file_system_and_by_what_is_missing(tmp_path: Path) -> None:
    def of(*room: str, also: tuple[str, ...] = ()) -> list[str]:
        return judged(tmp_path, "w1", w1=[*run_state("w1")[:2], *room, *also])

    everything = ("missing openmpi-bin", "missing python3-numpy", "missing python3-pil", "missing nfs-common")
    # 65 + 40 + 12 and 5 for each of the four; lists and archives; the virtual environment.
    assert of(*["room 557 /"] * 4, also=everything) == []
    (found,) = of(*["room 556 /"] * 4, also=everything)
    assert "w1 has 556 MiB free in / and needs 557 there (for /usr, /var/cache/apt, /var/lib, /opt)" in found
    (found,) = of("room 9000 /", "room 219 /var", "room 219 /var", "room 9000 /", also=everything)
    assert "219 MiB free in /var and needs 220 there (for /var/cache/apt, /var/lib)" in found
    assert len(of("room 1 /", "room 1 /var", "room 1 /var", "room 1 /opt", also=everything)) == 1
    # One small package needs little of /usr; where all is there nothing is needed, however full the disk is.
    assert of("room 5 /usr", *["room 400 /"] * 3, also=("missing pciutils", "runtime")) == []
    assert of(*["room 0 /"] * 4, also=("runtime",)) == []
