"""The install lines of README, as a person of a clean Debian machine types them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from clusteradm.lab import machine, sources
from clusteradm.lab.cache import Building, Cache, default_root
from clusteradm.lab.suites import SUITES

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parents[2]
HEADING = "## Install it\n"


def blocks() -> list[list[str]]:
    """The lines of each block of commands below the heading."""
    text = (ROOT / "README.md").read_text().split(HEADING)[1].split("\n## ")[0]
    return [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def clean_root(suite: str) -> Path:
    """A Debian system with sudo and nothing else, cached."""
    options = ['APT::Install-Recommends "false"', *(option.rstrip(";") for option in sources.apt_options())]

    def build(building: Building) -> None:
        command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--components=main"]
        command.append("--include=sudo,ca-certificates")
        command += [f"--aptopt={option}" for option in options]
        command += [suite, str(building.path), *sources.mirrors(SUITES[suite])]
        machine.run(command, keep_open=[building.lock])
        settings = "".join(f"{line}\n" for line in sources.apt_options())
        (building.path / "etc/apt/apt.conf.d/90clusteradm-test").write_text(settings)

    return Cache(default_root()).part(
        f"clean-{suite}", [suite, *options], build, print, "a Debian system with sudo alone"
    )


def pip_settings() -> tuple[list[str], list[str]]:
    """Options of systemd-nspawn that give this machine's package index to pip there: environment, files."""
    words = [value for name, value in os.environ.items() if name.startswith("PIP_")]
    configured = subprocess.run(["pip3", "config", "list"], capture_output=True, text=True, check=False).stdout
    words += re.findall(r"'(.*?)'", configured)
    named = {
        Path(word.removeprefix("file://")) for text in words for word in text.split() if re.match("(file://)?/", word)
    }
    files = {Path("/etc/pip.conf"), Path("/etc/xdg/pip"), Path("/etc/ssl/certs"), Path("/etc/resolv.conf"), *named}
    env = [f"--setenv={name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    return env, [f"--bind-ro={path}" for path in sorted(files) if path.exists()]


def typed(suite: str, lines: list[str], clone: Path) -> subprocess.CompletedProcess[str]:
    """The lines in the clone, by a person who may use sudo; what comes after "open a new shell" in a new one."""
    new = next((number for number, line in enumerate(lines, 1) if "open a new shell" in line), len(lines))
    shells = [lines[:new], lines[new:]]
    # The installer of Debian leaves the package lists behind.
    script = "apt-get -qq update\nuseradd -m -s /bin/bash person\ncp -r /clone /home/person\n"
    script += "chown -R person /home/person/clone\necho 'person ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/person\n"
    for number, shell in enumerate(shells):
        words = "\n".join(["set -e", "cd ~/clone", *shell])
        script += f"cat >/tmp/shell{number} <<'EOF'\n{words}\nEOF\n"
        script += f"su - person -w \"$(compgen -e | paste -sd,)\" -c 'bash -x /tmp/shell{number}' || exit 1\n"
    env, binds = pip_settings()
    command = ["systemd-nspawn", "--quiet", "--directory", str(clean_root(suite)), "--volatile=overlay"]
    command += ["--hostname=debian", "--as-pid2", "--pipe", "--register=no", "--keep-unit"]
    command += [*env, *binds, f"--bind-ro={clone}:/clone", "--resolv-conf=off", "bash", "-e"]
    return subprocess.run(command, input=script, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clone") / "clusteradm"
    path.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    archive = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=files, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", path], input=archive.stdout, check=True)
    return path


@pytest.mark.parametrize(("suite", "number"), [("bookworm", 0), ("bookworm", 1), ("trixie", 0)])
def test_the_install_lines(lab_machine: None, clone: Path, suite: str, number: int) -> None:
    lines = blocks()[number]
    assert lines[-1].endswith("clusteradm help")
    done = typed(suite, lines, clone)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "bootstrap" in done.stdout and "examples:" in done.stdout
