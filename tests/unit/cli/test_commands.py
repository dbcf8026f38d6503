"""drain, undrain, tpu reset, deploy-model and health on fake hosts: output, documents, exit statuses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import servable_definitions as definitions

from clusteradm.cli.main import main
from clusteradm.errors import HostUnreachable
from clusteradm.lab import digits
from clusteradm.testing import FakeHosts

from .conftest import INVENTORY, Run, document

MODEL = Path(digits.__file__).with_name("digits.tflite")


def test_drain_and_undrain(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    drained: dict[str, Any] = {}

    def drains(fields: Mapping[str, Any]) -> dict[str, Any]:
        drained.update({name: {**about, "since": 1764000000} for name, about in fields.get("drain", {}).items()})
        for name in fields.get("undrain", ()):
            del drained[name]
        return {"drains": dict(drained)}

    hosts["head"].answer_always("drains", drains)
    table = [line.split() for line in run("drain", "w1", "--reason", "new power supply").splitlines()]
    assert table[0] == ["drained", "since", "by", "reason"]
    assert (table[1][0], table[1][-3:]) == ("w1", ["new", "power", "supply"])
    (one,) = document(run("drain", "--json"))["drains"]
    assert (one["subject"], one["host"], one["reason"]) == ("w1", "w1", "new power supply")
    assert main(["undrain", "w1"]) == 0
    assert capsys.readouterr().err.splitlines()[1:] == ["nothing is drained"]
    assert drained == {} and hosts["head"].requests[-1].fields["undrain"] == ["w1"]
    assert main(["drain", "w1:"]) == 2 and "names no TPU" in capsys.readouterr().err
    assert main(["drain", "w9"]) == 2
    assert capsys.readouterr().err.splitlines()[1].startswith("clusteradm drain: error: no such host")


def test_what_somebody_elses_slurm_keeps_drained(
    hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is never changed by clusteradm (node/slurm/nodes.py)."""
    by = {"reason": "a fan", "by": "Slurm (root)", "since": 1764000000}
    hosts["head"].answer_always("drains", {"drains": {"w1": by, "w2": by}})
    assert main(["undrain", "w1", "--json"]) == 3
    said = capsys.readouterr()
    assert [one["subject"] for one in document(said.out)["drains"]] == ["w1", "w2"]
    assert "w1 is still drained, by Slurm (root)" in said.err and "w2 is" not in said.err
    assert "scontrol update NodeName=w1 State=RESUME" in said.err


def test_tpu_reset(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    tpu = {"address": "0000:01:00.0", "device": "apex_0", "node": "/dev/apex_0", "driver": "apex", "status": "ALIVE"}
    before, after = {**tpu, "temp": "40000"}, {**tpu, "device": "apex_1", "temp": None}
    reply = {
        "outcome": "done",
        "before": before,
        "after": after,
        "seconds": 2.5,
        "owner": None,
        "reason": "",
        "tpus": [],
    }
    hosts["w1"].answer_always("tpu-reset", reply)
    lines = [line.split() for line in run("tpu", "reset", "w1:apex_0").splitlines()]
    assert ["device", "apex_0", "apex_1"] in lines and ["temp", "40.0", "°C", "-"] in lines
    assert document(run("tpu", "reset", "w1:apex_0", "--json"))["seconds"] == 2.5
    assert {"tpu": "apex_0", "user": "cluster"}.items() <= hosts["w1"].requests[0].fields.items()
    assert main(["tpu", "reset", "w1"]) == 2
    assert capsys.readouterr().err.splitlines()[1] == "clusteradm tpu reset: error: which Edge TPU of w1?"


def sees(fields: Mapping[str, Any]) -> dict[str, Any]:
    assert fields["path"] == "/srv/cluster/models/m/3"
    return {"sha256": {"model.tflite": hashlib.sha256(MODEL.read_bytes()).hexdigest()}, "tried": True}


def test_deploy_model_of_another_servable(
    hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "words.csv").write_bytes(definitions.WORDS_CSV)
    path = tmp_path / "words.yml"
    path.write_text(definitions.WORDS)
    hosts["head"].answer("repository-add", {"state": "added", "version": 3, "path": "/srv/cluster/models/m/3"})
    digests = {"words.csv": hashlib.sha256(definitions.WORDS_CSV).hexdigest()}
    hosts["w1"].answer("repository-verify", {"sha256": digests})
    assert run("deploy-model", path, "--name", "m", "--limit", "w1").splitlines() == [
        f"{path}: lookup, 1 file of 24 bytes, input word BYTES [-1], output number INT64 [-1]",
        "m version 3: added (/srv/cluster/models/m/3)",
        "sha256 verified from 1 host: w1",
    ]
    assert main(["deploy-model", str(path), "--name", "m", "--task", "classifier"]) == 2
    assert "--task is about models" in capsys.readouterr().err
    assert main(["deploy-model", str(path)]) == 2
    assert "a file is deployed under a name" in capsys.readouterr().err
    # An ensemble is compared with what the head has.
    path.write_text(definitions.LOOK.replace("COLOURS", "x"))
    missing = {"models": ["digits"], "versions": [], "version": None, "path": "", "manifest": None}
    hosts["head"].answer("repository-show", missing)
    assert main(["deploy-model", str(path), "--name", "m", "--limit", "w1"]) == 2
    assert "step found: there is no model colours on head; deployed are: digits" in capsys.readouterr().err


def test_deploy_model(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    stored = {"state": "added", "version": 3, "path": "/srv/cluster/models/m/3"}
    hosts["head"].answer("repository-add", stored)
    for name in ("head", "w1", "w2"):
        hosts[name].answer("repository-verify", sees)
    lines = run("deploy-model", MODEL, "--name", "m").splitlines()
    assert lines[1:] == [
        "task: classifier: one row of 10 scores from 0 to 1",
        "m version 3: added (/srv/cluster/models/m/3)",
        "sha256 verified from 3 hosts: head, w1, w2",
        "loaded for trial, without a TPU, on 3 hosts",
    ]
    # Where the head has these files already, they are not sent.
    assert hosts["head"].blobs == {}
    hosts["head"].answer("repository-add", {"state": "lacking", "version": 3, "path": ""})
    hosts["head"].answer("repository-add", stored)
    hosts["head"].answer("repository-verify", {**sees({"path": stored["path"]}), "tried": False})
    found = document(run("deploy-model", MODEL, "--name", "m", "--limit", "head", "--json"))
    assert (found["verified"], found["loaded"]) == (["head"], [])
    assert hosts["head"].blobs == {hashlib.sha256(MODEL.read_bytes()).hexdigest(): MODEL.read_bytes()}

    hosts["head"].answer("repository-add", {**stored, "state": "unchanged"})
    hosts["w1"].answer("repository-verify", {"sha256": {"model.tflite": "0" * 64}})
    found = document(run("deploy-model", MODEL, "--name", "m", "--limit", "w1", "--json", status=3))
    assert (found["state"], found["verified"], list(found["failed"])) == ("unchanged", [], ["w1"])
    assert found["warnings"][0].startswith("nothing in it runs on the Edge TPU")

    hosts["head"].answer("repository-add", stored)
    hosts["w1"].answer("repository-verify", HostUnreachable("gone", where="w1"))
    assert main(["deploy-model", str(MODEL), "--name", "m", "--limit", "w1"]) == 4
    assert "not verified: w1: gone" in capsys.readouterr().err

    # What the hosts' runtimes say of it, before a job does.
    def cannot(fields: Mapping[str, Any]) -> dict[str, Any]:
        assert fields["load"] == "cpu"
        return {**sees(fields), "refused": "no opcode 'X' version '9'"}

    for refusing, status, said in (
        (("w1",), 0, "warning: w1 cannot load it: no opcode 'X' version '9'"),
        (("w1", "w2"), 3, "warning: no host can load it: no opcode 'X' version '9'"),
    ):
        hosts["head"].answer("repository-add", stored)
        for name in ("w1", "w2"):
            hosts[name].answer("repository-verify", cannot if name in refusing else sees)
        assert main(["deploy-model", str(MODEL), "--name", "m", "--limit", "w1,w2"]) == status
        assert said in capsys.readouterr().err

    hosts["head"].answer("repository-add", {**stored, "state": "taken"})
    assert main(["deploy-model", str(MODEL), "--name", "m", "--version", "3"]) == 2
    assert "version 3 of m is there with other content" in capsys.readouterr().err


def test_health_of_hosts_that_do_not_answer(hosts: FakeHosts, run: Run) -> None:
    for name in ("head", "w1", "w2"):
        hosts[name].unreachable = True
    found = document(run("health", "--json", status=4))
    assert [(one["subject"], one["state"]) for one in found["findings"] if one["severity"] == "error"] == [
        ("head", "UNREACHABLE"),
        ("w1", "UNREACHABLE"),
        ("w2", "UNREACHABLE"),
    ]


@pytest.mark.parametrize(
    "words", ["--limit w1", "--ranks 2", "--cpu", "--top 5", "--top 0", "--version 1", "--version latest", "--model m"]
)
def test_a_job_is_followed_as_it_was_started(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main(["infer", "--attach", "20261123-170102-3fa9c2", *words.split()]) == 2
    error = capsys.readouterr().err
    assert f"--attach follows a job as it was started: without {words.split()[0]}\n" in error


def test_the_machine_itself_is_not_rebooted(
    hosts: FakeHosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = INVENTORY.replace("cluster_ip: 10.0.0.1", "cluster_ip: 10.0.0.1, ansible_connection: local")
    (tmp_path / "local.yml").write_text(text)
    (tmp_path / "site.yml").write_text("- {hosts: head, gather_facts: false, tasks: [{name: Boot, reboot: }]}\n")
    assert main(["bootstrap", str(tmp_path / "local.yml"), "--playbook", str(tmp_path / "site.yml")]) == 3
    out = capsys.readouterr().out
    assert 'head stopped at "Boot": head is this machine: reboot it by hand' in out
    assert hosts["head"].requests == []


def test_one_machine_is_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = INVENTORY.replace("cluster_ip: 10.0.0.", "ansible_connection: local, cluster_ip: 10.0.0.")
    (tmp_path / "local.yml").write_text(text)
    assert main(["bootstrap", str(tmp_path / "local.yml")]) == 2
    assert "w1 and head are both this machine: one host has ansible_connection: local" in capsys.readouterr().err
