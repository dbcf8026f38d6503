"""Debian package of clusteradm, with the Python packages that it needs in a virtual environment of its own.

    python packaging/deb.py build/deb [--python 3.11]

Debian 12 has no Fabric, Paramiko and Invoke that are new enough, so that the package cannot depend on them. It has the
versions of constraints.txt, as wheels for the release's Python: 3.11 for Debian 12, 3.13 for Debian 13. Nothing is
compiled, and the Python that builds it need not be that of the package.
"""

from __future__ import annotations

import argparse
import email
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "clusteradm"
HOME = f"usr/lib/{NAME}"
PLATFORMS = {
    "amd64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "arm64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
}
MAINTAINER = os.environ.get("DEBEMAIL", "clusteradm maintainers <clusteradm@packages.invalid>")

PROGRAM = f"""\
#!/{HOME}/bin/python3
import sys

from clusteradm.cli.main import main

sys.exit(main())
"""
CONTROL = """\
Package: {name}
Version: {version}
Section: admin
Priority: optional
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: python3 (>= {python}), python3 (<< {next}), libc6, openssh-client
Recommends: bash-completion
Description: make a cluster of machines with Edge TPUs, and use it
 clusteradm provisions a Beowulf cluster of machines with Coral Edge TPUs
 (Coral Dev Boards, or PCs): a private network, a shared file system, MPI,
 verified Edge TPUs, models deployed once, and inference jobs over all TPUs.
 .
 It is installed on the machine of the administrator; the hosts need SSH alone.
 The virtual cluster (clusteradm lab) and the conversion of models need Python
 packages that this one does not have: install those with pip instead.
"""
# Compiled when installed, as Debian does, and so that root's runs leave nothing behind.
POSTINST = f"""\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    /{HOME}/bin/python3 -m compileall -q /{HOME}/lib >/dev/null || true
fi
"""
PRERM = f"""\
#!/bin/sh
set -e
find /{HOME}/lib -depth -type d -name __pycache__ -exec rm -rf {{}} +
"""
# Why lintian's rules for packages of Debian itself are not kept.
OVERRIDES = f"""\
# Wheels of other projects, as they publish them: nothing is compiled here.
{NAME}: embedded-library *
{NAME}: unstripped-binary-or-object *
{NAME}: library-not-linked-against-libc *
{NAME}: shared-library-lacks-prerequisites *
{NAME}: shared-library-lacks-stack-section *
{NAME}: binary-with-bad-dynamic-table *
{NAME}: custom-library-search-path *
{NAME}: package-contains-documentation-outside-usr-share-doc *
{NAME}: extra-license-file *
{NAME}: script-not-executable *
{NAME}: executable-not-elf-or-script *
{NAME}: python-module-in-wrong-location *
{NAME}: unusual-interpreter *
{NAME}: wrong-path-for-interpreter *
# It is not for the archive, where a package closes a bug.
{NAME}: initial-upload-closes-no-bugs *
"""


def main() -> None:
    """Build it and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to put it")
    parser.add_argument("--python", default="3.11", metavar="X.Y", help="Python of the release (default: %(default)s)")
    args = parser.parse_args()
    print(build(args.folder, args.python))


def build(folder: Path, python: str) -> Path:
    """The package for the release whose Python is `python`, and for this machine's architecture."""
    architecture = _output("dpkg", "--print-architecture")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # Not 0700, as the scratch folder itself: it becomes the package's root.
        root = Path(scratch, "root")
        root.mkdir(mode=0o755)
        os.umask(0o022)
        _environment(root, python, architecture, Path(scratch))
        version = _version(root, python)
        _files(root, version)
        _control(root, version, python, architecture)
        path = folder / f"{NAME}_{version}_{architecture}.deb"
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(int(_date().timestamp()))}
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(root), str(path)]
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    return path


def _environment(root: Path, python: str, architecture: str, scratch: Path) -> None:
    """The virtual environment: what `python -m venv` makes, with the wheels in it."""
    home = root / HOME
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3").symlink_to(f"../../../bin/python{python}")
    (home / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = scratch / "source"
    source.mkdir()
    # Of what git knows: a build in the checkout would leave its folders there.
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    packed = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=names, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(source)], input=packed.stdout, check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(scratch), str(source)], check=True)
    (wheel,) = scratch.glob("*.whl")
    platforms = [word for each in PLATFORMS[architecture] for word in ("--platform", each)]
    command = [*pip, "install", "--no-compile", "--only-binary=:all:", "--implementation=cp", *platforms]
    command += [f"--python-version={python}", "-c", str(ROOT / "constraints.txt")]
    command += ["--target", str(_packages(root, python)), str(wheel)]
    subprocess.run(command, check=True)
    # Of a --target installation: programs that start with the building machine's Python.
    shutil.rmtree(_packages(root, python) / "bin", ignore_errors=True)
    for path in _packages(root, python).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    # They say where they were built.
    for name in ("direct_url.json", "RECORD", "REQUESTED", "INSTALLER"):
        for path in _packages(root, python).glob(f"*.dist-info/{name}"):
            path.unlink()


def _packages(root: Path, python: str) -> Path:
    return root / HOME / f"lib/python{python}/site-packages"


def _version(root: Path, python: str) -> str:
    (folder,) = _packages(root, python).glob(f"{NAME}-*.dist-info")
    return folder.name.removeprefix(f"{NAME}-").removesuffix(".dist-info")


def _files(root: Path, version: str) -> None:
    """What Debian expects beside the program: manual pages, completion, changelog, copyright, overrides."""
    program = root / f"usr/bin/{NAME}"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, str(ROOT / "docs/man.py"), scratch], check=True, cwd=ROOT)
        for page in sorted(Path(scratch).iterdir()):
            _compressed(root / f"usr/share/man/man1/{page.name}.gz", page.read_text(encoding="utf-8"))
    for shell, path in (
        ("bash", f"bash-completion/completions/{NAME}"),
        ("zsh", f"zsh/vendor-completions/_{NAME}"),
        ("fish", f"fish/vendor_completions.d/{NAME}.fish"),
    ):
        command = [sys.executable, "-m", NAME, "completion", shell]
        script = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        _text(root / "usr/share" / path, script)
    about = root / f"usr/share/doc/{NAME}"
    entry = f"{NAME} ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the source.\n\n"
    _compressed(about / "changelog.gz", f"{entry} -- {MAINTAINER}  {format_datetime(_date())}\n")
    _text(about / "copyright", "\n".join(_copyright(root)))
    _text(root / f"usr/share/lintian/overrides/{NAME}", OVERRIDES)


def _copyright(root: Path) -> Iterator[str]:
    """The licence of clusteradm, and those of the packages that it brings, as their metadata names them."""
    yield f"{NAME} is licensed under the Apache License, version 2.0: /usr/share/common-licenses/Apache-2.0"
    yield f"Copyright (C) 2025-2026 the authors of {NAME}\n"
    yield f"Packages of others, in /{HOME}; the texts of their licences are there, in *.dist-info:\n"
    for path in sorted(root.rglob("*.dist-info/METADATA")):
        about = email.message_from_string(path.read_text(encoding="utf-8", errors="replace"))
        licence = about.get("License-Expression") or about.get("License") or ""
        kinds = [value.rpartition(" :: ")[2] for value in about.get_all("Classifier", ()) if "License ::" in value]
        line = licence.splitlines()[0] if licence else ", ".join(kinds)
        yield textwrap.fill(
            f"{about['Name']} {about['Version']}: {line or 'see its files'}", 78, subsequent_indent="  "
        )
    yield ""


def _control(root: Path, version: str, python: str, architecture: str) -> None:
    folder = root / "DEBIAN"
    folder.mkdir()
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and folder not in path.parents
    )
    size = sum(path.stat().st_size for path in files) // 1024 + 1
    major, minor = map(int, python.split("."))
    fields = {"name": NAME, "version": version, "architecture": architecture, "maintainer": MAINTAINER, "size": size}
    _text(folder / "control", CONTROL.format(**fields, python=python, next=f"{major}.{minor + 1}"))
    for name, text in (("postinst", POSTINST), ("prerm", PRERM)):
        _text(folder / name, text)
        (folder / name).chmod(0o755)
    sums = _output("md5sum", *(str(path.relative_to(root)) for path in files), cwd=root)
    _text(folder / "md5sums", sums + "\n")


def _compressed(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _date() -> datetime:
    """The time of the last commit, so that the same source makes the same package."""
    return datetime.fromtimestamp(int(_output("git", "log", "-1", "--format=%ct", cwd=ROOT)), timezone.utc)


def _output(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, check=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
