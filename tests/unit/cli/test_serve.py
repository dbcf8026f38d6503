"""The verbs of `clusteradm serve` on fake hosts: what they ask the head, how often, and what they say."""

from __future__ import annotations

from typing import Any

import pytest

from clusteradm.cli import serve_change, serve_playbook
from clusteradm.cli.main import main
from clusteradm.serving import state, tpus
from clusteradm.testing import FakeHosts

from .conftest import Run, document
from .test_options import SHOWN

SERVED = {"name": "m", "policy": {"kind": "latest"}}
FOLLOWED = {"revision": 1, "balance": True, "versions": [{"name": "m", "version": 1, "state": "AVAILABLE"}]}
BOARDS = {name: {"state": {"host": name, **FOLLOWED}} for name in ("head", "w1", "w2")}


def desired(**more: Any) -> dict[str, Any]:
    return {"state": {"revision": 1, "models": [SERVED], **more}, "ready": True, "stored": True}


def asked(hosts: FakeHosts, name: str = "head") -> list[str]:
    return [each.do for each in hosts[name].requests]


def test_a_deploy_that_haproxy_does_not_follow_says_so_in_its_document(hosts: FakeHosts, run: Run) -> None:
    hosts["head"].answer_always("serving-show", desired())
    hosts["head"].answer("repository-show", SHOWN)
    hosts["head"].answer("serving-store", {**desired(), "balancer": "HAProxy does not divide the requests"})
    hosts["head"].answer("serving-status", {"boards": BOARDS})
    found = document(run("serve", "deploy", "m", "--json", status=3))
    assert found["balancer"] == "HAProxy does not divide the requests" and found["followed"]


def test_status_asks_for_the_state_once(hosts: FakeHosts, run: Run) -> None:
    hosts["head"].answer("serving-show", desired())
    hosts["head"].answer("serving-status", {"boards": BOARDS})
    found = document(run("serve", "status", "--json"))
    assert found["desired"]["models"][0]["name"] == "m"
    # The state last: it is no older than what a board has followed.
    assert asked(hosts) == ["serving-status", "serving-show"]
    run("serve", "status", "--json", "--watch", status=2)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("deploy", "m"), "the change is stored, and the boards go on by themselves: clusteradm serve status"),
        (("undeploy", "m"), "the change is stored"),
        (("canary", "m", "--version", "1", "--percent", "5"), "version 1 gets no requests yet; run the command again"),
    ],
)
def test_ctrl_c_says_what_has_become_of_the_change(
    hosts: FakeHosts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    text: str,
) -> None:
    def interrupt(*words: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve_change, "follow", interrupt)
    hosts["head"].answer_always("serving-show", desired())
    if words[0] != "undeploy":
        hosts["head"].answer("repository-show", {**SHOWN, "versions": [1, 2]})
    hosts["head"].answer("serving-store", desired())
    assert main(["serve", *words]) == 130
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("left", [(), ("w1",), ("head", "w1", "w2")])
def test_up_says_what_is_served(
    hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], left: tuple[str, ...]
) -> None:
    monkeypatch.setattr(serve_playbook, "run_playbook", lambda *words, **options: 0)
    boards = [{"host": host, "tpus": []} for host in left]
    hosts["head"].answer_always("serving-show", desired(boards=boards))
    hosts["head"].answer_always("drains", {"drains": {}})
    hosts["head"].answer_always("serving-status", {"boards": BOARDS})
    assert main(["serve", "up"]) == 0
    said = capsys.readouterr().err
    assert ("serves m" in said) == (len(left) < 3)
    assert ("serves nothing: all TPUs are left to jobs" in said and "serve up --tpus all" in said) == (len(left) == 3)


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
