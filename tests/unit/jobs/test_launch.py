"""mpirun's command: by which options the death of a rank ends no other, by the generation of Open MPI."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusteradm.node.job import launch

NO_SLEEP = ["odls_base_sigkill_timeout", "0"]
RECOVERY = ["--mca", "orte_enable_recovery", "1", "--mca", *NO_SLEEP]
ULFM = ["--runtime-options", "recoverable", "--with-ft", "ulfm", "--prtemca", *NO_SLEEP]


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ("mpirun (Open MPI) 3.1.3\n\nReport bugs to http://www.open-mpi.org/community/help/", RECOVERY),
        ("mpirun (Open MPI) 4.1.4", RECOVERY),
        ("mpirun (Open MPI) 5.0.7", ULFM),
        ("mpirun (Open MPI) 10.0.0", ULFM),
        ("something else", RECOVERY),
    ],
)
def test_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, options: list[str]) -> None:
    program = tmp_path / "mpirun"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(launch.child, "mpirun", lambda: str(program))
    words = launch.command("hosts", 2, "python3", "/own", 1)
    assert " ".join(options) in " ".join(words)
    assert words[words.index("-np") + 1] == "3"
