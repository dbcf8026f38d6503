"""The labs that the tests share, and which tests run side by side.

Each group of tests is run by one process, so that they share its labs: `pytest -n 3 tests/lab` runs three groups at a
time. A test marked `alone` measures time: it waits until no other group runs, so its group's come last.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cluster
from jobs import OWN, progress, wait
from xdist.scheduler import LoadScopeScheduling

from clusteradm.errors import ClusteradmError
from clusteradm.lab import Lab, machine, plan
from clusteradm.lab.digits import data

# A name of this run's own: no test ever touches a lab that somebody uses.
NAME = f"pytest-{os.getpid()}"
BOOTSTRAP_SECONDS = 900
# The descriptor of the lock that says that a process of the run works.
RUNNING = pytest.StashKey[int]()


# Files that share a lab, in the order in which the groups are begun: what takes long first. Any other file has labs of
# its own, and is a group by itself.
GROUPS = {
    # Boards that are bare at first, and then made into a cluster.
    "cluster": (
        "test_bootstrap.py",
        "test_bootstrap_agrees.py",
        "test_cluster.py",
        "test_health.py",
        "test_health_faults.py",
        "test_remedies.py",
        "test_infer.py",
        "test_nothing_lost.py",
    ),
    "agreement": ("test_ansible_agrees.py",),
    # Boards that stay bare.
    "boards": ("test_enroll.py", "test_faults.py", "test_interruptions.py", "test_lab.py", "test_obstacles.py"),
    # Makes a cluster of the boards of its process, so that it comes after those that want them bare.
    "promises": (
        "test_hardening.py",
        "test_root.py",
        "test_python_api.py",
        "test_time.py",
        "test_models.py",
        "test_uploads.py",
    ),
}


def group_of(file: str) -> str:
    return next((group for group, files in GROUPS.items() if file in files), file)


class GroupScheduling(LoadScopeScheduling):
    """Gives each group of tests to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(Path(nodeid.split("::")[0]).name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One group after the other; in each, bare boards before their cluster, and what runs alone at the end."""
    order = list(GROUPS)

    def place(item: pytest.Item) -> tuple[int, bool, bool]:
        group = group_of(item.path.name)
        return (
            order.index(group) if group in order else len(order),
            "cluster_lab" in getattr(item, "fixturenames", ()),
            item.get_closest_marker("alone") is not None,
        )

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Every process of a run shares a lock until it has nothing left to do; a test that runs alone has it for itself.

    Another run in this checkout counts as well. Here and not in a fixture, so that the wait is in nobody's duration.
    """
    stash = item.config.stash
    if RUNNING not in stash:
        stash[RUNNING] = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(stash[RUNNING], fcntl.LOCK_SH)
    if item.get_closest_marker("alone"):
        # Two that wait for each other: each gives its share up first. What comes after runs alone, too.
        fcntl.flock(stash[RUNNING], fcntl.LOCK_EX)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give the share up: the process of a worker that has done its part lives on until the end of the run."""
    lock = session.config.stash.get(RUNNING, None)
    if lock is not None:
        os.close(lock)


@pytest.fixture(scope="session")
def lab_machine() -> None:
    """Skips where no lab can run; in CI that is a failure."""
    try:
        machine.require()
    except ClusteradmError as error:
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(f"CI runs the lab tests: {error}")
        pytest.skip(str(error))
    _end_orphans()


@pytest.fixture(scope="session")
def lab(lab_machine: None) -> Iterator[Lab]:
    """Four bare boards, as `clusteradm lab up --nodes 4` boots them."""
    one = Lab(NAME, say=lambda text: print(text, file=sys.stderr))
    try:
        one.up(4)
        yield one
    finally:
        one.down()


@pytest.fixture(scope="session")
def cluster_lab(lab: Lab) -> Lab:
    """The same boards after `clusteradm bootstrap`."""
    command = [sys.executable, "-m", "clusteradm", "bootstrap", "--inventory", str(lab.inventory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOOTSTRAP_SECONDS, check=False)
    if done.returncode:
        pytest.fail(
            f"bootstrap ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", pytrace=False
        )
    return lab


@pytest.fixture(scope="session")
def cluster(cluster_lab: Lab) -> Cluster:
    """The commands, on these boards."""
    return Cluster(cluster_lab)


@pytest.fixture(scope="session")
def compiled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A function that compiles a model for the lab's TPUs."""

    def compile_model(model: Path) -> Path:
        path = tmp_path_factory.mktemp("compiled") / f"{model.stem}_edgetpu.tflite"
        cluster.run("lab", "compile-model", model, "--output", path)
        return path

    return compile_model


@pytest.fixture(scope="session")
def digits_model(cluster: Cluster, compiled: Callable[[Path], Path]) -> Path:
    """The digits model, deployed as `digits`."""
    model = Path(data.__file__).with_name("digits.tflite")
    path = compiled(model)
    cluster.run("deploy-model", path, "--name", "digits", "--labels", model.with_name("labels.txt"))
    return path


def _end_orphans() -> None:
    """Labs of test runs that were killed."""
    for name in plan.names():
        found = re.fullmatch(r"pytest-(\d+)(-.*)?", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            Lab(name).down()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits as files, and one file that is none; truth.csv beside the folder."""
    folder = tmp_path_factory.mktemp("digits") / "images"
    data.write_images(data.load().held_out, folder, folder.parent / "truth.csv")
    (folder / "digit-0500x.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


@pytest.fixture
def long_job(cluster: Cluster, digits_model: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A job of many inputs that has begun to work on every board: the command that follows it, and its id."""
    process: subprocess.Popen[str]
    job: str
    images = data.load().held_out.images
    np.save(tmp_path / "many.npy", np.concatenate([images] * 16))
    words = ("infer", "--model", "digits", tmp_path / "many.npy", "--output", tmp_path / "many.jsonl")

    def begun() -> bool:
        """A survey leaves out what is not yet itself again after the test before, or late on a busy machine."""
        nonlocal process, job
        process = cluster.start(*words)
        assert process.stderr is not None
        job = next(line for line in process.stderr if line.startswith("job ")).split()[1].rstrip(":")
        spec = json.loads(cluster.on("head", "cat", f"{OWN}/{job}/spec.json"))
        if {slot["host"] for slot in spec["slots"]} == set(cluster.nodes):
            return True
        process.kill()
        process.wait()
        cluster.run("job", "cancel", job)
        return False

    wait(begun)
    wait(lambda: progress(cluster, job).get("done", 0) > 200)
    yield process, job
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.fixture
def restored(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.restore()
