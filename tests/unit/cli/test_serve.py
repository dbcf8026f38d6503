"""The verbs of `clusteradm serve` on fake hosts: what they ask the head, how often, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm import shipped
from clusteradm.cli import serve_playbook
from clusteradm.errors import HostUnreachable
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
