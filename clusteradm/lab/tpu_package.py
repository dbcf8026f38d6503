"""The Debian package of the simulated Edge TPU's library: `libedgetpu1-std`, as the real one is called."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from clusteradm.lab.machine import run

SOURCE = Path(__file__).with_name("device")
# The model of a trial, compiled for the simulated device: it refuses what the real compiler made (node/probe/trial.py).
TRIAL_MODEL = Path("usr/share/libedgetpu1-std/trial_edgetpu.tflite")
_DIGITS = Path(__file__).with_name("digits") / "digits.tflite"
# Numbered as a rebuild for current TFLite runtimes, which any of them loads, and as Google's last, which was compiled
# against older structures and crashes current runtimes. "lab" says whose they are.
VERSION = "16.0TF2.19.1-1+lab4"
OLD_VERSION = "16.0~lab4"

_CONTROL = """\
Package: libedgetpu1-std
Version: {version}
Architecture: {architecture}
Maintainer: clusteradm lab <lab@localhost>
Depends: libc6
Section: libs
Priority: optional
Description: SIMULATED Edge TPU library of the clusteradm lab
 Speaks to a process of the lab in place of an Edge TPU. Of no use outside a virtual board.
"""


def build(folder: Path) -> list[Path]:
    """Compile both libraries with the machine's gcc and pack them into `folder`; return the .deb files."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = run(["dpkg", "--print-architecture"]).strip()
    triplet = run(["gcc", "-print-multiarch"]).strip()
    packages = []
    with tempfile.TemporaryDirectory(prefix="clusteradm-tpu-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir(mode=0o755)
        library = root / "usr" / "lib" / triplet
        library.mkdir(parents=True)
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN" / "triggers").write_text("activate-noawait ldconfig\n", encoding="utf-8")
        (library / "libedgetpu.so.1").symlink_to("libedgetpu.so.1.0")
        compile_trial_model(root / TRIAL_MODEL)
        for version in (VERSION, OLD_VERSION):
            control = _CONTROL.format(version=version, architecture=architecture)
            (root / "DEBIAN" / "control").write_text(control, encoding="utf-8")
            compile_library(library / "libedgetpu.so.1.0", old=version == OLD_VERSION)
            package = folder / f"libedgetpu1-std_{version}_{architecture}.deb"
            run(["dpkg-deb", "--root-owner-group", "--build", str(root), str(package)])
            packages.append(package)
    return packages


def compile_trial_model(target: Path) -> None:
    """Write the model of a trial to `target`."""
    from clusteradm.lab.compiler import compile_file  # needs the packages of the extra `lab`

    target.parent.mkdir(parents=True)
    compile_file(_DIGITS, target)
    target.chmod(0o644)


def compile_library(target: Path, places: Mapping[str, Path] | None = None, *, old: bool = False) -> None:
    """Compile device/libedgetpu.c to the shared library `target`.

    `places`: other folders than a board's for its macros SOCKETS, CLASS and DEV; `old`: of the structures of Google's.
    """
    defines = [f'-D{name}="{place}"' for name, place in (places or {}).items()]
    defines += ["-DOLD_STRUCTURES"] if old else []
    run(
        [
            *("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-s"),
            *("-fvisibility=hidden", "-Wl,-soname,libedgetpu.so.1", "-o", str(target), str(SOURCE / "libedgetpu.c")),
            *defines,
            "-pthread",
        ]
    )
