"""The examples of docs/python-api.md are run, on fake hosts; and the facade itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import clusteradm
import clusteradm.api
from clusteradm.errors import InputErrors, UsageError
from clusteradm.health import FOR_JOBS
from clusteradm.lab import digits
from clusteradm.testing import FakeHosts, FakeNode

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SURVEY = json.loads((ROOT / "tests/fixtures/health/survey.json").read_text().replace("host-1:", "head:"))
JOB = "20261126-150000-abcdef"
MODEL = Path(digits.__file__).with_name("digits.tflite")
INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {head: {cluster_ip: 10.0.0.1}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2}, w2: {cluster_ip: 10.0.0.3}}}
"""
PLAYBOOK = """\
- hosts: w1
  gather_facts: false
  tasks:
    - {name: Look, command: "true"}
"""
TENSOR = {"name": "image", "shape": [1, 28, 28, 1], "dtype": "uint8", "scale": 0.5, "zero_point": 3}
MANIFEST = {
    "manifest_version": 1,
    "name": "digits",
    "labels": None,
    "labels_sha256": None,
    "min_runtime": None,
    "compiler": None,
    "cached_bytes": 0,
    "streamed_bytes": 0,
    "description": "",
    "sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest(),
    "bytes": 1,
    "inputs": [TENSOR],
    "outputs": [{**TENSOR, "shape": [1, 10]}],
    "tpu_operations": 1,
    "cpu_operations": {},
}
VERSION = {"name": "digits", "version": 1, "path": "/srv/cluster/models/digits/1", "manifest": MANIFEST}
# What a node says of a batch with one task.
TASK = ({"event": {"n": 1, "kind": "end", "status": "failed", "msg": "no room"}},)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the examples name."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "digits").mkdir()
    for number in range(2):
        (tmp_path / f"digits/{number}.png").write_bytes(b"picture")
    (tmp_path / "site.yml").write_text(PLAYBOOK)
    (tmp_path / "digits_edgetpu.tflite").write_bytes(MODEL.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hosts(folder: Path) -> Iterator[FakeHosts]:
    fake = FakeHosts()
    with fake.installed():
        yield fake
    fake.check()


def verify(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256": {"model.tflite": MANIFEST["sha256"]}}


def probe_of(name: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A probe's answer: what a job asks for as a board of the lab says it, else nothing."""
    return lambda fields: {"document": SURVEY["documents"][name] if list(fields["sections"]) == [*FOR_JOBS] else {}}


def healthy(hosts: FakeHosts) -> None:
    """The head and w1 answer, w2 does not."""
    hosts["head"].answer_always("probe", probe_of("host-1"))
    hosts["w1"].answer_always("probe", probe_of("host-3"))
    hosts["head"].answer_always("cluster-probe", {"document": {}})
    hosts["w2"].unreachable = True


def test_the_examples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = FakeHosts()
    healthy(hosts)
    hosts["head"].answer_always("repository-show", {"models": ["digits"], "versions": [1], **VERSION})
    hosts["head"].answer_always("repository-list", {"versions": [VERSION], "left_out": 0})
    hosts["head"].answer_always("repository-add", {"state": "added", "version": 1, "path": VERSION["path"]})
    hosts["head"].answer_always("repository-verify", verify)
    hosts["w1"].answer_always("repository-verify", {"sha256": {"model.tflite": None}})
    hosts["w1"].answer_always("apply", {"batch": "b", "ok": False}, *TASK)
    runs_jobs(hosts["head"])
    for example in EXAMPLES:
        with hosts.installed():
            exec(compile(example, "docs/python-api.md", "exec"), {})  # noqa: S102 - the page is ours
    hosts.check()
    told = capsys.readouterr().out.splitlines()
    for line in (
        "w2: no answer: see what the host says, by ssh or on its console",
        "['head', 'w1', 'w2']",
        "/srv/cluster/models/digits/1",
        "1 added ['head']",
        "0.png seven",
        "1.png no picture",
        "2.0 images/s on 2 ranks",
        f"{MANIFEST['sha256']} [(1, 28, 28, 1)]",
    ):
        assert line in told, told
    assert any(re.fullmatch(r"1 errors, \d warnings", line) for line in told), told


def runs_jobs(head: FakeNode) -> None:
    """The head runs every job to its end at once: one rank on each TPU, all inputs on the first."""

    def start(fields: Mapping[str, Any]) -> dict[str, Any]:
        spec.update(fields["spec"])
        return {"inputs": 2, "refused": None}

    def follow(fields: Mapping[str, Any]) -> dict[str, Any]:
        places = [(slot["host"], tpu) for slot in spec["slots"] for tpu in slot["tpus"]]
        ranks = [
            {"rank": number, "host": host, "pci_address": tpu, "images": 2 * (number == 1), "busy_seconds": 0.5}
            for number, (host, tpu) in enumerate(places, 1)
        ]
        times = {"started": 0.0, "first_dispatch": 1.0, "last_result": 2.0, "status": 0}
        attempt = {"attempt": 1, "hosts": sorted({host for host, _ in places}), "ranks": ranks, **times}
        status = {"state": "complete", "model": spec["model"], "top": spec["top"], "total": 2, "started": 0.0}
        return {"seen": [1, 2], "status": {**status, "attempts": [attempt], "images": 2, "errors": 1}, "progress": None}

    spec: dict[str, Any] = {}
    lines = [
        {"input": "0.png", "index": 0, "top": [{"class": 7, "label": "seven", "score": 0.9}]},
        {"input": "1.png", "index": 1, "error": "no picture"},
    ]
    results = "".join(json.dumps(line) + "\n" for line in lines).encode()
    head.answer_always("drains", {"drains": {}})
    head.answer_always("job-create", {"job": JOB})
    head.answer_always("job-part", {"taken": True})
    head.answer_always("job-start", start)
    head.answer_always("job-follow", follow)
    head.answer_always("job-fetch", {"size": len(results)}, {"data": base64.b64encode(results).decode()})


def test_infer(hosts: FakeHosts, folder: Path) -> None:
    for name, board in (("head", "host-1"), ("w1", "host-3")):
        hosts[name].answer_always("probe", probe_of(board))
    hosts["w2"].unreachable = True
    runs_jobs(hosts["head"])
    hosts["head"].answer_always("repository-show", {"models": ["digits"], "versions": [1], **VERSION})
    updates: list[str] = []
    with clusteradm.open("inventory.yml") as cluster:
        done = cluster.infer(
            "digits", ["digits"], output="out.jsonl", on_update=lambda update: updates.append(str(update.status))
        )
        assert (done.job, done.results, done.report.images) == (JOB, (), 2)
        assert [(rank.host, rank.images) for rank in done.report.ranks] == [("head", 2), ("w1", 0)]
        assert done.left_out == ("w2 is left out: UNREACHABLE: no answer",)
        assert [json.loads(line)["index"] for line in Path("out.jsonl").read_text().splitlines()] == [0, 1]
        assert len(updates) == 1
        with pytest.raises(UsageError, match=r"cannot write gone/out\.jsonl"):
            cluster.infer("digits", ["digits"], output="gone/out.jsonl", on_update=pytest.fail)
        with pytest.raises(UsageError, match="only 1 are healthy"):
            cluster.infer("digits", ["digits"], limit="w1", ranks=2)


def test_every_method_is_described() -> None:
    public = [name for name in vars(clusteradm.api.Cluster) if not name.startswith("_") and name != "close"]
    assert [name for name in public if f"cluster.{name}(" not in PAGE] == []


def test_health(hosts: FakeHosts) -> None:
    healthy(hosts)
    told: list[str] = []
    with clusteradm.open("inventory.yml") as cluster:
        report = cluster.health(progress=told.append)
        assert [(one.subject, one.state) for one in report.errors] == [("w2", "UNREACHABLE")] and not report.ok
        assert {name for line in told for name in ("head", "w1", "w2") if line == f"{name} answered"} == {
            *cluster.inventory.hosts
        }
        assert {finding.host for finding in cluster.health(limit="w1").findings} == {"w1"}
        assert hosts.opened[0].is_open
    assert len(hosts.opened) == 1


def test_bootstrap(hosts: FakeHosts, folder: Path) -> None:
    events: list[str] = []
    end = {"event": {"n": 1, "kind": "end", "status": "failed", "msg": "no room"}}
    hosts["w1"].answer("apply", {"batch": "b", "ok": False}, end)
    with clusteradm.open(folder / "inventory.yml") as cluster:
        recap = cluster.bootstrap(playbook="site.yml", on_event=lambda event: events.append(type(event).__name__))
        assert recap.failed and recap.hosts["w1"].reason.startswith("no room")
        assert events[0] == "PlayStarted" and "HostLost" in events
        with pytest.raises(UsageError, match='no task has the tag "other"'):
            cluster.bootstrap(playbook="site.yml", tags=["other"])
        (folder / "site.yml").write_text("- hosts: w1\n  taks: []\n")
        with pytest.raises(InputErrors, match="taks"):
            cluster.bootstrap(playbook="site.yml")


def test_what_makes_no_sense_is_refused_before_any_connection(hosts: FakeHosts, folder: Path) -> None:
    with clusteradm.open("inventory.yml") as cluster:
        with pytest.raises(UsageError):
            cluster.deploy_model("site.yml", "m")
        with pytest.raises(UsageError):
            cluster.health(limit="w9")
    (folder / "inventory.yml").write_text("all: {hosts: {w1: {cluster_ip: x}}}\n")
    with pytest.raises(InputErrors):
        clusteradm.open("inventory.yml")
    assert hosts.nodes == {}


def test_import_is_light_and_the_name_is_there() -> None:
    code = "import sys, clusteradm; assert not {'fabric', 'yaml', 'jinja2', 'clusteradm.api'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, clusteradm; clusteradm.open; assert not {'jinja2', 'clusteradm.playbook'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'close'"):
        _ = clusteradm.close  # type: ignore[attr-defined]
