"""The folder of a job on the shared file system, where any board can put links: no file of the head's is given out or
written. What the supervisor does with such a folder: test_supervisor.py.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import HostFailed
from clusteradm.jobs import resolve
from clusteradm.node.edgetpu.tensors import Fed
from clusteradm.node.job.feeder import Feeder
from clusteradm.node.job.outputs import Outputs
from clusteradm.node.job.pulse import Pulse
from clusteradm.node.spec.wire import job_names

from .conftest import fifo, link


def test_the_folder_is_roots_and_what_is_in_it_can_be_replaced_by_its_owner_alone(place: Any, pictures: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    about = place.folder(job).stat()
    assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (os.geteuid(), 0o1775)
    own = place.own(job)
    assert stat.S_IMODE(own.stat().st_mode) == stat.S_IMODE((own / "run").stat().st_mode) == 0o755
    assert sorted(os.listdir(place.folder(job))) == ["inputs.pack"]
    assert sorted(os.listdir(own)) == ["run", "spec.json"]
    (place.head_says / "active").write_text("inactive\n")
    place.jobs.remove(job)
    assert not own.exists()


def test_a_link_in_the_place_of_all_jobs_is_not_followed(place: Any, pictures: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root is kept from links")
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir(mode=0o700)
    before = elsewhere.stat()
    (place.shared / "jobs").rename(place.shared / "x")
    (place.shared / "jobs").symlink_to(elsewhere)
    os.chown(place.shared / "jobs", 65534, 65534, follow_symlinks=False)
    with pytest.raises(HostFailed, match=r"shared/jobs is a link that root does not follow: .*, remove it"):
        place.submit(resolve([str(pictures)]))
    after = elsewhere.stat()
    assert (after.st_uid, after.st_mode, after.st_mtime_ns) == (before.st_uid, before.st_mode, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["log", "outputs-{}/000000-0.npy"])
def test_no_other_file_of_the_head_is_given_out(place: Any, pictures: Path, secret: Path, name: str) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    path = place.folder(job) / name.format(job)
    if path.parent != place.folder(job):
        (secret.parent / "home").mkdir()
        secret.rename(secret.parent / "home" / path.name)
        path.parent.symlink_to(secret.parent / "home")
    else:
        link(path, secret)
    got = io.BytesIO()
    said = "log: no file of a job: it is a link" if name == "log" else "outputs-"
    with pytest.raises(HostFailed, match=f"{job}/{said}"):
        place.jobs.fetch(job, name.format(job), got)
    assert got.getvalue() == b""


def test_large_outputs_go_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "outputs-1").symlink_to(tmp_path / "home")
    keep = Outputs(str(tmp_path / "outputs-1")).keep(0)
    with pytest.raises(OSError, match="outputs-1"):
        keep("0.npy", b"numbers")
    assert os.listdir(tmp_path / "home") == []


@pytest.mark.parametrize("put", [link, fifo])
def test_a_rank_reads_a_file_and_nothing_else(tmp_path: Path, secret: Path, put: Callable[[Path, Path], None]) -> None:
    put(tmp_path / job_names.PACK, secret)
    with pytest.raises(OSError, match=job_names.PACK):
        Feeder(str(tmp_path / job_names.PACK), lambda data, form: Fed(data), 1, Pulse())
