"""Package repositories of the lab: downloaded closures, indexed and signed with a key that the lab makes for itself."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

from clusteradm.lab.cache import Building
from clusteradm.lab.machine import LabError, run


def make_key(building: Building) -> None:
    """A signing key without passphrase: the GnuPG home itself, and `key.asc`, the public half."""
    home = building.path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    try:
        run(
            [
                *gpg,
                "--passphrase",
                "",
                "--quick-gen-key",
                "clusteradm lab (signs nothing real)",
                "ed25519",
                "sign",
                "never",
            ]
        )
        (building.path / "key.asc").write_text(run([*gpg, "--export", "--armor"]), encoding="ascii")
    finally:
        run(["gpgconf", "--homedir", str(home), "--kill", "all"])


def download(building: Building, base: Path, packages: Sequence[str]) -> None:
    """Download `packages` and all that they need beyond what the root file system `base` already has."""
    work = building.path / ".apt"
    archives = work / "archives"
    (archives / "partial").mkdir(parents=True)
    (work / "lists" / "partial").mkdir(parents=True)
    configuration = work / "apt.conf"
    configuration.write_text(
        f'Dir "{base}/";\n'
        f'Dir::State::status "{base}/var/lib/dpkg/status";\n'
        f'Dir::State::lists "{work}/lists/";\n'
        f'Dir::State::extended_states "{work}/extended_states";\n'
        f'Dir::Cache "{work}/";\n'
        f'Dir::Cache::archives "{archives}/";\n'
        f'Dir::Log "{work}/";\n'
        'APT::Sandbox::User "root";\n'
        'Dir::Bin::dpkg "/usr/bin/dpkg";\n',
        encoding="utf-8",
    )
    apt = ["apt-get", "-q", "-y", "--no-install-recommends"]
    env = {"APT_CONFIG": str(configuration), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    run([*apt, "update"], env=env, keep_open=[building.lock])
    run([*apt, "--download-only", "install", *packages], env=env, keep_open=[building.lock])
    found = list(archives.glob("*.deb"))
    if not found:
        raise LabError(f"no packages were downloaded for {' '.join(packages)}")
    for package in found:
        # apt writes a colon of a version as %3a, which a web server would take for the colon again.
        package.rename(building.path / package.name.replace("%3a", ":"))
    run(["rm", "-rf", str(work)])


def index(place: Path, origin: str, key: Path, *, release_dir: Path | None = None, suite: str = "lab") -> None:
    """Write Packages and a signed Release for the .deb files below `place`.

    A flat repository, or, with `release_dir` (`dists/SUITE`), the usual layout with one component, `main`.
    """
    architecture = run(["dpkg", "--print-architecture"]).strip()
    top = place if release_dir is None else place / release_dir
    folder = top if release_dir is None else top / "main" / f"binary-{architecture}"
    folder.mkdir(parents=True, exist_ok=True)
    text = run(["dpkg-scanpackages", "--multiversion", ".", "/dev/null"], cwd=place).encode()
    (folder / "Packages").write_bytes(text)
    (folder / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
    lines = [
        f"Origin: {origin}",
        f"Label: {origin}",
        f"Suite: {suite}",
        f"Codename: {suite}",
        f"Date: {email.utils.formatdate(usegmt=True)}",
        f"Architectures: {architecture}",
        "Components: main",
        "SHA256:",
    ]
    for name in ("Packages", "Packages.gz"):
        body = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(body).hexdigest()} {len(body)} {(folder / name).relative_to(top)}")
    (top / "Release").write_text("\n".join(lines) + "\n", encoding="utf-8")
    home = str(key / "gnupg")
    gpg = ["gpg", "--homedir", home, "--batch", "--yes", "--quiet"]
    try:
        run([*gpg, "--clearsign", "--output", str(top / "InRelease"), str(top / "Release")])
        run([*gpg, "--detach-sign", "--armor", "--output", str(top / "Release.gpg"), str(top / "Release")])
    finally:
        run(["gpgconf", "--homedir", home, "--kill", "all"])
