"""A document for a bug report: nothing that tells whose it is, and the judge finds in it what it found before."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusteradm import health
from clusteradm.cli.main import main
from clusteradm.health import Survey, saved
from clusteradm.health.anonymous import anonymous
from clusteradm.health.tpu import state as tpu
from clusteradm.inventory import Cluster, load

from .test_survey import document

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.20.30.0/24, cluster_interface: eth0, cluster_user: alice, cluster_name: acme-lab,
         ansible_user: bob}
  children:
    head: {hosts: {atlas: {cluster_ip: 10.20.30.1, ansible_host: atlas.acme.example, cluster_tpus: 1}}}
    compute:
      hosts:
        zeus-1: {cluster_ip: 10.20.30.17, ansible_host: 172.16.9.4, cluster_tpus: 1}
        zeus-2: {cluster_ip: 10.20.30.18}
    cellar: {hosts: {zeus-2: {}}}
"""
PROBES = sorted((Path(__file__).resolve().parents[2] / "fixtures/probes").glob("*.json"))
SERIAL = "00c0ffee12345678deadbeef00c0ffee"
PRIVATE = ["10.20.30", "172.16.9.4", "192.168.44.7", "fd12:3456", "atlas", "zeus", "acme", "alice", "bob", "carol"]
PRIVATE += ["cellar", "hunter2", "s3cr3t", "aa:bb:cc:dd:ee", "aabbccddee01", "AAAAC3Nz", "deadbeef", "5f2c1e3a-0000"]
PRIVATE += ["dave", "mZ1kYl0r4nd0m", "0b5e55ed"]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    return load(tmp_path / "inventory.yml")


@pytest.fixture
def survey() -> Survey:
    nfs = {"source": "atlas:/cluster", "type": "nfs4", "options": "rw"}
    hosts = {"atlas": document("atlas", "10.20.30.1", None), "zeus-1": document("zeus-1", "10.20.30.17", nfs)}
    for each in hosts.values():
        each["network"]["resolved"] = {"atlas": ["10.20.30.1"], "zeus-1": ["127.0.1.1"], "zeus-2": ["10.20.30.18"]}
        each["system"].update(
            machine_id="0b5e55ed0b5e55ed0b5e55ed0b5e55ed", kernel="4.14.98-imx (carol@build.acme.example)"
        )
    host = hosts["zeus-1"]
    host["host"] = "zeus-1.acme.example"
    host["network"]["interfaces"]["eth0"].update(
        mac="aa:bb:cc:dd:ee:01", addresses=["192.168.44.7/24", "fd12:3456::9/64"]
    )
    host["network"]["interfaces"]["enxaabbccddee01"] = {"state": "up", "mac": "AA:BB:CC:DD:EE:01", "addresses": []}
    host["system"]["failed_units"] = ["getty@tty1.service", "backup-carol.service"]
    owner = {"pid": 812, "user": "carol", "command": "/home/carol/bin/train --password hunter2 --host zeus-2"}
    host["tpu"]["apex"] = [{"name": "apex_0", "pci_address": "0000:01:00.0", "unique_id": SERIAL, "owner": owner}]
    host["tpu"]["group"] = {"gid": "110", "members": ["dave", "cluster"]}
    host["tpu"]["log"] = [
        f"apex 0000:01:00.0: chip {SERIAL} up, disk 5f2c1e3a-0000-4000-8000-0123456789ab, PASSWORD=hunter2",
        "mount https://carol:s3cr3t@files.acme.example/x token: s3cr3t ssh-ed25519 AAAAC3NzaC1lZDI1 carol@zeus-1",
        "key SHA256:mZ1kYl0r4nd0m of 10.20.30.18 changed",
    ]
    together = {
        "login": {"atlas": {"ok": True}, "zeus-1": {"ok": True}},
        "hello": {"said": ["atlas"], "wrote": ["atlas"]},
    }
    errors = {"zeus-2": ("UNREACHABLE", "no answer from 10.20.30.18 within 15 s", "ssh bob@zeus-2")}
    return Survey(hosts, together, errors, "", 1764000000.0, 3.0)


def shape(cluster: Cluster, survey: Survey) -> list[tuple[str, str, str]]:
    """What was found, but for names: host by its place."""
    findings = health.judge(cluster, survey)
    places = list(dict.fromkeys(each.host for each in findings))
    return [
        (f"{places.index(each.host)} {each.subject.partition(' ')[2]}", each.check, each.state) for each in findings
    ]


def test_nothing_tells_whose_it_is(cluster: Cluster, survey: Survey) -> None:
    text = json.dumps(anonymous(cluster, saved.document(cluster, survey)))
    assert [word for word in PRIVATE if word.lower() in text.lower()] == []


def test_the_same_is_the_same_everywhere(cluster: Cluster, survey: Survey) -> None:
    body = anonymous(cluster, saved.document(cluster, survey))
    assert list(body["documents"]) == ["host-1", "host-2"] and list(body["errors"]) == ["host-3"]
    host = body["documents"]["host-2"]
    assert host["host"] == "host-2" and host["share"]["mount"]["source"] == "host-1:/cluster"
    # The cluster's network keeps its places, others are those of examples; a loopback says what is wrong.
    assert host["network"]["resolved"] == {"host-1": ["192.0.2.1"], "host-2": ["127.0.1.1"], "host-3": ["192.0.2.18"]}
    assert body["inventory"]["hosts"]["host-2"]["vars"]["cluster_ip"] == "192.0.2.17"
    assert body["inventory"]["hosts"]["host-2"]["vars"]["cluster_subnet"] == "192.0.2.0/24"
    assert body["inventory"]["hosts"]["host-3"]["groups"] == ["group-1", "compute"]
    eth0, usb = host["network"]["interfaces"]["eth0"], host["network"]["interfaces"]["enx020000000001"]
    assert eth0["mac"] == usb["mac"] == "02:00:00:00:00:01" and eth0["addresses"] == [
        "203.0.113.1/24",
        "2001:db8::1/64",
    ]
    (device,) = host["tpu"]["apex"]
    assert device["unique_id"] in host["tpu"]["log"][0] and device["pci_address"] == "0000:01:00.0"
    assert device["owner"] == {"pid": 812, "user": device["owner"]["user"], "command": "train"}
    assert re.fullmatch(r"user-\d", device["owner"]["user"])
    assert host["system"]["failed_units"] == ["getty@tty1.service", f"backup-{device['owner']['user']}.service"]


def test_the_judge_finds_the_same(cluster: Cluster, survey: Survey, tmp_path: Path) -> None:
    survey.documents["zeus-1"]["tpu"]["apex"] = []
    saved.write(tmp_path / "bug.json", anonymous(cluster, saved.document(cluster, survey)))
    again, inventory = saved.read(tmp_path / "bug.json")
    assert inventory is not None
    assert shape(inventory, again) == shape(cluster, survey)
    assert ("1 ", "network", "NO_ADDRESS") in shape(inventory, again)


@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_every_illness_of_a_tpu_stays_what_it_is(cluster: Cluster, survey: Survey, path: Path) -> None:
    """The saved probes of tests/fixtures/probes: state, cause and remedy, but for names."""
    fixture = json.loads(path.read_text(encoding="utf-8"))
    about, declared = fixture["document"], fixture["expected"]["cluster_tpus"]
    body = anonymous(cluster, saved.document(cluster, Survey({"zeus-1": {**survey.documents["zeus-1"], **about}})))
    findings = [list(tpu.judge("h", declared, each)) for each in (about, body["documents"]["host-2"])]
    was, now = ([(each.subject, each.state, each.severity, each.source) for each in found] for found in findings)
    assert was == now
    assert [each.remedy for each in findings[0]] == [each.remedy for each in findings[1]]


@pytest.mark.parametrize("subnet", ["10.20.30.0/26", "10.20.0.0/16", "172.16.0.0/12", "10.0.0.0/8"])
def test_a_network_of_any_size(tmp_path: Path, survey: Survey, subnet: str) -> None:
    text = INVENTORY.replace("10.20.30.0/24", subnet)
    if subnet.startswith("172"):
        text = text.replace("10.20.30.", "172.20.30.")
    (tmp_path / "inventory.yml").write_text(text)
    cluster = load(tmp_path / "inventory.yml")
    saved.write(tmp_path / "bug.json", anonymous(cluster, saved.document(cluster, survey)))
    again, inventory = saved.read(tmp_path / "bug.json")
    assert inventory is not None and [each.state for each in health.judge(inventory, again)]


def test_hosts_called_like_the_words_of_a_document(survey: Survey, tmp_path: Path) -> None:
    text = INVENTORY.replace("atlas.acme.example", "tpu").replace("atlas", "system").replace("zeus-1", "host")
    (tmp_path / "inventory.yml").write_text(text)
    cluster = load(tmp_path / "inventory.yml")
    survey.documents = {"system": survey.documents["atlas"], "host": survey.documents["zeus-1"]}
    saved.write(tmp_path / "bug.json", anonymous(cluster, saved.document(cluster, survey)))
    assert set(saved.read(tmp_path / "bug.json")[0].documents) == {"host-1", "host-2"}


def test_on_the_command_line(
    cluster: Cluster, survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey.documents["zeus-1"]["tpu"]["apex"] = []
    saved.write(tmp_path / "own.json", saved.document(cluster, survey))
    bug = tmp_path / "bug.json"
    assert main(["health", "--from", str(tmp_path / "own.json"), "--save", str(bug), "--anonymous"]) == 4
    assert main(["health", "--from", str(bug), "--limit", "host-2"]) == 3
    assert "host-2" in capsys.readouterr().out and "zeus" not in bug.read_text()
    assert main(["health", "--from", str(bug), "--anonymous"]) == 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["zeus-1", "at zeus-2:", "zeus-1.acme.example"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("zeus-1"), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(value=JSON, section=st.sampled_from(["host", "tpu", "network", "system"]))
def test_no_document_is_too_odd(tmp_path_factory: pytest.TempPathFactory, value: Any, section: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "inventory.yml").write_text(INVENTORY)
    cluster = load(folder / "inventory.yml")
    odd = Survey({"zeus-1": {**copy.deepcopy(document("zeus-1", "10.20.30.17", None)), section: value}})
    assert "zeus" not in json.dumps(anonymous(cluster, saved.document(cluster, odd)))
