"""Rank of a job, started by mpirun on every host: `python3 -m clusteradm.node.job.rank JOB-DIRECTORY ATTEMPT`.

Rank 0, on the head, dispatches; every other rank is a worker. An exception that a rank does not handle ends the whole
MPI job, with the traceback in the job's log; the supervisor decides whether to start another attempt.
"""

import sys
import traceback


def main(folder: str, attempt: int) -> None:
    """Run this rank."""
    from mpi4py import MPI

    from clusteradm.node.job.channel import Channel

    channel = Channel(MPI)
    try:
        if channel.rank == 0:
            from clusteradm.node.job.dispatcher import dispatch

            dispatch(folder, attempt, channel)
        else:
            from clusteradm.node.job.worker import work

            work(folder, attempt, channel)
    except BaseException:
        # Without abort() the other ranks would wait in MPI_Finalize for a rank that died in Python.
        traceback.print_exc()
        sys.stderr.flush()
        channel.abort()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
