"""The oldest release that can be had, with a Python 3.7 on the node: a board's distance from the admin's machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cluster
from jobs import everywhere, wait

from clusteradm.inventory import load
from clusteradm.lab import Lab, LabError, cache, image, tpu_package
from clusteradm.lab.compiler import compile_file
from clusteradm.lab.digits import data
from clusteradm.lab.suites import SUITES
from clusteradm.lab.topology import MANAGEMENT
from clusteradm.node.spec.wire.node import Hello
from clusteradm.transport import Connections

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/pypy3"
DIGITS = Path(data.__file__).with_name("digits.tflite")
# What a Dev Board brings: a pycoral with a runtime of before TensorFlow 2.10, and Google's library. Of pycoral, which
# no index has, the one function that ranks call, as Google's does it.
CONTROL = """\
Package: python3-pycoral
Version: 2.0.0+lab
Architecture: amd64
Maintainer: clusteradm lab <lab@localhost>
Depends: python3-numpy
Description: SIMULATED pycoral of a test, with tflite-runtime 2.8
"""
MAKE_INTERPRETER = """\
from tflite_runtime.interpreter import Interpreter, load_delegate


def make_interpreter(model, device=None):
    options = {"device": device} if device else {}
    kind = "model_content" if isinstance(model, bytes) else "model_path"
    return Interpreter(experimental_delegates=[load_delegate("libedgetpu.so.1", options)], **{kind: model})
"""


def pycoral(folder: Path) -> Path:
    """The package python3-pycoral, built in this folder."""
    modules = folder / "root/usr/lib/python3/dist-packages"
    wheel = ["--python-version=3.9", "--platform=manylinux2014_x86_64", "--only-binary=:all:", "--no-deps", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *wheel, f"--target={modules}", "tflite-runtime==2.8.0"]
    subprocess.run(command, check=True, capture_output=True)
    (modules / "pycoral/utils").mkdir(parents=True)
    for name in ("pycoral/__init__.py", "pycoral/utils/__init__.py"):
        (modules / name).touch()
    (modules / "pycoral/utils/edgetpu.py").write_text(MAKE_INTERPRETER)
    (folder / "root/DEBIAN").mkdir()
    (folder / "root/DEBIAN/control").write_text(CONTROL)
    package = folder / "python3-pycoral.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(folder / "root"), str(package)]
    subprocess.run(command, check=True, capture_output=True)
    return package


@pytest.fixture(scope="module")
def old_lab(lab_machine: None) -> Iterator[Lab]:
    """A head and one compute node of bullseye; their node package runs under PyPy, which is a Python 3.7."""
    lab = Lab(f"pytest-{os.getpid()}-bullseye", say=lambda text: print(text, file=sys.stderr))
    try:
        try:
            lab.up(2, suites=["bullseye"], python=PYTHON)
        except LabError as error:
            if "base-bullseye" in str(error) or "mmdebstrap" in str(error):
                pytest.skip(f"bullseye cannot be had any more: {error}")
            raise
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def dev_board(old_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """w1 as Mendel comes: with the maker's runtime and library, before bootstrap."""
    if platform.machine() != "x86_64":
        pytest.skip("the package is of x86-64")
    shared = old_lab.places.root / "nodes/w1/shared"
    shutil.copy(pycoral(tmp_path_factory.mktemp("pycoral")), shared)
    (library,) = (
        image.build(SUITES["bullseye"], cache.Cache(cache.default_root()), print, ())
        .web["tpu"]
        .glob(f"pool/*_{tpu_package.OLD_VERSION}_*.deb")
    )
    shutil.copy(library, shared / "libedgetpu.deb")
    install = "apt-get update -qq; cd /run/clusteradm-lab; apt-get install -qq ./python3-pycoral.deb ./libedgetpu.deb"
    old_lab.exec("w1", ["sh", "-ec", f"{install}; rm *.deb"], timeout=300)
    return "w1"


def clusteradm(lab: Lab, *args: str, expect: int = 0) -> dict[str, Any]:
    environment = {**os.environ, "CLUSTERADM_INVENTORY": str(lab.inventory)}
    command = [sys.executable, "-m", "clusteradm", *args, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == expect, done.stderr[-3000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_node_package_runs_under_python_3_7(old_lab: Lab) -> None:
    said = old_lab.exec("w1", [PYTHON, "--version"]).stdout
    assert said.startswith("Python 3.7.")
    cluster = load(old_lab.inventory)
    with Connections(cluster, cluster.path.parent / "known_hosts") as connections:
        for host in cluster.hosts.values():
            assert connections.node(host).call(Hello()).python.startswith("3.7.")


def test_bootstrap_health_and_a_second_run(old_lab: Lab, dev_board: str) -> None:
    clusteradm(old_lab, "bootstrap")
    assert str(old_lab.exec("w1", ["findmnt", "-n", "-o", "FSTYPE", "/srv/cluster"]).stdout).strip() == "fuse.nfs4"
    hello = "cd && HOME=/home/cluster runuser -u cluster -- mpirun --host head,w1 -np 2 cat /etc/hostname"
    assert sorted(str(old_lab.exec("head", ["sh", "-c", hello], timeout=120).stdout).split()) == ["head", "w1"]
    Cluster(old_lab).well()
    document = Cluster(old_lab).health()
    assert {"export", "mpi", "nfs", "tpu"} <= {finding["check"] for finding in document["findings"]}
    second = clusteradm(old_lab, "bootstrap")
    assert [host["changed"] for host in second["hosts"].values()] == [0, 0]


def test_each_row_of_the_table_computes(old_lab: Lab, dev_board: str, tmp_path: Path) -> None:
    """The board keeps its pycoral and its library; the head has LiteRT and a rebuilt one. Both compute one job."""
    cluster = Cluster(old_lab)
    document = cluster.health(expect=None)
    runtimes = {one["subject"]: one["detail"] for one in document["findings"] if one["check"] == "runtime"}
    assert f"libedgetpu {tpu_package.OLD_VERSION}" in runtimes[dev_board] and "pycoral" in runtimes[dev_board]
    assert f"libedgetpu {tpu_package.VERSION}" in runtimes["head"] and "ai-edge-litert 2.1.0" in runtimes["head"]
    assert "crashes" not in str(document)
    model = tmp_path / "digits_edgetpu.tflite"
    compile_file(DIGITS, model)
    clusteradm(old_lab, "deploy-model", str(model), "--name", "digits")
    data.write_images(data.load().held_out, tmp_path / "images", tmp_path / "truth.csv")
    job = everywhere(cluster, "--model", "digits", tmp_path / "images", "--truth", tmp_path / "truth.csv")
    assert all(rank["images"] for rank in job["ranks"])
    assert job["accuracy"]["right"] / job["accuracy"]["labelled"] > 0.95
    slurm_gives(cluster, tmp_path / "images")
    both_serve(cluster)


def slurm_gives(cluster: Cluster, images: Path) -> None:
    """Slurm of this release, the oldest that slurm.yml takes, gives a job the TPUs of both boards."""
    clusteradm(cluster.lab, "bootstrap", "--playbook", "slurm.yml")
    assert cluster.on("head", "slurmctld", "-V").startswith("slurm-wlm 20.11")
    found = cluster.on("head", "sinfo", "-hN", "-o", "%N %T %G").split("\n")
    assert sorted(line for line in found if line) == ["head idle tpu:1", "w1 idle tpu:1"]
    job = everywhere(cluster, "--model", "digits", images, "--launcher", "slurm", "--wait")
    assert all(rank["images"] for rank in job["ranks"])
    account = ["sacct", "-X", "-n", "-P", "-o", "state,alloctres", "--name", f"clusteradm-{job['job']}"]
    wait(lambda: cluster.on("head", *account).startswith("COMPLETED|"))
    assert "gres/tpu=2" in cluster.on("head", *account).strip().partition("|")[2].split(",")
    second = clusteradm(cluster.lab, "bootstrap", "--playbook", "slurm.yml")
    assert [host["changed"] for host in second["hosts"].values()] == [0, 0]


def both_serve(cluster: Cluster) -> None:
    """The endpoint of this release, whose HAProxy is the oldest that there may be: each board answers."""
    clusteradm(cluster.lab, "serve", "up")
    assert "version 2.2." in cluster.on("head", "haproxy", "-v")
    clusteradm(cluster.lab, "serve", "deploy", "digits")
    digits = data.load().held_out
    rows = {"instances": [image[:, :, None].tolist() for image in digits.images[:20]]}
    url = f"http://{MANAGEMENT}.1:8501/v1/models/digits:predict"
    words = ["nsenter", f"--net={cluster.lab.places.netns}", "curl", "-sS", "-i", "--max-time", "30", "-d", "@-", url]
    boards = set()
    deadline = time.monotonic() + 60.0
    while boards != {"head", "w1"}:
        assert time.monotonic() < deadline, boards
        said = subprocess.run(words, input=json.dumps(rows), capture_output=True, text=True, check=True).stdout
        head, _, body = said.replace("\r", "").partition("\n\n")
        boards |= {line.split()[1] for line in head.split("\n") if line.lower().startswith("clusteradm-board:")}
        scores = np.array(json.loads(body)["predictions"])
        assert (scores.argmax(-1) == digits.labels[:20]).sum() >= 18
    clusteradm(cluster.lab, "serve", "down")
