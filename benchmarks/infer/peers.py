"""What others make of the same loop: `python peers.py NAME MODEL IMAGES COUNT PROCESSES`, of mpi4py under mpirun.

Prints a JSON document: seconds from the first task to the last result, those of the processor in that time, and the
classes. Chunks of 8 images, by their numbers; the model is loaded before. Each as its own documentation has it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from loop import Loop, chunk
from processes import processor, tree

CHUNK = 8
Ran: TypeAlias = tuple[float, float, Any]


class Clock:
    """Seconds, and those of the processor that the processes below `root` have used, since it was made."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._begun, self._used = time.perf_counter(), processor(tree(root))

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._begun, processor(tree(self._root)) - self._used


def joblib(work: tuple[str, str], chunks: list[tuple[int, int]], processes: int) -> Ran:
    from joblib import Parallel, delayed

    with Parallel(n_jobs=processes, batch_size=1, pre_dispatch=2 * processes) as parallel:
        parallel(delayed(chunk)(*work, 0, 1) for _ in range(2 * processes))
        clock = Clock(os.getpid())
        found = parallel(delayed(chunk)(*work, *each) for each in chunks)
        return (*clock.read(), found)


def mpi4py(work: tuple[str, str], chunks: list[tuple[int, int]], processes: int) -> Ran:
    from mpi4py.futures import MPICommExecutor

    spent, found = (0.0, 0.0), []
    with MPICommExecutor() as executor:
        if executor is not None:
            list(executor.map(chunk, *zip(*[(*work, 0, 1)] * (2 * processes), strict=True)))
            clock = Clock(os.getppid())  # mpirun
            found = list(executor.map(chunk, *zip(*[(*work, *each) for each in chunks], strict=True)))
            spent = clock.read()
    if executor is None:
        sys.exit()
    return (*spent, found)


def ray(work: tuple[str, str], chunks: list[tuple[int, int]], processes: int) -> Ran:
    import ray as library
    from ray.util import ActorPool

    library.init(
        num_cpus=processes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": sys.path[0]}},
    )
    workers = [library.remote(num_cpus=1)(Loop).remote(*work) for _ in range(processes)]
    library.get([worker.run.remote(0, 1) for worker in workers])
    clock = Clock(os.getpid())
    pool = ActorPool(2 * workers)  # each has one task at work and one waiting
    found = list(pool.map(lambda worker, each: worker.run.remote(*each), chunks))
    return (*clock.read(), found)


PEERS: dict[str, Callable[..., Ran]] = {"mpi4py.futures": mpi4py, "joblib": joblib, "Ray": ray}


def main(name: str, model: str, images: str, count: int, processes: int) -> None:
    chunks = [(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    seconds, cpu, found = PEERS[name]((model, images), chunks, processes)
    print(
        json.dumps({"seconds": seconds, "cpu": cpu, "classes": [each for part in found for each in part]}), flush=True
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
