"""Who can take part in MPI, found out with an mpirun and an ssh that behave as told."""

from __future__ import annotations

import os
import pwd
import types
from pathlib import Path
from typing import Any

import pytest

from clusteradm.health.checks import mpi
from clusteradm.health.finding import Finding
from clusteradm.inventory import Host
from clusteradm.node.probe import cluster

HOSTS = ["h", "a", "b", "c"]
SIXTEEN = ["h", *(f"w{number}" for number in range(1, 16))]
ME = pwd.getpwuid(os.geteuid()).pw_name

# Starts on all hosts or on none, as the real one does; each name is said, and written where its host is a writer.
MPIRUN = """#!/bin/sh
echo "mpirun $*" >>$CALLS
while [ "$1" != --host ]; do shift; done
hosts=$2
while [ "$1" != sh ]; do shift; done
folder=$4 writers=" $7 "
case "$hosts" in *,*) [ -z "$APART" ] || { echo "$APART" >&2; exit 1; } ;; esac
for host in $(echo $hosts | tr , ' '); do
  case " $BROKEN $SILENT " in *" $host "*) echo "ORTE was unable to start on $host" >&2; exit 1 ;; esac
done
for host in $(echo $hosts | tr , ' '); do
  echo $host
  case "$writers" in *" $host "*) case " $ELSEWHERE " in *" $host "*) ;; *) echo $host >$folder/$host ;; esac ;; esac
done
echo noise
case "$hosts" in *,*) [ -z "$MUTE" ] || { echo "$MUTE" >&2; exit 1; } ;; esac
case "$hosts" in *,*) sleep ${HANGS:-0} ;; esac
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
        (self.shared / "jobs").mkdir(parents=True)
        (folder / "bin").mkdir()
        for name, text in (("mpirun", MPIRUN), ("ssh", SSH)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("CALLS", str(self._calls))

    def ask(self, writers: list[str], hosts: list[str] = HOSTS, **ills: str) -> dict[str, Any]:
        for name in ("BROKEN", "SILENT", "ELSEWHERE", "APART", "MUTE", "HANGS"):
            self._patch.setenv(name, ills.get(name.lower(), ""))
        self._calls.write_text("")
        found = {**cluster._ask(hosts, str(self.shared), writers), "writers": writers}
        assert list((self.shared / "jobs").iterdir()) == [], "nothing is left on the share"
        return found

    def calls(self, program: str) -> int:
        return sum(line.startswith(program + " ") for line in self._calls.read_text().splitlines())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def judged(found: dict[str, Any], head: str = "h") -> dict[str, Finding]:
    hosts = [Host(name, ("head",) if name == head else (), {"cluster_ip": "10.0.0.1"}, {}) for name in found["login"]]
    return {finding.host: finding for finding in mpi.judge(hosts, found, {})}


def states(found: dict[str, Any]) -> dict[str, str]:
    return {host: finding.state for host, finding in judged(found).items()}


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


def test_of_many_that_cannot_use_the_share_each_is_asked_alone(place: Place) -> None:
    found = place.ask(["h"], SIXTEEN)
    assert set(states(found).values()) == {"OK"} and len(found["apart"]) == 15


def test_one_of_many_that_cannot_start_a_process_is_found(place: Place) -> None:
    found = judged(place.ask(SIXTEEN, SIXTEEN, broken="w12"))
    assert found.pop("w12").state == "NO_START"
    assert {(one.state, one.cause) for one in found.values()} == {
        ("HELD_UP", "mpirun starts a process there, but not together with w12")
    }


def test_who_would_be_asked_too_late_is_not_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    last = cluster._SECONDS - cluster._RESERVE - cluster._ALONE_SECONDS - cluster._GRACE - 1
    times = iter((0.0, last - 1, last + 1))
    monkeypatch.setattr(cluster, "time", types.SimpleNamespace(monotonic=lambda: next(times)))
    found = place.ask(["h", "w1"], SIXTEEN)
    assert len(found["apart"]) == cluster._AT_ONCE and set(states(found).values()) == {"OK"}
    assert judged(found)["w2"].detail == "ok, asked alone" and judged(found)["w15"].detail == "n/a, not asked"
    # Nor where mpirun has failed with it.
    times = iter((0.0, last - 1, last + 1))
    found = place.ask(SIXTEEN, SIXTEEN, broken="w3")
    assert (states(found)["w3"], states(found)["w1"], states(found)["w15"]) == ("NO_START", "HELD_UP", "OK")


def test_the_worst_case_asks_some_alone_and_ends_in_time() -> None:
    """Twice all together to no avail, and a login between; each kill is waited for."""
    together = 2 * (cluster._MPI_SECONDS + cluster._GRACE + 1) + cluster._LOGIN_SECONDS + 1
    alone = cluster._ALONE_SECONDS + cluster._GRACE + 1
    assert together + alone <= cluster._SECONDS - cluster._RESERVE


def test_nobody_is_guilty_where_each_starts_alone(place: Place) -> None:
    found = judged(place.ask(HOSTS, apart="ORTE has lost communication"))
    assert {(one.state, one.cause) for one in found.values()} == {
        (
            "HELD_UP",
            "mpirun starts a process there alone, but not together with the others: ORTE has lost communication",
        )
    }
    assert "mpirun --hostfile" in found["a"].remedy
    # Who cannot use the share was not among them, and holds nobody up.
    found = judged(place.ask(["h", "a", "b"], apart="x", broken="c"))
    assert found["c"].state == "NO_START" and found["a"].cause.endswith("not together with the others: x")


def test_processes_that_start_and_exchange_nothing_are_the_heads_finding(place: Place) -> None:
    found = place.ask(HOSTS, mute="Connection refused")
    assert states(found) == {"h": "NO_MESSAGES", "a": "OK", "b": "OK", "c": "OK"}
    assert judged(found)["h"].cause.endswith("exchange messages: Connection refused")
    assert "openmpi-mca-params.conf" in judged(found)["h"].remedy and place.calls("mpirun") == 1
    found["hello"]["pairs"] = [["h", "a", 0.1, 5.0]]
    assert set(states(found).values()) == {"OK"}, "who measured did exchange messages"
    # The head was not asked together with the others: the first that was has it.
    found = place.ask(["a", "b", "c"], mute="x")
    assert states(found) == {"h": "OK", "a": "NO_MESSAGES", "b": "OK", "c": "OK"}


def test_processes_that_wait_for_messages_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_MPI_SECONDS", 3)
    found = place.ask(HOSTS, hangs="60")
    assert judged(found)["h"].state == "NO_MESSAGES" and place.calls("mpirun") == 1
    assert "mpirun did not end in time" in judged(found)["h"].cause


def test_where_there_is_nobody_to_ask_together_nothing_has_failed(place: Place) -> None:
    found = place.ask([], broken="b")
    assert found["hello"]["ok"] and "error" not in found["hello"]
    assert judged(found)["b"].cause.endswith("unable to start on b") and place.calls("mpirun") == 4
    found = place.ask(HOSTS, silent="h a b c")
    assert set(states(found).values()) == {"NO_LOGIN"} and "error" not in found["hello"]


def test_who_writes_elsewhere(place: Place) -> None:
    assert states(place.ask(HOSTS, elsewhere="c"))["c"] == "OTHER_SHARE"


def test_a_head_whose_share_cannot_be_written(place: Place) -> None:
    (place.shared / "jobs").rmdir()
    request = {"user": ME, "shared": str(place.shared), "hosts": HOSTS, "writers": HOSTS}
    with pytest.raises(OSError, match="No such file"):
        cluster.run(request, lambda reply: None)
