"""Remedies proven: a fault, what is said of it, the remedy as it is printed, and the cluster is well again.

Where bootstrap is not the remedy, it is tried as well: it refuses or says what it could not prove, and changes nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SHARED, Cluster

from clusteradm.lab import tpu_package
from clusteradm.lab.topology import boards
from clusteradm.node.edgetpu import trial_model

# Alone: surveys have limits of seconds.
pytestmark = [pytest.mark.lab, pytest.mark.alone]
ADDRESS = {board.name: board.tpus[0].address for board in boards(4, 1)}
SITE = "/etc/ssh/sshd_config.d/10-site.conf"
HOME = "/home/cluster"


def sh(cluster: Cluster, node: str, script: str) -> str:
    return cluster.on(node, "sh", "-ec", script)


def bootstrap(cluster: Cluster, *args: object, within: float = 240) -> tuple[int, dict[str, Any]]:
    """Exit status and document of `clusteradm bootstrap`."""
    process = cluster.start("bootstrap", "--json", *args)
    out, err = process.communicate(timeout=within)
    assert out, err
    return process.returncode, json.loads(out)


def tasks(document: dict[str, Any], *statuses: str) -> dict[str, list[str]]:
    """Host -> its tasks with one of these statuses."""
    found = {
        name: [task["task"] for task in host["tasks"] if task["status"] in statuses]
        for name, host in document["hosts"].items()
    }
    return {name: done for name, done in found.items() if done}


def the_one(cluster: Cluster, expect: int = 3) -> dict[str, Any]:
    """The one finding that is not caused by another."""
    roots = [each for each in cluster.health(expect=expect)["not_ok"] if not each["because"]]
    assert len(roots) == 1, roots
    return dict(roots[0])


@pytest.fixture(scope="module", autouse=True)
def well(cluster: Cluster) -> None:
    """What tests before have restarted or restored is itself again."""
    cluster.well()


@pytest.fixture(autouse=True)
def restored(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.restore()


def test_an_sshd_that_lets_in_only_some(cluster: Cluster) -> None:
    sh(cluster, "w1", f"echo 'AllowUsers mendel root' >{SITE}; systemctl reload ssh")
    try:
        finding = the_one(cluster)
        assert (finding["subject"], finding["check"], finding["state"]) == ("w1", "mpi", "NO_LOGIN")
        assert "lets in only AllowUsers mendel root" in finding["cause"]
        assert finding["remedy"].startswith("add cluster to AllowUsers in w1's /etc/ssh/sshd_config")
        status, document = bootstrap(cluster)
        assert status == 3 and "keeps the cluster user cluster out" in document["hosts"]["w1"]["reason"]
        assert "w1" not in tasks(document, "changed")
        assert tasks(document, "ignored") == {"head": ["Everything is proven"]}, (
            "the proof is without w1, which is said"
        )
        sh(cluster, "w1", f"sed -i '/^AllowUsers/s/$/ cluster/' {SITE}; systemctl reload ssh")
        cluster.well()
        status, document = bootstrap(cluster)
        assert (status, tasks(document, "failed", "ignored")) == (0, {})
    finally:
        sh(cluster, "w1", f"rm -f {SITE}; systemctl reload ssh")


def test_a_home_that_others_may_write(cluster: Cluster) -> None:
    sh(cluster, "w2", f"chmod 777 {HOME}")
    try:
        finding = the_one(cluster)
        assert (finding["subject"], finding["state"]) == ("w2", "NO_LOGIN")
        assert finding["remedy"] == f"on w2: chown cluster {HOME}; chmod go-w {HOME}"
        sh(cluster, "w2", finding["remedy"].partition(": ")[2])
        cluster.well()
    finally:
        sh(cluster, "w2", f"chmod 700 {HOME}")


def test_a_key_that_is_gone_is_bootstraps_and_is_proven(cluster: Cluster) -> None:
    sh(cluster, "w2", f"rm {HOME}/.ssh/authorized_keys")
    finding = the_one(cluster)
    assert (finding["state"], finding["remedy"][:25]) == ("NO_LOGIN", "run clusteradm bootstrap;")
    status, document = bootstrap(cluster)
    assert status == 0
    assert "Prove that all ranks start, talk and write" in tasks(document, "changed")["head"], (
        "an earlier proof says nothing"
    )
    cluster.well()


def test_a_limited_run_proves_what_it_is_about(cluster: Cluster) -> None:
    sh(cluster, "w2", f"rm {HOME}/.ssh/authorized_keys")
    # Without the head nobody knows its key: that is said, and no failure of the host.
    status, document = bootstrap(cluster, "--limit", "w2")
    assert status == 0 and tasks(document, "ignored") == {"w2": ["Everything is proven"]}
    (said,) = [task for task in document["hosts"]["w2"]["tasks"] if task["task"] == "Everything is proven"]
    assert "Not proven: that the head starts ranks there" in said["result"]["msg"], said
    status, document = bootstrap(cluster, "--limit", "head,w2")
    assert status == 0 and "Prove that all ranks start, talk and write" in tasks(document, "changed")["head"]
    status, document = bootstrap(cluster, "--limit", "w2")
    assert status == 0 and tasks(document, "ignored", "failed") == {}
    status, document = bootstrap(cluster, "--limit", "w2")
    assert (status, tasks(document, "changed", "ignored", "failed")) == (0, {})
    cluster.well()


@pytest.mark.parametrize(
    ("fault", "remedy", "words"),
    [
        (
            "mount -t tmpfs -o size=64m,mode=1777 none /tmp; head -c 80M /dev/zero >/tmp/big || true",
            "rm /tmp/big",
            "du -xh /tmp",
        ),
        ("mount -t tmpfs -o size=64m,mode=755 none /tmp", "chmod 1777 /tmp", "chmod 1777 /tmp"),
    ],
    ids=["full", "not for all"],
)
def test_a_tmp_that_cannot_be_written(cluster: Cluster, fault: str, remedy: str, words: str) -> None:
    sh(cluster, "w1", fault)
    try:
        finding = the_one(cluster)
        assert (finding["subject"], finding["check"], finding["state"]) == ("w1", "disk", "TMP")
        assert words in finding["remedy"]
        sh(cluster, "w1", remedy)
        cluster.well()
    finally:
        sh(cluster, "w1", "umount /tmp")


def test_a_share_without_file_handles(cluster: Cluster) -> None:
    sh(cluster, "head", f"mount -t ramfs none {SHARED}; chmod 755 {SHARED}; systemctl restart nfs-ganesha")
    try:
        finding = the_one(cluster)
        assert (finding["subject"], finding["check"], finding["state"]) == ("head", "export", "NO_HANDLES")
        status, document = bootstrap(cluster)
        assert status == 3 and "without file handles" in document["hosts"]["head"]["reason"]
    finally:
        sh(cluster, "head", f"umount {SHARED}; systemctl restart nfs-ganesha")
    status, _ = bootstrap(cluster)
    assert status == 0
    cluster.well()


def test_a_model_that_no_tpu_can_load_makes_none_ill(cluster: Cluster, tmp_path: Path) -> None:
    """The lab's TPUs refuse what the real compiler made."""
    (tmp_path / "other_edgetpu.tflite").write_bytes(trial_model.content())
    cluster.run("deploy-model", tmp_path / "other_edgetpu.tflite", "--name", "other")
    cluster.well()


def test_a_board_that_is_starting(cluster: Cluster) -> None:
    said = "System is booting up. Unprivileged users are not permitted to log in yet."
    sh(cluster, "w2", f"echo '{said}' >/run/nologin")
    try:
        finding = the_one(cluster, expect=4)
        assert (finding["subject"], finding["state"]) == ("w2", "UNREACHABLE")
        assert "it is starting or stopping" in finding["cause"] and said in finding["cause"]
        status, document = bootstrap(cluster, "--limit", "w2")
        assert status == 4 and said in document["hosts"]["w2"]["reason"]
    finally:
        sh(cluster, "w2", "rm /run/nologin")
    cluster.well()


def test_a_login_that_prints_without_an_end_of_line(cluster: Cluster) -> None:
    sh(
        cluster,
        "w1",
        "cp ~mendel/.bashrc /run/bashrc 2>/dev/null || : >/run/bashrc; echo 'printf hello' >~mendel/.bashrc",
    )
    try:
        begun = time.monotonic()
        cluster.health()
        assert time.monotonic() - begun < 30
    finally:
        sh(cluster, "w1", "cp /run/bashrc ~mendel/.bashrc")


def test_a_second_interface_in_the_subnet(cluster: Cluster) -> None:
    sh(cluster, "w1", "ip address add 10.78.0.200/28 dev usb0")
    try:
        finding = the_one(cluster)
        assert (finding["subject"], finding["check"], finding["state"]) == ("w1", "network", "OVERLAP")
        status, document = bootstrap(cluster, "--limit", "w1")
        assert status == 3 and "usb0 on w1 has the network" in document["hosts"]["w1"]["reason"]
    finally:
        sh(cluster, "w1", "ip address del 10.78.0.200/28 dev usb0")
    cluster.well()


def other_inventory(cluster: Cluster, tmp_path: Path, **variables: object) -> Path:
    """The lab's inventory with other variables of w1."""
    body = yaml.safe_load(cluster.lab.inventory.read_text())
    body["all"]["children"]["compute"]["hosts"]["w1"].update(variables)
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump(body))
    (tmp_path / "known_hosts").write_bytes((cluster.lab.inventory.parent / "known_hosts").read_bytes())
    return path


def test_a_wrong_interface_is_found_before_the_change(cluster: Cluster, tmp_path: Path) -> None:
    profile = "cat /etc/systemd/network/*cluster*"  # w1 is a PC with networkd
    before = sh(cluster, "w1", profile)
    assert "10.78.0.2" in before
    inventory = other_inventory(cluster, tmp_path, cluster_interface="eth9")
    status, document = bootstrap(cluster, "-i", inventory, "--limit", "w1")
    assert status == 3 and "w1 has no interface eth9 (there are: " in document["hosts"]["w1"]["reason"]
    assert tasks(document, "changed") == {} and sh(cluster, "w1", profile) == before


def test_a_host_without_a_tpu(cluster: Cluster, tmp_path: Path) -> None:
    cluster.lab.fault("w1", "absent")
    inventory = other_inventory(cluster, tmp_path, cluster_tpus=0)
    library = "/usr/lib/*/libedgetpu.so.1*"
    sh(cluster, "w1", f"mkdir /run/away; mv {library} /run/away; ldconfig")
    try:
        assert cluster.health("-i", inventory)["not_ok"] == []
        status, document = bootstrap(cluster, "-i", inventory)
        assert status == 0 and "Install the library" not in tasks(document, "changed").get("w1", [])
    finally:
        sh(
            cluster,
            "w1",
            "mv /run/away/* /usr/lib/$(gcc -print-multiarch 2>/dev/null || uname -m)-linux-gnu/; ldconfig",
        )
    cluster.lab.restore("w1")
    cluster.well()


def test_a_library_that_crashes_the_runtime(cluster: Cluster) -> None:
    """Google's, in the lab's likeness: it is found by its version, no job loads it, and bootstrap replaces it."""
    sh(cluster, "w3", f"apt-get install -qq --allow-downgrades libedgetpu1-std={tpu_package.OLD_VERSION}")
    try:
        finding = the_one(cluster)
        assert (finding["subject"], finding["check"], finding["state"]) == ("w3", "runtime", "MISMATCH")
        assert f"libedgetpu {tpu_package.OLD_VERSION} are of different generations" in finding["cause"]
        assert "crashes the process (signal 11)" in finding["cause"]
        document = cluster.health(expect=3)
        (tpu,) = [each for each in document["not_ok"] if each["check"] == "tpu"]
        assert (tpu["subject"], tpu["state"]) == (f"w3 {ADDRESS['w3']}", "RUNTIME")
        assert finding["remedy"].startswith("run clusteradm bootstrap")
        status, document = bootstrap(cluster, "--limit", "w3")
        assert (status, tasks(document, "changed", "failed")["w3"]) == (0, ["Install the library"])
        cluster.well()
    finally:
        sh(cluster, "w3", f"apt-get install -qq --allow-downgrades libedgetpu1-std={tpu_package.VERSION}")


def test_a_tpu_that_a_reset_has_left_off_the_bus(cluster: Cluster) -> None:
    sh(cluster, "w1", f"echo 1 >/sys/bus/pci/devices/{ADDRESS['w1']}/remove; sleep 1")
    finding = the_one(cluster)
    assert (finding["subject"], finding["state"]) == ("w1", "ABSENT")
    document = json.loads(cluster.run("tpu", "reset", f"w1:{ADDRESS['w1']}", "--json")[0])
    assert document["before"] is None and document["after"]["device"] == "apex_0"
    cluster.well()


def test_what_hangs_on_the_share_does_not_become_more(cluster: Cluster) -> None:
    """The children of a probe, by the board's own ps."""
    cluster.lab.fault("head", "nfs")
    counts = []
    for _ in range(3):
        document = cluster.health(expect=3)
        assert {
            each["state"] for each in document["findings"] if each["check"] == "nfs" and each["subject"] != "head"
        } == {"STALE"}
        time.sleep(1)
        counts.append(len(re.findall("clusteradm", sh(cluster, "w1", "ps -eo args"))))
    assert counts[0] == counts[2] <= 2, counts
    cluster.lab.restore("head")
    cluster.well()


def test_a_frozen_head_does_not_hold_bootstrap_up(cluster: Cluster) -> None:
    cluster.lab.fault("head", "freeze")
    begun = time.monotonic()
    status, document = bootstrap(cluster)
    took = time.monotonic() - begun
    assert status in (3, 4) and document["hosts"]["head"]["unreachable"] == 1
    assert took < 75, took
    said = [task["result"].get("stderr", "") for name in ("w1", "w2") for task in document["hosts"][name]["tasks"]]
    assert any("does not serve NFS" in text for text in said)
    cluster.lab.restore("head")
    cluster.well()


def test_one_without_power_is_one_thing(cluster: Cluster) -> None:
    cluster.lab.fault("w2", "power")
    finding = the_one(cluster, expect=4)
    assert finding["cause"].startswith("no answer") and "its power and its cable" in finding["remedy"]
    status, document = bootstrap(cluster, "--limit", "w2")
    assert status == 4 and document["hosts"]["w2"]["reason"].startswith("no answer")
    assert "its power and its cable" in document["hosts"]["w2"]["reason"]
    cluster.lab.restore("w2")
    cluster.well()
