"""The verbs of `clusteradm serve` on fake hosts: what they ask the head, how often, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm import shipped
from clusteradm.cli import serve_playbook
from clusteradm.errors import HostUnreachable
from clusteradm.serving import state, tpus
from clusteradm.testing import FakeHosts

from .conftest import Run, document
from .test_options import SHOWN

PLAYBOOK = "- hosts: w1\n  gather_facts: false\n  tasks:\n    - {command: 'true', tags: balancer}\n"
SERVED = {"name": "m", "policy": {"kind": "latest"}}
FOLLOWED = {"revision": 1, "balance": True, "versions": [{"name": "m", "version": 1, "state": "AVAILABLE"}]}
BOARDS = {name: {"state": {"host": name, **FOLLOWED}} for name in ("head", "w1", "w2")}


def desired(**more: Any) -> dict[str, Any]:
    return {"state": {"revision": 1, "models": [SERVED], **more}, "ready": True, "stored": True}


@pytest.fixture
def playbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("serving.yml", "serving_down.yml"):
        (tmp_path / name).write_text(PLAYBOOK)
    monkeypatch.setattr(shipped, "PLAYBOOKS", tmp_path)


def asked(hosts: FakeHosts, name: str = "head") -> list[str]:
    return [each.do for each in hosts[name].requests]


def test_a_deploy_whose_balancer_fails_writes_a_document_too(hosts: FakeHosts, run: Run, playbooks: None) -> None:
    hosts["head"].answer("serving-show", desired())
    hosts["head"].answer("repository-show", SHOWN)
    hosts["head"].answer("serving-status", {"boards": BOARDS, "buffer": 5})
    hosts["w1"].answer_always("apply", HostUnreachable("connection lost", where="w1"))
    end = {"event": {"n": 1, "kind": "end", "status": "failed", "msg": "no such buffer"}}
    hosts["w1"].answer_always("follow", {"batch": "b", "ok": False}, end)
    found = document(run("serve", "deploy", "m", "--json", status=3))
    assert (found["revision"], found["followed"]) == (None, False)
    assert found["hosts"]["w1"]["failed"] == 1


def test_status_asks_for_the_state_once(hosts: FakeHosts, run: Run) -> None:
    hosts["head"].answer("serving-show", desired())
    hosts["head"].answer("serving-status", {"boards": BOARDS})
    found = document(run("serve", "status", "--json"))
    assert found["desired"]["models"][0]["name"] == "m"
    assert asked(hosts) == ["serving-show", "serving-status"]
    run("serve", "status", "--json", "--watch", status=2)


@pytest.mark.parametrize("revision", [0, 1])
def test_up_asks_for_the_drains_once_when_there_is_a_state(
    hosts: FakeHosts, run: Run, monkeypatch: pytest.MonkeyPatch, revision: int
) -> None:
    monkeypatch.setattr(serve_playbook, "run_playbook", lambda *words, **options: 0)
    hosts["head"].answer_always("serving-show", desired(revision=revision))
    hosts["head"].answer_always("drains", {"drains": {}})
    hosts["head"].answer_always("serving-status", {"boards": BOARDS})
    if not revision:
        hosts["head"].answer("serving-store", desired())
    run("serve", "up")
    assert asked(hosts).count("drains") == 1
    if not revision:
        assert asked(hosts).index("serving-store") < asked(hosts).index("drains")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--hosts", "w1"], {"hosts": ["w1"], "tpus": [], "each": None}),
        (["--tpus", "2"], {"hosts": [], "tpus": [], "each": 2}),
        (["--tpus", "apex_0"], {"hosts": [], "tpus": ["w1:0000:01:00.0"], "each": None}),
        (["--hosts", "w1", "--tpus", "all"], {"hosts": ["w1"], "tpus": [], "each": None}),
        ([], {"hosts": ["w2"], "tpus": [], "each": None}),
    ],
)
def test_where_a_model_is_to_be(
    hosts: FakeHosts, run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], where: dict[str, Any]
) -> None:
    there = {"w1": {"apex_0": "0000:01:00.0"}, "w2": {}}
    monkeypatch.setattr(tpus, "_there", lambda connections, hosts: there)
    monkeypatch.setattr(state, "_LOOK_SECONDS", 0.0)
    hosts["head"].answer_always("serving-show", desired(models=[{**SERVED, "hosts": ["w2"]}]))
    hosts["head"].answer("repository-show", SHOWN)
    hosts["head"].answer_always("serving-status", {"boards": BOARDS})
    hosts["head"].answer("serving-store", lambda fields: {"state": fields["state"], "ready": True, "stored": True})
    run("serve", "deploy", "m", *words)
    (stored,) = (each.fields["state"]["models"] for each in hosts["head"].requests if each.do == "serving-store")
    assert {name: stored[0][name] for name in where} == where


def test_a_tpu_that_jobs_have_is_no_models(hosts: FakeHosts, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpus, "_there", lambda connections, hosts: {"w1": {"apex_0": "0000:01:00.0"}})
    hosts["head"].answer("serving-show", desired(boards=[{"host": "w1", "tpus": []}]))
    hosts["head"].answer("repository-show", SHOWN)
    run("serve", "deploy", "m", "--tpus", "w1:apex_0", status=2)


def test_status_says_on_which_tpus_a_model_is_and_what_swaps_cost(hosts: FakeHosts, run: Run) -> None:
    engine = {"pci_address": "0000:01:00.0", "state": "ready", "megahertz": 250, "swaps": 20, "swap_seconds": 0.05}
    version = {"name": "m", "version": 1, "state": "AVAILABLE", "tpus": ["0000:01:00.0"]}
    said = {"state": {"host": "w1", **FOLLOWED, "versions": [version], "engines": [engine]}}
    hosts["head"].answer("serving-show", desired(placement=[{"name": "m", "tpus": ["w1:0000:01:00.0"]}]))
    hosts["head"].answer("serving-status", {"boards": {**BOARDS, "w1": said}})
    shown = " ".join(run("serve", "status").split())
    assert "1 of 1 1: w1:0000:01:00.0" in shown
    assert "250 MHz 20 swaps of 2.5 ms" in shown
