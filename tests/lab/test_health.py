"""health on a virtual cluster without a fault, and what it does with what people give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import SHARED, Cluster, ill

from clusteradm.lab.topology import boards
from clusteradm.transport.known_hosts import KnownHosts, fingerprint

# Alone: a survey has limits of seconds for the share, which other tests beside it use up.
pytestmark = [pytest.mark.lab, pytest.mark.alone]


@pytest.fixture(scope="module", autouse=True)
def well(cluster: Cluster) -> None:
    """What tests before have restarted or restored is itself again."""
    cluster.well()


def test_the_table_has_every_host_and_every_tpu_and_says_simulated(cluster: Cluster) -> None:
    table, _ = cluster.run("health", "-v")
    for board in boards(4, 1):
        assert f"{board.name} {board.tpus[0].address}" in table
        seen = cluster.on(board.name, "lspci", "-D", "-nn")
        assert (
            f"{board.tpus[0].address} System peripheral [0880]: Global Unichip Corp. Coral Edge TPU [1ac1:089a]" in seen
        )
    assert table.count("SIMULATED by") == 4 and table.endswith("4 of 4 Edge TPUs OK (SIMULATED), ok\n")


def test_an_export_that_anybody_may_use(cluster: Cluster) -> None:
    """What another address of the head sees of it, by the server's own answer."""
    configuration = "/etc/ganesha/ganesha.conf"
    everybody = f"sed -i.closed 's/Access_Type = None/Access_Type = RW/' {configuration}"
    reload = "systemctl reload nfs-ganesha; sleep 0.5"
    cluster.on("head", "sh", "-ec", f"{everybody}; ! cmp -s {configuration} {configuration}.closed; {reload}")
    try:
        document = cluster.health(expect=3)
    finally:
        cluster.on("head", "sh", "-ec", f"mv {configuration}.closed {configuration}; {reload}")
    (finding,) = document["not_ok"]
    assert (finding["subject"], finding["check"], finding["state"]) == ("head", "export", "OPEN")
    assert "10.77.0.1" in finding["cause"]
    (export,) = [each for each in cluster.health()["findings"] if each["check"] == "export"]
    assert (export["subject"], export["detail"]) == ("head", "refused from outside: NFS4ERR_NOENT")


def test_saved_and_judged_again(cluster: Cluster, tmp_path: Path) -> None:
    saved = tmp_path / "today.json"
    assert cluster.health("--save", saved)["not_ok"] == []
    document = json.loads(saved.read_text())
    document["documents"]["w1"]["tpu"]["apex"][0]["temp"] = "-89700"
    saved.write_text(json.dumps(document))
    assert [finding["state"] for finding in cluster.health("--from", saved, expect=3)["not_ok"]] == ["WEDGED"]


def test_first_contact(cluster: Cluster, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    document, messages = cluster.run("health", "--json", "--known-hosts", known, expect=4)
    assert json.loads(document)["summary"]["error"] == 4 and not known.exists()
    for node in cluster.nodes:
        own = cluster.on(node, "ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        assert own in messages
    assert cluster.health("--known-hosts", known, "--accept-new")["not_ok"] == []
    assert len(known.read_text().splitlines()) == 4


def test_a_changed_host_key_stops_that_host(cluster: Cluster, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    keys = KnownHosts(cluster.lab.inventory.parent / "known_hosts")
    ed25519 = {f"10.77.0.{number}": keys.of(f"10.77.0.{number}", 22)["ssh-ed25519"] for number in (1, 2, 3, 4)}
    swapped = {**ed25519, "10.77.0.2": ed25519["10.77.0.3"]}
    known.write_text("".join(f"{address} ssh-ed25519 {key.get_base64()}\n" for address, key in swapped.items()))
    (finding,) = cluster.health("--known-hosts", known, "--accept-new", expect=4)["not_ok"]
    assert (finding["subject"], finding["check"], finding["state"]) == ("w1", "ssh", "UNREACHABLE")
    for address in ("10.77.0.2", "10.77.0.3"):
        assert fingerprint(ed25519[address]) in finding["cause"]


def test_what_waits_for_a_share_that_is_not_mounted(cluster: Cluster) -> None:
    cluster.on("w1", "umount", SHARED)
    try:
        document = cluster.health(expect=3)
    finally:
        cluster.on("w1", "mount", SHARED)
    # Nothing else: what has no share is not asked to write there.
    assert [(each["subject"], each["check"], each["state"]) for each in document["not_ok"]] == [
        ("w1", "nfs", "NOT_MOUNTED")
    ]


def test_fix_mends_what_is_safe_and_tells_the_rest(cluster: Cluster) -> None:
    """Seen by the boards' own tools: group, udev rule and node, mount. A full disk is for a person."""
    rule = "/etc/udev/rules.d/65-apex.rules"
    cluster.on("w1", "gpasswd", "--delete", "cluster", "apex")
    cluster.on("w2", "sh", "-ec", f"rm {rule}; chown root:root /dev/apex_0; chmod 600 /dev/apex_0")
    cluster.on("w3", "umount", SHARED)
    cluster.lab.fault("head", "disk")
    try:
        document, messages = cluster.run("health", "--fix", "--json", expect=3)
    finally:
        cluster.lab.restore("head")
    repairing = next(line for line in messages.splitlines() if line.startswith("repairing: clusteradm bootstrap "))
    assert "--limit w1,w2,w3 --tags mount,tpu,user" in repairing
    assert [(each["subject"], each["state"]) for each in ill(json.loads(document))] == [("head", "FULL")]
    assert "apex" in cluster.on("w1", "id", "-Gn", "cluster").split()
    assert cluster.on("w2", "stat", "-c", "%G %a", "/dev/apex_0").strip() == "apex 660"
    assert 'SUBSYSTEM=="apex"' in cluster.on("w2", "cat", rule)
    assert "head:/cluster" in cluster.on("w3", "findmnt", "-no", "SOURCE", SHARED)
