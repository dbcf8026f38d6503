"""`clusteradm health` on boards without a fault, beside the least that asking them can cost.

    python benchmarks/health.py [--nodes 8] [--rounds 5] [--json FILE]       (as root: it makes a lab of its own)

The least: `ssh HOST sudo true` on all hosts at once, twice (to ask every host, then the head), plus the longest single
probe, as the probes themselves say how long they took. The MPI job over all hosts is one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import Record, ratio

import clusteradm
from clusteradm.inventory import load
from clusteradm.lab.lab import Lab

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
GOAL = "clusteradm health, {} hosts, of the floor"


def floor(lab: Lab) -> float:
    """Seconds of `ssh HOST sudo true` on all hosts at once."""
    commands = [lab.ssh_argv(name, ["sudo", "true"]) for name in load(lab.inventory).hosts]
    begun = time.perf_counter()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands]
    if any(process.wait() for process in running):
        raise SystemExit("a board does not answer")
    return time.perf_counter() - begun


def health(lab: Lab, save: Path) -> tuple[float, float]:
    """Seconds of the whole command, and of the longest single probe."""
    command = [sys.executable, "-m", "clusteradm", "health", "-i", str(lab.inventory), "--save", str(save)]
    begun = time.perf_counter()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"the boards are not well:\n{done.stdout}{done.stderr}")
    document = json.loads(save.read_text(encoding="utf-8"))
    probes = [seconds for host in document["documents"].values() for seconds in host["seconds"].values()]
    return took, max([*probes, document["cluster"]["seconds"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    record = Record("health", {"clusteradm": clusteradm.__version__, "python": platform.python_version()})
    figures: dict[str, list[float]] = {"ssh": [], "longest probe": [], "health": []}
    lab = Lab(f"bench-{os.getpid()}")
    try:
        lab.up(args.nodes)
        bootstrap = [sys.executable, "-m", "clusteradm", "bootstrap", "-i", str(lab.inventory)]
        subprocess.run(bootstrap, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.rounds + 1):
                figures["ssh"].append(floor(lab))
                took, longest = health(lab, Path(folder) / "survey.json")
                figures["health"].append(took)
                figures["longest probe"].append(longest)
    finally:
        lab.down()
    for name, seconds in figures.items():
        del seconds[0]  # the first round fills caches
        record.figures[f"{name}, {args.nodes} nodes"] = [round(second, 3) for second in seconds]
        print(f"  {name:<20} {statistics.median(seconds):7.2f} s")
    least = [2 * one + probe for one, probe in zip(figures["ssh"], figures["longest probe"], strict=True)]
    name = GOAL.format(args.nodes)
    record.ratios[name] = round(ratio(figures["health"], least), 2)
    record.goals[name] = 1.0
    print(*record.lines(), sep="\n")
    if args.json:
        record.write(args.json)


if __name__ == "__main__":
    main()
