"""MPI between the hosts and the export, judged from what the probes say."""

from __future__ import annotations

import itertools
import os
import pwd
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.health.checks import mpi
from clusteradm.inventory import Host
from clusteradm.node.probe import cluster as cluster_probe
from clusteradm.node.probe import pairs, share

HOSTS = [Host(name, (), {"cluster_ip": f"10.0.0.{number}"}, {}) for number, name in enumerate(("h", "a", "b", "c"), 1)]
LOGIN = {host.name: {"ok": True} for host in HOSTS}


def judged(hello: dict[str, Any], apart: dict[str, Any] | None = None) -> dict[str, tuple[str, str]]:
    document = {"login": LOGIN, "hello": hello, "apart": apart or {}}
    return {
        finding.host: (finding.state, finding.cause or finding.detail) for finding in mpi.judge(HOSTS, document, {})
    }


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


def test_a_single_link_does_not_say_whose_fault_it_is() -> None:
    names = [host.name for host in HOSTS]
    pairs = [["h", "a", 0.1, 110e6], ["h", "b", 0.1, 110e6], ["a", "b", 0.1, 110e6], ["h", "c", 0.1, 12e6]]
    found = judged({"ok": True, "said": names, "wrote": names, "pairs": pairs})
    assert found["c"] == ("OK", "12 MB/s and 100000 µs to h, the slowest")


def test_what_the_ranks_say_of_their_pairs() -> None:
    assert cluster_probe._pairs(["h", "noise {", '{"pairs": [["h", "a", 0.1, 5.0]]}']) == [["h", "a", 0.1, 5.0]]
    assert cluster_probe._pairs(["h"]) == []


class Ranks:
    """MPI of threads, at its strictest: no send is over before its receiver has taken it. Time is what bytes take."""

    def __init__(self, size: int, rate: float = 1e9) -> None:
        self.size, self.now, self._rate = size, 0.0, rate
        self._changed = [threading.Condition() for _ in range(size)]
        self._boxes: list[dict[tuple[int, int], deque[tuple[Any, threading.Event]]]] = [
            defaultdict(deque) for _ in range(size)
        ]
        self.said: list[str] = []
        self.failed: list[BaseException] = []

    def run(self) -> list[Any]:
        """The pairs that were printed."""
        threads = [threading.Thread(target=self._rank, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not self.failed and not any(thread.is_alive() for thread in threads), self.failed
        assert not any(box for boxes in self._boxes for box in boxes.values()), "every message was taken"
        (line,) = self.said
        return cluster_probe._pairs(line.splitlines())

    def _rank(self, rank: int) -> None:
        world = World(self, rank)
        try:
            pairs.Rank(world, lambda: self.now, world.rest).run(f"w{rank}", self.said.append)
        except BaseException as error:
            self.failed.append(error)

    def send(self, what: Any, source: int, dest: int, tag: int) -> None:
        taken = threading.Event()
        with self._changed[dest]:
            self._boxes[dest][source, tag].append((what, taken))
            self._changed[dest].notify()
        assert source != dest and taken.wait(30)

    def take(self, rank: int, source: int, tag: int) -> Any:
        box = self._boxes[rank][source, tag]
        with self._changed[rank]:
            assert self._changed[rank].wait_for(lambda: box, 30)
            what, taken = box.popleft()
        # No lock: only one pair sends at a time.
        self.now += len(what) / self._rate
        taken.set()
        return what

    def there(self, rank: int, source: int, tag: int) -> bool:
        return bool(self._boxes[rank][source, tag])

    def rest(self, rank: int) -> None:
        with self._changed[rank]:
            if not any(self._boxes[rank].values()):
                self._changed[rank].wait(0.05)


class World:
    """What a rank sees of them."""

    def __init__(self, ranks: Ranks, rank: int) -> None:
        self._ranks, self.rank, self.size = ranks, rank, ranks.size
        self.rest: Callable[[float], None] = lambda _: ranks.rest(rank)

    def Iprobe(self, source: int, tag: int) -> bool:
        return self._ranks.there(self.rank, source, tag)

    def Send(self, data: bytearray, dest: int, tag: int) -> None:
        self._ranks.send(bytes(data), self.rank, dest, tag)

    def Recv(self, data: bytearray, source: int, tag: int) -> None:
        taken = self._ranks.take(self.rank, source, tag)
        assert len(taken) == len(data)
        data[:] = taken


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_few_ranks_measure_every_pair_once(size: int) -> None:
    found = {frozenset((a, b)): (seconds, rate) for a, b, seconds, rate in Ranks(size).run()}
    assert set(found) == {frozenset((f"w{a}", f"w{b}")) for a, b in itertools.combinations(range(size), 2)}
    assert all(rate == pytest.approx(1e9, rel=1e-3) for _, rate in found.values())


@pytest.mark.parametrize("size", [16, 17, 32, 64])
def test_of_many_ranks_each_has_as_many_links_measured(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SMALL_MESSAGES", 1)
    monkeypatch.setattr(pairs, "LARGE_BYTES", 1 << 10)
    rows = Ranks(size).run()
    assert len({frozenset(row[:2]) for row in rows}) == len(rows) <= pairs.MOST_PAIRS
    links = Counter(name for row in rows for name in row[:2])
    assert len(links) == size and min(links.values()) == max(links.values()) >= 4


def test_on_a_slow_network_the_pairs_that_are_not_begun_in_time_are_left_out() -> None:
    ranks = Ranks(8, rate=4e6)
    rows = ranks.run()
    assert 8 <= len(rows) < 28 and ranks.now < pairs.SECONDS + 2
    assert len({name for row in rows for name in row[:2]}) == 8


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


def test_a_disk_that_is_slow_is_no_server_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    options = {"user": user, "shared": str(tmp_path)}
    monkeypatch.setattr(share, "_SECONDS", 0.2)
    monkeypatch.setattr(share, "_WRITE_SECONDS", 0.4)
    monkeypatch.setattr(share, "use", lambda path: time.sleep(60))
    found = share.probe(str(tmp_path), options)["use"]
    assert (found["ok"], found["timeout"], found["answers"]) == (False, True, True)
    monkeypatch.setattr(share, "ask", lambda path: time.sleep(60))
    found = share.probe(str(tmp_path), options)["use"]
    assert found == {"ok": False, "error": "no answer within 0 s", "timeout": True}
