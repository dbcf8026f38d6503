"""What others make of the same loop: `python peers.py NAME MODEL IMAGES COUNT PROCESSES`, of mpi4py under mpirun.

Prints a JSON document: seconds from the first task to the last result, and the classes. Chunks of 8 images, by their
numbers; the model is loaded before. Each as its own documentation has it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from loop import Loop, chunk

CHUNK = 8


def joblib(work: tuple[str, str], chunks: list[tuple[int, int]], processes: int) -> tuple[float, Any]:
    from joblib import Parallel, delayed

    with Parallel(n_jobs=processes, batch_size=1, pre_dispatch=2 * processes) as parallel:
        parallel(delayed(chunk)(*work, 0, 1) for _ in range(2 * processes))
        begun = time.perf_counter()
        found = parallel(delayed(chunk)(*work, *each) for each in chunks)
        return time.perf_counter() - begun, found


def mpi4py(work: tuple[str, str], chunks: list[tuple[int, int]], processes: int) -> tuple[float, Any]:
    from mpi4py.futures import MPICommExecutor

    seconds, found = 0.0, []
    with MPICommExecutor() as executor:
        if executor is not None:
            list(executor.map(chunk, *zip(*[(*work, 0, 1)] * (2 * processes), strict=True)))
            begun = time.perf_counter()
            found = list(executor.map(chunk, *zip(*[(*work, *each) for each in chunks], strict=True)))
            seconds = time.perf_counter() - begun
    if executor is None:
        sys.exit()
    return seconds, found


def ray(work: tuple[str, str], chunks: list[tuple[int, int]], processes: int) -> tuple[float, Any]:
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
    begun = time.perf_counter()
    pool = ActorPool(2 * workers)  # each has one task at work and one waiting
    found = list(pool.map(lambda worker, each: worker.run.remote(*each), chunks))
    return time.perf_counter() - begun, found


PEERS: dict[str, Callable[..., tuple[float, Any]]] = {"mpi4py.futures": mpi4py, "joblib": joblib, "Ray": ray}


def main(name: str, model: str, images: str, count: int, processes: int) -> None:
    chunks = [(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    seconds, found = PEERS[name]((model, images), chunks, processes)
    print(json.dumps({"seconds": seconds, "classes": [each for part in found for each in part]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
