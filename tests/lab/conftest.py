"""The labs that the tests share, and which tests run side by side.

Each group of tests is run by one process, so that they share its labs: `pytest -n 3 --dist loadgroup` runs three groups
at a time. A test marked `alone` measures time: it waits until no other group runs, so its group's come last.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Cluster

from clusteradm.errors import ClusteradmError
from clusteradm.lab import Lab, machine, plan
from clusteradm.lab.digits import data

# A name of this run's own: no test ever touches a lab that somebody uses.
NAME = f"pytest-{os.getpid()}"
BOOTSTRAP_SECONDS = 900


# The groups in the order in which they are begun: those that take long first. Files that are not named here share bare
# boards, or the cluster made of them.
GROUPS = ("cluster", "agree", "bare", "guards", "bullseye", "two", "wheel")
GROUP_OF = {
    "test_ansible_agrees.py": "agree",
    "test_bootstrap_agrees.py": "two",
    "test_bullseye.py": "bullseye",
    "test_guards.py": "guards",
    "test_wheel.py": "wheel",
}


def group_of(item: pytest.Item) -> str:
    if "cluster_lab" in getattr(item, "fixturenames", ()):
        return "cluster"
    return GROUP_OF.get(item.path.name, "bare")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One group after the other, and in each what runs alone at the end."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: (GROUPS.index(group_of(item)), item.get_closest_marker("alone") is not None))


@pytest.fixture(scope="session", autouse=True)
def running() -> Iterator[int]:
    """A lock that all processes of a run share, and that a test has for itself to run alone."""
    descriptor = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest, running: int) -> None:
    """Others keep their lock until they have nothing left to do; this process has its own from now on to the end."""
    if request.node.get_closest_marker("alone"):
        fcntl.flock(running, fcntl.LOCK_EX)


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
