"""Every command, on fake hosts that say a hostile text wherever they can. A program: hostile.py FOLDER TEXT.

TEXT is JSON. The exit statuses of the commands are of no interest: a host may be refused for what it says.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from clusteradm import inventory
from clusteradm.cli import show
from clusteradm.cli.display import Display
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.table import table
from clusteradm.cli.job_view import print_report, transfer, watch
from clusteradm.cli.main import main
from clusteradm.cli.playbook_view import View
from clusteradm.errors import HostFailed
from clusteradm.health import Finding, Severity, Survey, saved
from clusteradm.jobs import JobReport, Update
from clusteradm.jobs.report import Rank
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Progress, RankProgress, Status
from clusteradm.playbook import (
    HostLost,
    HostRecap,
    HostWaiting,
    PlayStarted,
    Recap,
    TaskFinished,
    TaskOutput,
    TaskStarted,
)
from clusteradm.testing import FakeHosts

JOB = "20261123-170102-3fa9c2"
MODEL = {"name": "m", "version": 1, "path": "/m", "sha256": "0" * 64, "input": {"dtype": "uint8", "shape": [1]}}


def hosts(text: str) -> FakeHosts:
    fake = FakeHosts()
    tensor = {"name": text, "shape": [1], "dtype": text, "scale": 1.0, "zero_point": 0, "dynamic": False}
    manifest = {
        "manifest_version": 1,
        "compiler": text,
        "cached_bytes": 0,
        "streamed_bytes": 0,
        "name": text,
        "version": 1,
        "sha256": text,
        "bytes": 1,
        "labels": 1,
        "labels_sha256": None,
        "inputs": [tensor],
        "outputs": [tensor],
        "tpu_operations": 1,
        "cpu_operations": {text: 1},
        "min_runtime": 14,
        "description": text,
    }
    stored = {"name": "m", "version": 1, "path": text, "manifest": manifest}
    summary = {"job": JOB, "state": "failed", "model": text, "version": 1, "error": text}
    card = {"address": text, "driver": text, "device": text, "node": text, "status": text, "temp": text}
    rank = {"rank": 1, "host": text, "pci_address": text, "error": text, "tpu": text, "version": text}
    attempt = {"attempt": 1, "started": 0.0, "hosts": [text], "ranks": [rank], "status": 1}
    spec = {"job": JOB, "model": MODEL, "head": text, "slots": [{"host": text, "tpus": [text]}], "ranks": None}
    details = {
        "spec": {**spec, "top": 5, "python": text, "inputs": 1, "folder": text},
        "status": {"state": "failed", "error": text, "attempts": [attempt]},
        "progress": None,
        "bytes": 1,
    }
    found = {"models": [], "versions": [], "version": 1, "path": text, "manifest": manifest}
    answers: dict[str, Any] = {
        "drains": {
            "drains": {text: {"reason": text, "by": text, "since": 0}, "w1": {"reason": text, "by": text, "since": 0}}
        },
        "tpu-reset": {"outcome": "done", "before": card, "after": card, "seconds": 1.0},
        "repository-list": {"versions": [{**stored, "sums": {text: text}}], "left_out": 0, "damaged": [text]},
        "repository-show": {**found, "labels": {text: 1, "a": 2}},
        "repository-label": {"state": "refused", "labels": {text: 1}, "versions": [1], "reason": text},
        "repository-rollback": {"state": "refused", "labels": {text: 1}, "versions": [1], "reason": text},
        "repository-remove": {"versions": [2]},
        "repository-verify": {"sha256": {text: text}},
        "job-list": {"jobs": [summary]},
        "job-show": details,
        "probe": HostFailed(text, where="w1", next_step=text),
        "cluster-probe": HostFailed(text, where="head"),
    }
    for name in ("head", "w1"):
        for do, answer in answers.items():
            fake[name].answer_always(do, answer)
        log = text.encode("utf-8", "surrogatepass")
        fake[name].answer_always("job-fetch", {"size": len(log)}, {"data": base64.b64encode(log).decode()})
    return fake


def commands(folder: Path, text: str) -> Iterator[list[str]]:
    yield from (["drain"], ["drain", "w1", "--reason", text], ["drain", text], ["undrain", "w1"])
    yield from (["tpu", "reset", "w1:apex_0"], ["model", "list"], ["model", "show", "m"], ["model", "show", text])
    yield from (["model", "label", "m", "1", "a"], ["model", "label", text, "1", "a"], ["model", "unlabel", "m", "a"])
    yield from (["model", "rollback", "m"], ["model", "remove", "m:1", "--yes"], ["model", "remove", text, "--yes"])
    yield from (["model", "verify"], ["model", "verify", "m"], ["model", "verify", f"m@{text}"])
    yield from (["job", "list"], ["job", "show", JOB], ["job", "logs", JOB], ["job", "show", text])
    yield ["job", "show", JOB, "--report", str(folder / "job.html")]
    yield from (["inventory", what] for what in ("--list", "--graph", "--origin"))
    yield from (["inventory", "--host", "w1"], ["inventory", "--origin", "--json"], ["inventory", "--host", text])
    yield from (["health"], ["health", "-v"], ["health", "--json"], ["health", "--limit", text])
    for form in ("table", "json", "prometheus", "nagios"):
        yield ["health", "--from", str(folder / "saved.json"), "--format", form]
    yield ["health", "--from", str(folder / "saved.json"), "-v", "--html", str(folder / "report.html")]
    yield ["health", "--from", str(folder / "text")]
    yield ["template", "show", "--host", "w1", "--playbook", str(folder / "playbook.yml"), str(folder / "text.j2")]
    yield from (["bootstrap", "--playbook", str(folder / "wrong.yml")], ["bootstrap", "--limit", text])
    yield from (["bootstrap", "-i", str(folder / "wrong.yml")], ["deploy-model", str(folder / "text"), "--name", "m"])
    yield from (
        [text],
        ["help", text],
        ["job", text],
        ["health", "--" + text],
        ["health", "--forks", text],
        ["-i", text],
    )
    yield from (["infer", "--model", text, str(folder / "text")], ["infer", "--attach", JOB, "--version", text])
    yield from (["exporter", "--listen", text], ["lab", "fault", "w1", text], ["lab", "status", "--name", text])


def prepare(folder: Path, text: str) -> None:
    variables = {"cluster_subnet": "10.0.0.0/24", "cluster_interface": "eth0", "text": text}
    head, w1 = ({name: {"cluster_ip": address}} for name, address in (("head", "10.0.0.1"), ("w1", "10.0.0.2")))
    everything = {"all": {"vars": variables, "children": {"head": {"hosts": head}, "compute": {"hosts": w1}}}}
    (folder / "inventory.yml").write_text(yaml.safe_dump(everything))
    (folder / "wrong.yml").write_text(
        yaml.safe_dump([{"name": text, "hosts": text, text: text, "tasks": [{text: text}]}])
    )
    task = {"name": text, "template": {"src": str(folder / "text.j2"), "dest": "/text"}}
    (folder / "playbook.yml").write_text(yaml.safe_dump([{"name": text, "hosts": "all", "tasks": [task]}]))
    (folder / "text").write_bytes(text.encode("utf-8", "surrogatepass"))
    (folder / "text.j2").write_text("{{ text }}\n")
    system = {"kernel": text, "name": text, "failed_units": [text], "disks": {text: {"size": 1, "free": 1}}}
    tpu = {
        "pci": [{"address": text}],
        "apex": [{"pci_address": text, "name": text, "temp": "1", "driver_version": text}],
    }
    document = {**{section: {} for section in saved.SECTIONS}, "system": system, "tpu": tpu}
    survey = Survey({"head": document}, None, {"w1": ("UNREACHABLE", text, text)}, text, 1.0, 1.0)
    cluster = inventory.load(folder / "inventory.yml")
    (folder / "saved.json").write_text(json.dumps(saved.document(cluster, survey)))


def views(text: str) -> None:
    """The views of a run and of a job, and what health finds."""
    for output in (show.stdout, show.stderr):
        with View(output, diff=True, check=False) as view:
            about = (text, text, text)
            diff = {"before": text, "after": f"{text}\n{text}", "before_header": text, "after_header": text}
            result = {"msg": text, "stdout": text, "stderr": text, "failed": True, "diff": [diff, {"prepared": text}]}
            view.event(PlayStarted(text, (text,)))
            view.event(TaskStarted(*about))
            view.event(TaskOutput(*about, text))
            view.event(HostWaiting(*about, text))
            for status in ("failed", "changed", "unknown", "ok"):
                view.event(TaskFinished(*about, status, {**result, "failed": status == "failed"}, "debug"))
            view.event(TaskStarted(*about))
            show.message(text)
            view.event(HostLost(*about, text))
        view.recap(Recap({text: HostRecap(stopped_at=text, reason=text)}, {text: text}), "clusteradm bootstrap")
    with transfer(text) as progress:
        progress(1, 2)
    rank = RankProgress(1, text, text, 5)
    updates = (Progress(1, "running", 9, number, 0, None, None, number, (rank,)) for number in range(1, 4))
    watch([Update(None), *(Update(Status("running"), each) for each in updates)])
    model = ModelFile(text, 1, text, text, InputForm("uint8", (1,)))
    figures = {"rank": 1, "host": text, "pci_address": text, "tpu": text, "images": 1, "share": 1.0}
    print_report(report(model, figures, text), show.stdout)
    finding = Finding(text, text, text, Severity.ERROR, text, text, text)
    for verbose in (False, True):
        found = table(HealthReport(text, [finding]), verbose=verbose)
        with Display(show.stdout, lambda shown=found: shown, lasting=True):
            show.stdout.print(found)


def report(model: ModelFile, figures: dict[str, Any], text: str) -> JobReport:
    rank = Rank(
        **figures,
        images_per_second=1.0,
        busy_seconds=1.0,
        decode_seconds=1.0,
        wait_seconds=1.0,
        device=text,
        error=text,
    )
    return JobReport(JOB, model, 1, 1, 1.0, 1.0, 1, (rank,))


def run(folder: Path, text: str) -> None:
    """Everything, one after the other."""
    prepare(folder, text)
    os.environ["CLUSTERADM_INVENTORY"] = str(folder / "inventory.yml")
    with hosts(text).installed():
        for words in commands(folder, text):
            with contextlib.suppress(SystemExit):
                main(words)
    views(text)


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]))
