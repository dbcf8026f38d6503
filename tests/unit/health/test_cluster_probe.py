"""Who can take part in MPI, found out with an mpirun and an ssh that behave as told."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from clusteradm.health import mpi
from clusteradm.inventory import Host
from clusteradm.node.probe import cluster

HOSTS = ["h", "a", "b", "c"]
ME = pwd.getpwuid(os.geteuid()).pw_name

# Starts on all hosts or on none, as the real one does; each name is said, and written where its host is a writer.
MPIRUN = """#!/bin/sh
echo "mpirun $*" >>$CALLS
while [ "$1" != --host ]; do shift; done
hosts=$2
while [ "$1" != sh ]; do shift; done
folder=$4 writers=" $7 "
for host in $(echo $hosts | tr , ' '); do
  case " $BROKEN $SILENT " in *" $host "*) echo "ORTE was unable to start on $host" >&2; exit 1 ;; esac
done
for host in $(echo $hosts | tr , ' '); do
  echo $host
  case "$writers" in *" $host "*) case " $ELSEWHERE " in *" $host "*) ;; *) echo $host >$folder/$host ;; esac ;; esac
done
echo noise
"""
SSH = """#!/bin/sh
echo "ssh $*" >>$CALLS
while [ $# -gt 2 ]; do shift; done
case " $SILENT " in *" $1 "*) echo "ssh: connect to host $1 port 22: Connection timed out" >&2; exit 255 ;; esac
"""


class Place:
    """Programs of the test's own on the path, and a share."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._calls, self.shared = folder / "calls", folder / "shared"
        self._patch = monkeypatch
        self.shared.mkdir()
        (folder / "bin").mkdir()
        for name, text in (("mpirun", MPIRUN), ("ssh", SSH)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("CALLS", str(self._calls))

    def ask(self, writers: list[str], **ills: str) -> dict[str, Any]:
        for name in ("BROKEN", "SILENT", "ELSEWHERE"):
            self._patch.setenv(name, ills.get(name.lower(), ""))
        self._calls.write_text("")
        found = {**cluster._ask(HOSTS, str(self.shared), writers), "writers": writers}
        assert list(self.shared.iterdir()) == [], "nothing is left on the share"
        return found

    def calls(self, program: str) -> int:
        return sum(line.startswith(program + " ") for line in self._calls.read_text().splitlines())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def states(found: dict[str, Any]) -> dict[str, str]:
    hosts = [Host(name, (), {"cluster_ip": "10.0.0.1"}, {}) for name in HOSTS]
    return {finding.host: finding.state for finding in mpi.judge(hosts, found)}


def test_where_all_is_well_mpi_is_started_once_and_nothing_else(place: Place) -> None:
    found = place.ask(HOSTS)
    assert set(states(found).values()) == {"OK"} and found["hello"]["wrote"] == sorted(HOSTS)
    assert (place.calls("mpirun"), place.calls("ssh")) == (1, 0)


def test_who_cannot_use_the_share_is_asked_alone_and_not_to_write(place: Place) -> None:
    found = place.ask(["h", "a", "b"])
    assert set(states(found).values()) == {"OK"} and found["hello"]["said"] == ["a", "b", "h"]
    assert found["apart"]["c"]["said"] == ["c"]
    found = place.ask(["h", "a", "b"], silent="c")
    assert states(found) == {"h": "OK", "a": "OK", "b": "OK", "c": "NO_LOGIN"}
    assert "timed out" in found["login"]["c"]["error"] and found["apart"] == {}


def test_nobody_can_use_the_share(place: Place) -> None:
    assert states(place.ask([], broken="b")) == {"h": "OK", "a": "OK", "b": "NO_START", "c": "OK"}


def test_who_lets_nobody_in_is_left_out_and_the_others_are_asked_again(place: Place) -> None:
    found = place.ask(HOSTS, silent="b")
    assert states(found) == {"h": "OK", "a": "OK", "b": "NO_LOGIN", "c": "OK"}
    assert found["hello"]["said"] == ["a", "c", "h"] and place.calls("mpirun") == 2


def test_who_cannot_start_a_process_is_told_from_those_that_it_holds_up(place: Place) -> None:
    found = place.ask(HOSTS, broken="a")
    assert states(found) == {"h": "HELD_UP", "a": "NO_START", "b": "HELD_UP", "c": "HELD_UP"}
    assert "unable to start on a" in found["apart"]["a"]["error"]


def test_who_writes_elsewhere(place: Place) -> None:
    assert states(place.ask(HOSTS, elsewhere="c"))["c"] == "OTHER_SHARE"


def test_a_head_whose_share_cannot_be_written(place: Place) -> None:
    place.shared.rmdir()
    request = {"user": ME, "shared": str(place.shared), "hosts": HOSTS, "writers": HOSTS}
    with pytest.raises(OSError, match="No such file"):
        cluster.run(request, lambda reply: None)
