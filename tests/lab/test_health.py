"""health on a virtual cluster: all is well, then real disturbances, each found as what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusteradm.lab import Lab, hardware
from clusteradm.lab.topology import boards
from clusteradm.transport.known_hosts import KnownHosts, fingerprint

pytestmark = pytest.mark.lab

SHARED = "/srv/cluster"


def health(lab: Lab, *args: object) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, findings that are not well, messages."""
    command = [sys.executable, "-m", "clusteradm", "health", "--json", *map(str, args)]
    environment = {**os.environ, "CLUSTERADM_INVENTORY": str(lab.inventory)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, [finding for finding in findings if finding["severity"] != "ok"], done.stderr


def states(found: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(finding["subject"], finding["check"], finding["state"]) for finding in found}


def on(lab: Lab, node: str, command: str) -> str:
    return str(lab.exec(node, ["sh", "-c", command], timeout=120).stdout).strip()


def test_all_is_well(cluster_lab: Lab) -> None:
    status, found, _ = health(cluster_lab)
    assert (status, found) == (0, [])


def test_the_table_has_every_host_and_every_tpu_and_says_simulated(cluster_lab: Lab) -> None:
    environment = {**os.environ, "CLUSTERADM_INVENTORY": str(cluster_lab.inventory)}
    command = [sys.executable, "-m", "clusteradm", "health", "-v"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for board in boards(4, 1):
        assert f"{board.name} {board.tpus[0].address}" in done.stdout
        seen = on(cluster_lab, board.name, "lspci -D -nn")
        assert (
            f"{board.tpus[0].address} System peripheral [0880]: Global Unichip Corp. Coral Edge TPU [1ac1:089a]" in seen
        )
    assert done.stdout.count("SIMULATED") == 4


def test_a_share_that_is_not_mounted(cluster_lab: Lab) -> None:
    on(cluster_lab, "w1", f"umount {SHARED}")
    try:
        status, found, _ = health(cluster_lab)
    finally:
        on(cluster_lab, "w1", f"mount {SHARED}")
    assert status == 3
    # What its MPI process writes stays on its own disk, which it may not even write to.
    assert ("w1", "nfs", "NOT_MOUNTED") in states(found)
    assert {finding["subject"] for finding in found} == {"w1"}


def test_a_tpu_that_the_cluster_user_may_not_open(cluster_lab: Lab) -> None:
    on(cluster_lab, "w2", "chmod 0600 /dev/apex_0")
    try:
        status, found, _ = health(cluster_lab)
    finally:
        on(cluster_lab, "w2", "chmod 0660 /dev/apex_0")
    (tpu,) = found
    assert (status, tpu["check"], tpu["state"]) == (3, "tpu", "NO_PERMISSION")
    assert tpu["subject"].startswith("w2 0001:") and "0600" in tpu["cause"]


def test_a_wedged_tpu(cluster_lab: Lab) -> None:
    view = cluster_lab.places.node("w1") / "shared" / "hardware"
    temp = hardware.class_folder(view, boards(4, 1)[1].tpus[0]) / "temp"
    before = temp.read_text()
    hardware.put(temp, "-89700\n")
    try:
        status, found, _ = health(cluster_lab)
    finally:
        hardware.put(temp, before)
    assert (status, [finding["state"] for finding in found]) == (3, ["WEDGED"])
    assert "clusteradm tpu reset" in found[0]["remedy"]


def test_a_host_without_power(cluster_lab: Lab) -> None:
    cluster_lab.fault("w3", "power")
    try:
        status, found, _ = health(cluster_lab)
    finally:
        cluster_lab.restore("w3")
    assert (status, states(found)) == (4, {("w3", "ssh", "UNREACHABLE")})


def test_a_server_that_stopped_hangs_nothing(cluster_lab: Lab) -> None:
    on(cluster_lab, "head", "systemctl stop nfs-ganesha")
    try:
        status, found, _ = health(cluster_lab)
    finally:
        on(cluster_lab, "head", "systemctl start nfs-ganesha")
    assert status == 3
    assert {(f"w{number}", "nfs", "STALE") for number in (1, 2, 3)} <= states(found)
    # The mounts are hard: they go on where they were once the server is back (and out of its grace period).
    for node in ("w1", "w2", "w3"):
        write = f"echo back >{SHARED}/.back && rm {SHARED}/.back"
        on(cluster_lab, node, f"timeout 100 runuser -u cluster -- sh -c '{write}'")


def test_saved_and_judged_again(cluster_lab: Lab, tmp_path: Path) -> None:
    saved = tmp_path / "today.json"
    assert health(cluster_lab, "--save", saved)[0] == 0
    document = json.loads(saved.read_text())
    document["documents"]["w1"]["tpu"]["apex"][0]["temp"] = "-89700"
    saved.write_text(json.dumps(document))
    status, found, _ = health(cluster_lab, "--from", saved)
    assert (status, [finding["state"] for finding in found]) == (3, ["WEDGED"])


def test_first_contact(cluster_lab: Lab, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    status, found, messages = health(cluster_lab, "--known-hosts", known)
    assert status == 4 and len(found) == 4 and not known.exists()
    for node in ("head", "w1", "w2", "w3"):
        own = on(cluster_lab, node, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        assert own in messages
    status, found, _ = health(cluster_lab, "--known-hosts", known, "--accept-new")
    assert (status, found) == (0, []) and len(known.read_text().splitlines()) == 4


def test_a_changed_host_key_stops_that_host(cluster_lab: Lab, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    keys = KnownHosts(cluster_lab.inventory.parent / "known_hosts")
    ed25519 = {f"10.77.0.{number}": keys.of(f"10.77.0.{number}", 22)["ssh-ed25519"] for number in (1, 2, 3, 4)}
    swapped = {**ed25519, "10.77.0.2": ed25519["10.77.0.3"]}
    known.write_text("".join(f"{address} ssh-ed25519 {key.get_base64()}\n" for address, key in swapped.items()))
    status, found, _ = health(cluster_lab, "--known-hosts", known, "--accept-new")
    assert (status, states(found)) == (4, {("w1", "ssh", "UNREACHABLE")})
    for address in ("10.77.0.2", "10.77.0.3"):
        assert fingerprint(ed25519[address]) in found[0]["cause"]
