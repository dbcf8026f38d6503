"""A board's server under clients that are slow, many, or send what nobody can answer, alone and behind HAProxy.

    python benchmarks/abuse.py [--rounds 3] [--seconds 12] [--rate 100] [--memory MIB]   (root: mounts of its own)

While each kind of them is at work, others ask as usual: so many requests of 150 KB a second, on a simulated Edge TPU of
2.6 ms. Said is how much slower those are answered than before and after (the medians of their medians), what became of
the others, and the memory of all processes. Ends with 1 where a status is not the protocol's, a request of the others
fails, or memory grows beyond its bound.

They have the same processors as the server: said is how much of one each takes, and how slow the others are while they
are stopped, with the connections that they have by then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import Record
from serve import PARTS, SIZE, Bench, ask
from serving import tpu
from serving.proxy import proxy
from serving.servers import Server, ours, spent

KINDS = {"wrong": 1, "kept": 1000, "slow": 10000}
_MOST_MEMORY = 600.0  # megabytes of a board's server: what it has, and 64 MiB of bodies for each front process


class Abused:
    """The figures of one way to ask: the server alone, or HAProxy before it."""

    def __init__(self, bench: Bench, server: Server, front: Server | None, rate: float) -> None:
        self.bench, self.server, self.front, self.rate = bench, server, front, rate
        self.wrong: list[str] = []

    def calm(self, seconds: float) -> float:
        return ask(self.server, seconds, 8, self.rate, self.bench.data, self.front).p50

    def under(self, kind: str, seconds: float) -> tuple[float, float]:
        """The median of the others while those of this kind are at work, and while they are stopped."""
        asked = self.front or self.server
        spec = {"host": asked.host, "port": asked.http, "seconds": 1.5 * seconds + 6.0, "count": KINDS[kind]}
        command = [sys.executable, str(PARTS / "abuse.py"), kind, json.dumps(spec)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
        before = self.spent(process.pid)
        found = self.calm(seconds)
        after = self.spent(process.pid)
        process.send_signal(signal.SIGSTOP)
        stopped = self.calm(seconds / 2)
        process.send_signal(signal.SIGCONT)
        memory, others = self.server.memory(), self.front.memory() if self.front else 0.0
        out, _ = process.communicate(timeout=300)
        became: dict[str, Any] = json.loads(out)
        statuses = became.pop("statuses", {})
        where = "through HAProxy" if self.front else "directly"
        shares = ", ".join(f"{name} {100 * (after[name] - before[name]) / seconds:.0f} %" for name in after)
        print(f"  {where}, {kind}: {became}; server {memory:.0f} MB, HAProxy {others:.0f} MB; {shares}", flush=True)
        if kind == "wrong":
            self.wrong += [f"{where}: {name} answered" for name in became if ": " in name]
            self.wrong += [f"{where}: {name} was not reached" for name in became["missing"]]
            for name, counts in statuses.items():
                print(f"    {name:<36} {' '.join(map(str, counts))}")
        if memory > _MOST_MEMORY:
            self.wrong.append(f"{where}, {kind}: {memory:.0f} MB")
        return found, stopped

    def spent(self, pid: int) -> dict[str, float]:
        """Processor time so far: the server's, HAProxy's, theirs."""
        front = self.front.cpu() if self.front else 0.0
        return {"server": self.server.cpu(), "HAProxy": front, "they": spent([pid])}

    def round(self, seconds: float) -> dict[str, float]:
        """How many times as long an answer takes, by kind."""
        found = {}
        for kind in KINDS:
            before = self.calm(seconds / 2)
            during = self.under(kind, seconds)
            usual = statistics.mean((before, self.calm(seconds / 2)))
            found[kind], found[f"{kind}, stopped"] = (each / usual for each in during)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--memory", type=int, metavar="MIB", help="of HAProxy's buffers, else as a head like this has")
    args = parser.parse_args()
    tpu.enter_namespace()
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    wrong: list[str] = []
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="clusteradm-abuse-") as name:
        folder = Path(name)
        bench = Bench(folder, args.seconds, None, Record("abuse", {}))
        (folder / "own").mkdir()
        server = ours(folder / "own", bench.shared, bench.device.environment, "127.0.0.2")
        try:
            server.wait()
            front = proxy(folder / "own", [server], SIZE, args.memory)
            try:
                front.wait()
                for _ in range(args.rounds):
                    for where, each in (("directly", None), ("through HAProxy", front)):
                        abused = Abused(bench, server, each, args.rate)
                        for kind, times in abused.round(args.seconds).items():
                            found.setdefault(f"{kind}, {where}", []).append(times)
                        wrong += abused.wrong
            finally:
                front.end()
        finally:
            server.end()
            bench.device.end()
    for kind, times in found.items():
        print(f"  {kind:<40} {' '.join(f'{each:5.2f}' for each in times)}   times as long")
    for line in dict.fromkeys(wrong):
        print(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
