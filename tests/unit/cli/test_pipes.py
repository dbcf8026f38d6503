"""A reader that has gone (`clusteradm ... | head -1`): no message, exit status 141; a full disk: one line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import warm

from . import hostile

# `main` with these words, on fake hosts.
PROGRAM = f"""
import os, sys
sys.path.insert(0, {str(Path(hostile.__file__).parent)!r})
import hostile
from clusteradm.cli.main import main
with hostile.hosts("text").installed():
    sys.exit(main(sys.argv[1:]))
"""
COMMANDS = [
    "--help",
    "--version",
    "help health",
    "health --help",
    "inventory --list",
    "inventory --host w1",
    "inventory --graph",
    "inventory --origin",
    "inventory --origin --json",
    "template show --host w1 --playbook {0}/playbook.yml {0}/text.j2",
    "drain",
    "drain --json",
    "model list",
    "model show m",
    "job list",
    "job list --json",
    "job logs " + hostile.JOB,
    "tpu reset w1:apex_0",
    "health",
    "health --watch",
    "health --from {0}/saved.json -v",
    "health --from {0}/saved.json --json",
    "health --from {0}/saved.json --format prometheus",
    "health --from {0}/saved.json --format nagios",
    "bootstrap --playbook {0}/playbook.yml",
]


def finished(folder: Path, words: str, stdout: int, stderr: int | None = None) -> tuple[int, str]:
    """Exit status; what is written to standard error, unless it is given."""
    hostile.prepare(folder, "text")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env["CLUSTERADM_INVENTORY"] = str(folder / "inventory.yml")
    program = [sys.executable, "-c", PROGRAM, *words.format(folder).split()]
    with open(os.devnull) as nothing, open(folder / "errors", "w+") as errors:
        streams = (nothing.fileno(), stdout, errors.fileno() if stderr is None else stderr)
        status = warm.start(program, streams, env).wait(60)
        errors.seek(0)
        return status, errors.read()


def without_reader() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("words", COMMANDS)
def test_the_reader_has_gone(tmp_path: Path, words: str) -> None:
    pipe = without_reader()
    try:
        # Where it writes no data, or a host says no, that is the result; never a traceback.
        status, err = finished(tmp_path, words, pipe)
        assert status == 141
        assert re.fullmatch(r'(cluster "cluster" \(2 hosts, .*\)\n)?', err)
    finally:
        os.close(pipe)


@pytest.mark.parametrize("words", ["health --nothing", "nothing", "job show x", "bootstrap --limit nothing", "model"])
def test_the_reader_of_the_errors_has_gone(tmp_path: Path, words: str) -> None:
    pipe = without_reader()
    try:
        assert finished(tmp_path, words, pipe, pipe)[0] in (2, 141)
    finally:
        os.close(pipe)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_files_that_are_closed(tmp_path: Path, closed: str) -> None:
    """A connection or a file must not get the number of standard output, and nothing is said of what nobody reads."""
    hostile.prepare(tmp_path, "text")
    words = [sys.executable, "-m", "clusteradm", "inventory", "-i", str(tmp_path / "inventory.yml"), "--graph"]
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {shlex.join(words)} {closed}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_run_whose_reader_goes_ends_as_after_ctrl_c(tmp_path: Path) -> None:
    hostile.prepare(tmp_path, "text")
    (tmp_path / "playbook.yml").write_text("- {name: one, hosts: all, tasks: [{command: x}]}\n" * 3)
    program = shlex.join([sys.executable, "-c", PROGRAM, "bootstrap", "--playbook", str(tmp_path / "playbook.yml")])
    script = f"{program} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "CLUSTERADM_INVENTORY": str(tmp_path / "inventory.yml")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 141 and done.stdout.startswith("one: w1 head") and done.stderr.count("\n") == 1
    # What --retry-failed goes by.
    assert (tmp_path / "inventory.playbook.retry").read_text().split() == ["w1", "head"]


@pytest.mark.parametrize("words", ["--help", "inventory --graph", "inventory --list", "inventory --origin --json"])
def test_a_full_disk(words: str, tmp_path: Path) -> None:
    hostile.prepare(tmp_path, "text")
    which = ["-i", str(tmp_path / "inventory.yml")] if words.startswith("inventory") else []
    with open("/dev/full", "w") as full:
        # A process of its own: what the interpreter itself says at its end counts, too.
        command = [sys.executable, "-m", "clusteradm", *words.split(), *which]
        done = subprocess.run(command, stdout=full, stderr=-1, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "clusteradm: error: cannot write to standard output: No space left on device"
    assert done.stderr.count("\n") == 1 + bool(which)  # and the line with the cluster
