"""MPI between the hosts and the export, judged from what the probes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clusteradm.health import mpi
from clusteradm.inventory import Host
from clusteradm.node.probe import cluster as cluster_probe
from clusteradm.node.probe import share

HOSTS = [Host(name, (), {"cluster_ip": f"10.0.0.{number}"}, {}) for number, name in enumerate(("h", "a", "b", "c"), 1)]
LOGIN = {host.name: {"ok": True} for host in HOSTS}


def judged(hello: dict[str, Any], apart: dict[str, Any] | None = None) -> dict[str, tuple[str, str]]:
    document = {"login": LOGIN, "hello": hello, "apart": apart or {}}
    return {finding.host: (finding.state, finding.cause or finding.detail) for finding in mpi.judge(HOSTS, document)}


def test_the_host_that_holds_up_the_others_is_named() -> None:
    good, bad = {"ok": True, "said": ["h"], "wrote": ["h"]}, {"ok": False, "error": "orted: not found"}
    apart = {name: {**good, "said": [name]} for name in ("h", "a", "c")} | {"b": bad}
    found = judged({"ok": False, "error": "An ORTE daemon has unexpectedly failed"}, apart)
    assert found["b"] == ("NO_START", "mpirun did not start a process there: orted: not found")
    assert found["a"] == ("HELD_UP", "mpirun starts a process there, but not together with b")
    # A survey of before, which asked nobody alone.
    assert judged({"ok": False, "error": "x"})["a"][0] == "NO_START"


def test_the_slowest_link_is_named_and_a_slow_host_found() -> None:
    names = [host.name for host in HOSTS]
    pairs = [[a, b, 0.0002, 12e6 if "c" in (a, b) else 110e6] for n, a in enumerate(names) for b in names[n + 1 :]]
    found = judged({"ok": True, "said": names, "wrote": names, "pairs": pairs})
    assert found["c"][0] == "SLOW_LINK" and "12 MB/s" in found["c"][1]
    assert found["h"] == ("OK", "12 MB/s and 200 µs to c, the slowest")
    assert judged({"ok": True, "said": names, "wrote": names})["h"] == ("OK", "ok")


def test_what_the_ranks_say_of_their_pairs() -> None:
    assert cluster_probe._pairs(["h", "noise {", '{"pairs": [["h", "a", 0.1, 5.0]]}']) == [["h", "a", 0.1, 5.0]]
    assert cluster_probe._pairs(["h"]) == []
    compile(cluster_probe._PAIRS, "pairs", "exec")


# A head whose Ganesha (an IPv6 socket) listens at 10.0.0.1, and an sshd everywhere.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100000A:0801 0200000A:0385 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
"""
TCP6 = "   0: 0000000000000000FFFF00000100000A:0801 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1\n"
EVERYWHERE = "   0: 00000000000000000000000000000000:0801 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1\n"


def test_where_an_nfs_server_listens() -> None:
    assert share.listens(TCP, TCP6) == ["10.0.0.1"]
    assert share.listens(TCP, EVERYWHERE) == ["*"]
    assert share.listens("", "") == []


def test_what_root_may_do_on_the_export(tmp_path: Path) -> None:
    assert share.use(str(tmp_path)) == {}
    assert share.as_root(str(tmp_path)) == {"squashed": tmp_path.stat().st_uid != 0}
    assert list(tmp_path.iterdir()) == []
