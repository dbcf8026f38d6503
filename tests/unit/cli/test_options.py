"""Every option that a command offers is one that it obeys: each is looked at in a run of the command on fake hosts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from clusteradm import shipped, transport
from clusteradm.cli import health_fix, lab
from clusteradm.cli.commands import COMMANDS, parser
from clusteradm.errors import ClusteradmError, HostUnreachable
from clusteradm.fleet import enrolment
from clusteradm.inventory import Cluster
from clusteradm.lab import digits
from clusteradm.testing import FakeConnections, FakeHosts
from clusteradm.transport import Limits, Outcome

from .test_top import JOB, job

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - {command: "true", tags: [one, balancer]}
"""

MODEL = Path(digits.__file__).with_name("digits.tflite")
FLOATS = MODEL.with_name("digits_float.tflite")
TPU = {
    "address": "0000:01:00.0",
    "device": "apex_0",
    "node": "/dev/apex_0",
    "driver": "apex",
    "status": "ALIVE",
    "temp": "1",
}
RESET = {"outcome": "done", "before": TPU, "after": TPU, "seconds": 1.0, "owner": None, "reason": ""}
TENSOR = {"name": "image", "shape": [1, 2, 2, 1], "dtype": "uint8", "scale": 1.0, "zero_point": 0, "dynamic": False}
MANIFEST = {
    "manifest_version": 1,
    "name": "m",
    "sha256": "0" * 64,
    "bytes": 1,
    "labels": None,
    "labels_sha256": None,
    "inputs": [TENSOR],
    "outputs": [{**TENSOR, "shape": [1, 4]}],
    "tpu_operations": 0,
    "cpu_operations": {},
    "min_runtime": None,
    "compiler": None,
    "cached_bytes": 0,
    "streamed_bytes": 0,
    "description": "",
    "version": 1,
}
SHOWN = {"models": ["m"], "versions": [1], "version": 1, "path": "/m/1", "manifest": MANIFEST}

LISTED = {"versions": [{"name": "m", "version": 1, "path": "/m/1", "manifest": MANIFEST}], "left_out": 0}
GONE = {"removed": [1], "versions": [1]}
LABELLED = {"state": "moved", "version": 1, "before": None, "versions": [1], "labels": {"stable": 1}}

Prepare = Callable[[FakeHosts], None]


class Recording(argparse.Namespace):
    """Arguments that note which of them are read, from `read = set()` on."""

    def __getattribute__(self, name: str) -> Any:
        noted = super().__getattribute__("__dict__").get("read")
        if noted is not None:
            noted.add(name)
        return super().__getattribute__(name)


class RecordingLimits:
    """Time limits that note which of them are read."""

    def __init__(self, limits: Limits, read: set[str]) -> None:
        self._limits = limits
        self._read = read

    def __getattr__(self, name: str) -> float:
        self._read.add(name)
        return float(getattr(self._limits, name))


class Recorder(FakeHosts):
    """Fake hosts whose connections note in `read` what is looked at of forks and limits."""

    def connections(self, cluster: Cluster, known_hosts: Path, **options: Any) -> FakeConnections:
        made = super().connections(cluster, known_hosts, **options)
        made.limits = RecordingLimits(made.limits, self.read)  # type: ignore[assignment]
        return made

    read: set[str]


def playbook_breaks(hosts: FakeHosts) -> None:
    """The line breaks in the middle of the task; the host is back, and the task has failed."""
    end = {"event": {"n": 1, "kind": "end", "status": "failed", "msg": "it was cut off"}}
    hosts["w1"].answer_always("apply", HostUnreachable("connection lost", where="w1"))
    hosts["w1"].answer_always("follow", {"batch": "b", "ok": False}, end)


def answers(name: str, *requests: str, reply: Any = None) -> Prepare:
    def prepare(hosts: FakeHosts) -> None:
        for request in requests:
            hosts[name].answer_always(request, reply if reply is not None else HostUnreachable("gone", where=name))

    return prepare


def measured(hosts: FakeHosts) -> None:
    answers("head", "probe", reply={"document": {}})(hosts)
    answers("head", "job-list", reply={"jobs": [{"job": JOB, "state": "running"}]})(hosts)
    answers("head", "job-show", reply=job(100, 1.0, 2.0))(hosts)


def together(*steps: Prepare) -> Prepare:
    def prepare(hosts: FakeHosts) -> None:
        for step in steps:
            step(hosts)

    return prepare


def stores(hosts: FakeHosts) -> None:
    """The head stores any model, and sees it as it was sent."""
    hosts["head"].answer("repository-add", {"state": "added", "version": 1, "path": "/m/1"})
    hosts["head"].answer("repository-verify", lambda fields: {"sha256": dict.fromkeys(fields["files"], "")})


def infers(hosts: FakeHosts) -> None:
    """A model for CPUs is deployed, w1 is well; the head goes away before it makes the job."""
    hosts["head"].answer("repository-show", SHOWN)
    hosts["head"].answer("drains", {"drains": {}})
    hosts["w1"].answer("probe", {"document": {}})
    hosts["head"].answer("job-create", HostUnreachable("gone", where="head"))


SERVED = {"name": "m", "policy": {"kind": "latest"}, "default": "2"}
SERVING = {"state": {"revision": 1, "models": [SERVED], "drained": ["w1"]}, "ready": True, "stored": True}
FOLLOWED = {"revision": 1, "balance": True, "versions": [{"name": "m", "version": 1, "state": "AVAILABLE"}]}
BOARDS = {name: {"state": {"host": name, **FOLLOWED}} for name in ("head", "w1", "w2")}
SERVES: dict[str, Any] = {
    "serving-show": SERVING,
    "serving-store": SERVING,
    "serving-status": {"boards": BOARDS},
    "serving-log": {"lines": ["a line"]},
    "repository-show": SHOWN,
    "repository-label": LABELLED,
}


def serves(*requests: str) -> Prepare:
    """The head serves model m, and the boards have followed."""

    def prepare(hosts: FakeHosts) -> None:
        for request in requests:
            hosts["head"].answer_always(request, SERVES[request])

    return prepare


CHANGED = ("serving-show", "serving-store", "serving-status")


# Command -> runs of it that look at all its options between them: words, and what the hosts are to answer.
RUNS: dict[str, list[tuple[str, Prepare]]] = {
    "bootstrap": [("--limit w1 --playbook {tmp}/bootstrap.yml", playbook_breaks)],
    "enroll": [("--limit w1 --no-passwords", playbook_breaks)],
    "health": [
        ("--limit w1 --fix --save {tmp}/saved --html {tmp}/page", together(playbook_breaks, answers("w1", "hello"))),
        ("--limit w1 --format nagios", answers("w1", "hello")),
    ],
    "top": [
        (
            "--limit head --once --sort load --only busy --interval 0.1",
            together(measured, serves("serving-show", "serving-status")),
        )
    ],
    "exporter": [
        ("--limit w1 --textfile {tmp}/metrics.prom", answers("w1", "hello")),
        ("--listen 192.0.2.1:1", answers("w1")),
    ],
    "k8s": [
        ("--labels --limit w1 --json --forks 2", answers("w1", "hello")),
        ("--image a:1 --namespace n --server none --resource a.b/c", lambda hosts: None),
    ],
    "deploy-model": [("{model} --name m --limit head --threshold 0.5", stores)],
    "infer": [("--model m --limit w1 --cpu {model} --truth {tmp}/truth.csv", infers)],
    "model list": [("", answers("head", "repository-list", reply={"versions": [], "left_out": 0}))],
    "model label": [("m 1 stable", answers("head", "repository-label", reply=LABELLED))],
    "model unlabel": [("m stable", answers("head", "repository-label", reply=LABELLED))],
    "model rollback": [("m --label stable", answers("head", "repository-rollback", reply=LABELLED))],
    "model remove": [
        ("m:1", answers("head", "repository-list", reply=LISTED)),
        (
            "m:1 --yes",
            together(
                answers("head", "repository-list", reply=LISTED), answers("head", "repository-remove", reply=GONE)
            ),
        ),
    ],
    "model verify": [
        ("m --limit w1", together(answers("head", "repository-list", reply=LISTED), answers("w1", "repository-verify")))
    ],
    "model catalogue": [("--task pose", answers("w1"))],
    "model inspect": [("{model}", answers("w1"))],
    "model convert": [
        ("{floats} --calibration {tmp}/c.npy --truth {tmp}/truth.csv --compile -o {tmp}/m.tflite", answers("w1"))
    ],
    "model split": [
        ("{model} --segments 2 --output {tmp}", answers("w1")),
        (
            "{model} --segments 2 --balance latency --host w1 --output {tmp}",
            answers("w1", "model-times", reply={"milliseconds": [], "refused": "no room"}),
        ),
    ],
    "model compile": [("{floats} -o {tmp}", answers("w1"))],
    "model explain-log": [("{tmp}/c.log", answers("w1"))],
    "model show": [("m", answers("head", "repository-show", reply=SHOWN))],
    "drain": [("w1 --reason x", answers("head", "drains", reply={"drains": {}}))],
    "undrain": [("w1", answers("head", "drains", reply={"drains": {"w1": {"reason": "", "by": "", "since": 0}}}))],
    "tpu reset": [("w1:apex_0", answers("w1", "tpu-reset", reply=RESET))],
    "inventory": [("--list", answers("w1")), ("--host w1", answers("w1")), ("--origin --json", answers("w1"))],
    "template show": [("--host w1 /etc/hosts", answers("w1"))],
    "serve up": [("--check --diff --json", playbook_breaks), ("--tpus 1", playbook_breaks)],
    "serve down": [("--json", playbook_breaks)],
    "serve token": [("c --models m --rate 5", answers("w1"))],
    "serve deploy": [
        (
            "m:1 --label stable --versions 1 --hosts w1 --tpus 1 --timeout 5",
            serves("serving-show", "serving-store", "serving-status", "repository-show", "repository-label"),
        ),
        (
            "m:1 --timeout 5",
            together(
                serves("serving-show", "serving-store", "repository-show"),
                answers("head", "serving-status", reply={"boards": BOARDS}),
            ),
        ),
        ("m --label stable", serves("serving-show")),
    ],
    "serve canary": [("m --version 1 --percent 5", serves(*CHANGED, "repository-show"))],
    "serve label": [("m 1 stable", serves(*CHANGED, "repository-label"))],
    "serve undeploy": [("m", serves(*CHANGED))],
    "serve drain": [("w2", serves(*CHANGED))],
    "serve undrain": [("w1", serves(*CHANGED))],
    "serve status": [("", serves("serving-show", "serving-status")), ("--json --watch", answers("w1"))],
    "serve logs": [("head --lines 5", serves("serving-log")), ("--balancer", serves("serving-log"))],
    "lab up": [("", answers("w1"))],
    "lab status": [("", answers("w1"))],
    "lab ssh": [("w1", answers("w1"))],
    "lab exec": [("w1", answers("w1"))],
    "lab fault": [("w1 power", answers("w1"))],
    "lab down": [("", answers("w1"))],
    "lab compile-model": [("m.tflite", answers("w1"))],
    "help": [("", answers("w1"))],
    "completion": [("fish", answers("w1"))],
    "inventory init": [
        (
            "--head a=192.0.2.1 --compute b=192.0.2.2 --kind pc --cluster c --user u --key k -o {tmp}/new.yml",
            answers("w1"),
        ),
        ("--discover --seconds 0 --scan 127.0.0.2/32 -o {tmp}/found.yml", answers("w1")),
        ("--subnet 10.0.0.0/24 --interface e --tpus 1", answers("w1")),
    ],
    "playbook path": [("bootstrap", answers("w1"))],
}


# Looked at in tests/unit/jobs/test_job_command.py, tests/unit/cli/test_bench.py, test_packages.py, test_ssh.py and
# test_reboot.py, and tests/unit/transport: test_exec.py, test_copying.py and test_discovery.py.
ELSEWHERE = {f"job {verb}" for verb in ("list", "show", "attach", "results", "logs", "cancel", "resume", "remove")}
ELSEWHERE |= {
    "bench",
    "packages list",
    "packages forget",
    "exec",
    "ssh",
    "push",
    "pull",
    "reboot",
    "poweroff",
    "discover",
    "locate",
    "device-plugin",
}


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lab, no SSH; and a playbook of one task instead of the shipped ones."""
    (tmp_path / "truth.csv").write_text("input,label\na,b\n")
    (tmp_path / "c.log").write_text("Edge TPU Compiler version 16.0\nADD 1 Mapped to Edge TPU\n")
    np.save(tmp_path / "c.npy", np.random.default_rng(0).random((2, 28, 28, 1), np.float32))
    for name in ("bootstrap.yml", "passwords.yml", "serving.yml", "serving_down.yml", "slurm.yml"):
        (tmp_path / name).write_text(PLAYBOOK.replace("all", "w1") if name.startswith("serv") else PLAYBOOK)
    monkeypatch.setattr(shipped, "PLAYBOOKS", tmp_path)
    monkeypatch.setattr(
        enrolment, "enrol", lambda connections, hosts, ask: Outcome(ok={h.name: enrolment.ADMIN_KEY for h in hosts})
    )
    monkeypatch.setattr(health_fix, "fixes", lambda findings: {"w1": {"one"}})
    monkeypatch.setattr(lab, "Lab", mock.MagicMock())
    monkeypatch.setattr(lab, "_become", lambda argv: 0)


def verbs() -> list[str]:
    names = []
    for name in COMMANDS:
        children = parser([name]).child(name).children
        names += [f"{name} {verb}" for verb in children]
        # `inventory` alone shows, and has a verb besides.
        names += [name] if not children or name == "inventory" else []
    return names


def test_every_command_is_looked_at() -> None:
    assert set(verbs()) == set(RUNS) | ELSEWHERE


@pytest.mark.parametrize("name", RUNS)
def test_options_are_obeyed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = name.split()
    command = parser(words)
    for word in words:
        command = command.child(word)
    offered = {action.dest for action in command._actions} - {"help", "verb"}
    read: set[str] = set()
    for text, prepare in RUNS[name]:
        hosts = Recorder()
        hosts.read = set()
        prepare(hosts)
        typed = [*words, *text.format(tmp=tmp_path, model=MODEL, floats=FLOATS).split()]
        args = parser(typed).parse_args(typed, Recording())
        args.typed, args.read = typed, set()
        with monkeypatch.context() as patch, suppress(ClusteradmError):
            patch.setattr(transport, "Connections", hosts.connections)
            args.run(args)
        read |= {each for each in args.read if not each.endswith("_timeout")} | hosts.read
        hosts.check()
    # Every connection is made within limits.connect (transport/routes.py).
    timeouts = {"away_timeout": "away", "task_timeout": "silent"}
    assert {dest for dest in offered - {"connect_timeout"} if timeouts.get(dest, dest) not in read} == set()
