"""One MPI rank of a job: `python3 -m clusteradm.node.job.rank FOLDER ATTEMPT`, started by mpirun.

Rank 0, on the head, is the dispatcher, and reads the job from FOLDER on the head's own disk. Every other rank keeps a
worker process: the same command with one more word. It hears from rank 0 what it is to do. A rank that ends by an
exception ends the whole MPI job, with the traceback in the job's log; the supervisor then decides on another attempt.
"""

import gc
import os
import sys
import traceback
from typing import Any

from clusteradm.node.spec.wire import job_names

_SWITCH_SECONDS = 0.0002


def main(folder: str, attempt: int) -> None:
    """Run this rank."""
    words = [sys.executable, "-m", "clusteradm.node.job.rank", folder, str(attempt)]
    try:
        from clusteradm.node.job.process import Process

        # Before MPI begins: the worker process imports its libraries meanwhile.
        process = None if os.environ.get("OMPI_COMM_WORLD_RANK") == "0" else Process(words)
        from mpi4py import MPI

        from clusteradm.node.job.channel import Channel

        channel = Channel(MPI)
    except BaseException:
        # The others wait for it in MPI_Init, and mpirun is told to let them: the supervisor reads this in the log.
        traceback.print_exc()
        sys.exit(job_names.NOT_BEGUN)
    try:
        if channel.rank == 0:
            from clusteradm.node.job.dispatcher import dispatch

            dispatch(folder, attempt, channel)
        else:
            first = channel.receive()
            _keeper(first)(channel, words, process or Process(words), first).run()
    except BaseException:
        # Without abort() the other ranks would wait in MPI_Finalize for a rank that died in Python.
        traceback.print_exc()
        if channel.rank == 0:
            sys.stderr.write(job_names.NOT_BEGUN + "\n")
        sys.stderr.flush()
        channel.abort()


def _keeper(first: Any) -> Any:
    """The keeper for a rank's work, by the message that begins it."""
    if first.body and first.body.get("stage"):
        from clusteradm.node.job.stage_keeper import StageKeeper

        return StageKeeper
    from clusteradm.node.job.keeper import Keeper

    return Keeper


def work(descriptor: int) -> None:
    """Run the worker process of this rank."""
    from clusteradm.node.job.channel import FAILED
    from clusteradm.node.job.process import enter

    pipe, pulse = enter(descriptor)
    # As long as a thread may keep the others waiting for Python's lock: by default longer than an inference takes.
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        from clusteradm.node.edgetpu import engine
        from clusteradm.node.job import worker
    except ImportError as error:
        pipe.send(0, FAILED, {"error": "%s: run clusteradm bootstrap" % error})
    else:
        engine.preload()  # while MPI starts
        gc.freeze()  # what is there by now stays: it is not looked through for garbage again and again
        worker.work(pipe, pulse)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        work(int(sys.argv[3]))
    else:
        main(sys.argv[1], int(sys.argv[2]))
