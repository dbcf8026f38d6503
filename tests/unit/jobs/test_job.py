"""A job's way from the admin to the head and back, over the real conversation; only systemd and MPI are played."""

from __future__ import annotations

import getpass
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from clusteradm.errors import HostFailed, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.jobs import HeadInputs, Jobs, LocalInputs, Slot, inputs, resolve
from clusteradm.transport import Connections, Node

MODEL = {"name": "m", "version": 1, "path": "/m", "sha256": "0", "input": {"dtype": "uint8", "shape": [1, 2, 2, 1]}}

# Plays systemd: notes what it was asked for, starts no supervisor.
SYSTEMD_RUN = """#!{python}
import json, sys
json.dump(sys.argv[1:], open("{folder}/unit.json", "w"))
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> {folder}/systemctl
cat {folder}/active 2>/dev/null || echo active
"""


class Place:
    """A head of this machine: its connections has one conversation, with a local process."""

    def __init__(self, folder: Path) -> None:
        self.shared = folder / "shared"
        (self.shared / "jobs").mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (
            ("systemd-run", SYSTEMD_RUN),
            ("systemctl", SYSTEMCTL),
            ("journalctl", "#!/bin/sh\necho traceback\n"),
        ):
            (programs / name).write_text(text.format(python=sys.executable, folder=folder))
            (programs / name).chmod(0o755)
        self._env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CLUSTERADM_STATE": str(folder / "state"),
        }
        self._node: Node | None = None
        settings = {"cluster_shared": str(self.shared), "cluster_user": getpass.getuser()}
        head = Host("head", ("head",), settings, {})
        self.jobs = Jobs(cast(Connections, self), Cluster(folder / "inventory.yml", {}, {"head": head}))

    def node(self, host: Host) -> Node:
        if self._node is None:
            self._node = Node.local("head", env=self._env)
        return self._node

    def drop(self, host: Host) -> None:
        if self._node is not None:
            self._node.close()
        self._node = None

    def submit(self, what: LocalInputs | HeadInputs, **more: Any) -> tuple[str, int]:
        self.sent: list[tuple[int, int]] = []
        arguments: dict[str, Any] = {"model": MODEL, "slots": [Slot("w1", ("0000:01:00.0",))], "ranks": None, "top": 5}
        return self.jobs.submit(
            what, **{**arguments, **more}, progress=lambda sent, total: self.sent.append((sent, total))
        )

    def folder(self, job: str) -> Path:
        return self.shared / "jobs" / job


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.drop(Host("head", (), {}, {}))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(bytes([65 + number]) * 7)
    return folder


def test_local_inputs_arrive_in_one_pack(
    place: Place, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "PART_BYTES", 16)
    monkeypatch.setattr(inputs.parts, "__defaults__", (16,))
    job, count = place.submit(resolve([str(pictures)]))
    assert count == 5
    folder = place.folder(job)
    assert (folder / "inputs.pack").read_bytes() == b"".join(bytes([65 + number]) * 7 for number in range(5))
    lines = [json.loads(line) for line in (folder / "inputs.jsonl").read_text().splitlines()]
    assert [(line["input"], line["offset"], line["size"]) for line in lines] == [
        (f"{n}.png", 7 * n, 7) for n in range(5)
    ]
    assert place.sent[-1] == (35, 35)
    spec = json.loads((folder / "spec.json").read_text())
    assert (spec["job"], spec["inputs"], spec["head"]) == (job, 5, "head")
    assert spec["slots"] == [{"host": "w1", "tpus": [{"pci_address": "0000:01:00.0"}]}]
    unit = json.loads((tmp_path / "unit.json").read_text())
    assert unit[unit.index("--unit") + 1] == f"clusteradm-job-{job}.service"
    assert unit[unit.index("--uid") + 1] == getpass.getuser()
    assert unit[-3:] == ["-m", "clusteradm.node.job.supervisor", str(folder)]
    # The bytes are in the job now; a second copy of them would fill a board.
    assert os.listdir(tmp_path / "state" / "blobs") == []
    assert os.listdir(place.shared / "jobs") == [job]


def test_inputs_on_the_head_are_packed_there(place: Place, pictures: Path) -> None:
    (place.shared / "data").mkdir()
    (place.shared / "data" / "x.png").write_bytes(b"shared")
    job, count = place.submit(HeadInputs((str(pictures), "data/x.png")))
    assert count == 6
    lines = [json.loads(line)["input"] for line in (place.folder(job) / "inputs.jsonl").read_text().splitlines()]
    assert lines == sorted([*(str(pictures / f"{n}.png") for n in range(5)), str(place.shared / "data" / "x.png")])
    with pytest.raises(UsageError, match="no file or folder /gone on the head"):
        place.submit(HeadInputs(("/gone",)))


def test_what_cannot_be_a_job_leaves_nothing(place: Place, pictures: Path) -> None:
    (pictures / "a.npy").write_bytes(b"\x93NUMPY but damaged")
    with pytest.raises(UsageError, match=r"a\.npy is no readable NumPy file"):
        place.submit(resolve([str(pictures)]))
    assert os.listdir(place.shared / "jobs") == []
    files = resolve([str(pictures)])
    (pictures / "4.png").write_bytes(b"")
    with pytest.raises(UsageError, match="has become shorter"):
        place.submit(files)
    assert os.listdir(place.shared / "jobs") == []


def test_following_to_the_end_and_fetching(place: Place, pictures: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    updates = place.jobs.follow(job)
    assert next(updates).status["state"] == "starting"
    folder = place.folder(job)
    (folder / "progress.json").write_text('{"attempt": 1, "done": 2}')
    assert next(updates).progress == {"attempt": 1, "done": 2}
    (folder / "status.json").write_text('{"state": "complete"}')
    assert [update.status["state"] for update in updates] == ["complete"]
    (folder / "results.jsonl").write_bytes(os.urandom(1_500_000))
    got = io.BytesIO()
    place.jobs.fetch(job, "results.jsonl", got)
    assert got.getvalue() == (folder / "results.jsonl").read_bytes()
    for name in ("../../../etc/passwd", "outputs-x/../../log", "spec.json"):
        with pytest.raises(HostFailed, match="is no file that a job gives out"):
            place.jobs.fetch(job, name, got)


def test_a_supervisor_that_vanished_is_a_failed_job(place: Place, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    (tmp_path / "active").write_text("inactive\n")
    last = list(place.jobs.follow(job))[-1].status
    assert (last["state"], last["error"]) == ("failed", "its supervisor ended without a word")
    text = str(place.jobs.failure(job, last))
    assert "traceback" in text
    assert f"{place.shared}/jobs/{job}/log" in text


def test_cancel_stops_the_unit(place: Place, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    place.jobs.cancel(job)
    assert (tmp_path / "systemctl").read_text().splitlines()[-1] == f"stop clusteradm-job-{job}.service"


def test_an_unknown_job(place: Place) -> None:
    with pytest.raises(HostFailed, match="there is no job 20260101-000000-abcdef here"):
        next(place.jobs.follow("20260101-000000-abcdef"))
    with pytest.raises(HostFailed, match="is no job id"):
        next(place.jobs.follow("../x"))
