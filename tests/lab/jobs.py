"""Jobs in the middle of which something happens: what they have done, and whether all of it is right."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import SECONDS, SHARED, Cluster

OWN = "/var/lib/clusteradm/jobs"  # on the head


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def so_far(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that another process writes, or is about to make."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def progress(cluster: Cluster, job: str) -> dict[str, Any]:
    text = cluster.on("head", "cat", f"{OWN}/{job}/run/progress.json", check=False)
    document: dict[str, Any] = json.loads(text) if text else {}
    return document


def wait(until: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def killed(cluster: Cluster, node: str, how: str, words: str) -> None:
    """Send a signal to every process on a node with these words in its command."""
    cluster.on(node, "pkill", how, "-f", words)


def complete(output: Path) -> list[dict[str, Any]]:
    """The results of the long job: every input once, as undisturbed."""
    results = read(output)
    assert [line["index"] for line in results] == list(range(16000))
    assert [line["top"] for line in results[:1000]] * 16 == [line["top"] for line in results]
    return results


def journal_lines(cluster: Cluster, job: str) -> list[str]:
    return cluster.on("head", "cat", f"{SHARED}/jobs/{job}/journal.jsonl").splitlines()


def delivered(cluster: Cluster, job: str) -> int:
    """Lines of the job's journal."""
    return len(journal_lines(cluster, job))


def details(cluster: Cluster, job: str) -> dict[str, Any]:
    """The job, by `job show`; nothing of it while the head does not answer."""
    process = cluster.start("job", "show", job, "--json")
    out, _ = process.communicate(timeout=SECONDS)
    nothing = {"status": {"attempts": []}, "progress": None}
    found: dict[str, Any] = json.loads(out) if process.returncode == 0 else nothing
    return found


def hosts(cluster: Cluster, job: str) -> set[str]:
    """Those of the job's latest attempt; none while the head does not answer."""
    return {host for attempt in details(cluster, job)["status"]["attempts"][-1:] for host in attempt["hosts"]}


def everywhere(cluster: Cluster, *words: object) -> dict[str, Any]:
    """The document of an `infer` with a rank on every board: a survey on a busy machine may leave one out."""
    deadline = time.monotonic() + SECONDS
    while True:
        document = cluster.infer(*words)
        if {rank["host"] for rank in document["ranks"]} == set(cluster.nodes):
            return document
        assert time.monotonic() < deadline, document
