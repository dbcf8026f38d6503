"""The lab tests share one virtual cluster: booted once per run, used bare first, then bootstrapped once."""

from __future__ import annotations

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that want bare boards come before those that want the cluster made of them."""

    def place(item: pytest.Item) -> int:
        names = getattr(item, "fixturenames", ())
        return 2 if "cluster_lab" in names else 1 if "lab" in names else 0

    items.sort(key=place)


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
