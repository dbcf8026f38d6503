"""The cluster user of a board, who tries each way to root and to another board: links, and files that others obey."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import SHARED, Cluster
from jobs import OWN

pytestmark = pytest.mark.lab

CANARY = "/var/tmp/canary"
ETC = "stat -c '%n %U %G %a' /etc /etc/passwd /etc/shadow /etc/ssh"


def as_cluster(cluster: Cluster, node: str, command: str) -> subprocess.CompletedProcess[str]:
    """A shell command as the cluster user of a board; it may fail."""
    argv = ["runuser", "-u", "cluster", "--", "sh", "-c", f"cd / && {command}"]
    return cluster.lab.exec(node, argv, check=False, timeout=120)


@pytest.fixture
def etc(cluster: Cluster) -> Iterator[None]:
    """/etc of every node is at the end what it was."""
    before = {node: cluster.on(node, "sh", "-c", ETC) for node in cluster.nodes}
    yield
    assert {node: cluster.on(node, "sh", "-c", ETC) for node in cluster.nodes} == before


@pytest.mark.parametrize("name", ["models", "jobs"])
def test_no_board_can_put_a_link_in_the_place_of_a_folder_of_the_share(cluster: Cluster, etc: None, name: str) -> None:
    for node in cluster.nodes:
        for attack in (
            f"mv {SHARED}/{name} {SHARED}/x",
            f"mv {SHARED}/{name} {SHARED}/jobs/x",
            f"rmdir {SHARED}/{name}",
            f"ln -s /etc {SHARED}/other",
        ):
            assert as_cluster(cluster, node, attack).returncode != 0, attack
    assert cluster.on("head", "stat", "-c", "%F %U", f"{SHARED}/{name}").strip() == "directory root"


def test_no_board_can_change_a_model(cluster: Cluster, digits_model: Path) -> None:
    version = f"{SHARED}/models/digits/1"
    before = cluster.on("head", "sh", "-c", f"cd {SHARED}/models && find . -exec stat -c '%n %U %a %Y' {{}} +")
    for attack in (
        f"echo x >{version}/model.tflite",
        f"rm -f {version}/model.tflite",
        f"chmod u+w {version}",
        f"mv {version} {SHARED}/models/digits/2",
        f"mkdir {SHARED}/models/evil",
        f"mkdir {SHARED}/models/digits/99",
        f"ln -s /etc {SHARED}/models/evil",
    ):
        for node in ("w1", "head"):
            assert as_cluster(cluster, node, attack).returncode != 0, attack
        # Root of a board is nobody there, and any other user at will: none of them has a right.
        assert cluster.lab.exec("w1", ["sh", "-c", attack], check=False).returncode != 0, attack
    assert cluster.on("head", "sh", "-c", f"cd {SHARED}/models && find . -exec stat -c '%n %U %a %Y' {{}} +") == before


@pytest.mark.parametrize("link", ["/home/cluster/.ssh", "/home/cluster/.ssh/authorized_keys"])
def test_bootstrap_gives_nothing_away_through_a_link_in_the_users_home(cluster: Cluster, etc: None, link: str) -> None:
    target = "/etc" if link.endswith(".ssh") else "/etc/shadow"
    assert as_cluster(cluster, "w1", f"mv {link} {link}.kept && ln -s {target} {link}").returncode == 0
    try:
        out, _ = cluster.run("bootstrap", "--json", expect=3)
        (failed,) = [task for task in json.loads(out)["hosts"]["w1"]["tasks"] if task["status"] == "failed"]
        assert f"{link} is a link that root does not follow" in json.dumps(failed)
        assert "remove it, and run this again" in json.dumps(failed)
    finally:
        cluster.on("w1", "sh", "-c", f"rm {link}; mv {link}.kept {link}")
    cluster.run("bootstrap")


def test_a_board_that_rewrites_a_jobs_folder_runs_nothing_anywhere(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], etc: None
) -> None:
    process, job = long_job
    folder = f"{SHARED}/jobs/{job}"
    spec = json.loads(cluster.on("head", "cat", f"{OWN}/{job}/spec.json"))
    evil = json.dumps({**spec, "python": f"touch {CANARY};", "head": f"$(touch {CANARY})"})
    attack = f"""
        mv {folder} {SHARED}/jobs/away && touch {CANARY}
        cd {folder} || exit 1
        for name in spec.json hostfile attempt-1.json attempt-2.json status.json progress.json inputs.jsonl; do
            echo '{evil}' >$name
        done
        for name in inputs.pack journal.jsonl results.jsonl log; do
            rm -f $name; ln -s /home/cluster/.bashrc $name
        done
        ln -s /home/cluster/.ssh outputs-{job}
    """
    keys = "cd /home/cluster && sha256sum .ssh/* .bashrc 2>/dev/null"
    before = {node: cluster.on(node, "sh", "-c", keys, check=False) for node in cluster.nodes}
    as_cluster(cluster, "w1", attack)
    # mpirun is started once more, from what is there now.
    cluster.on("head", "pkill", "-KILL", "-u", "cluster", "-x", "mpirun", check=False)
    assert process.wait(300) in (0, 3)
    assert process.stderr is not None
    said = process.stderr.read()
    if process.returncode:
        assert f"job {job} failed" in said and f"{folder}/" in said
    for node in cluster.nodes:
        assert cluster.on(node, "ls", CANARY, check=False) == ""
        assert cluster.on(node, "sh", "-c", keys, check=False) == before[node]
    assert json.loads(cluster.on("head", "cat", f"{OWN}/{job}/spec.json")) == spec
    for name in ("log", "results.jsonl"):
        refused = cluster.on("head", "stat", "-c", "%F", f"{folder}/{name}", check=False).strip()
        assert refused in ("symbolic link", "regular file", "")
    cluster.run("job", "remove", job)
    assert cluster.on("head", "ls", f"{OWN}/{job}", check=False) == ""


def test_the_playbooks_leave_the_share_to_root(cluster: Cluster) -> None:
    found = cluster.on("head", "stat", "-c", "%n %U %G %a", SHARED, f"{SHARED}/models", f"{SHARED}/jobs").splitlines()
    assert found == [
        f"{SHARED} root root 755",
        f"{SHARED}/models root root 755",
        f"{SHARED}/jobs root cluster 1775",
    ]
