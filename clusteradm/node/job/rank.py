"""One MPI rank of a job: `python3 -m clusteradm.node.job.rank FOLDER ATTEMPT`, started by mpirun.

Rank 0, on the head, is the dispatcher, and reads the job from FOLDER on the head's own disk. Every other rank is a
worker, and hears from rank 0 what it is to do. A rank that ends by an exception ends the whole
MPI job, with the traceback in the job's log; the supervisor then decides on another attempt.
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

            work(channel)
    except BaseException:
        # Without abort() the other ranks would wait in MPI_Finalize for a rank that died in Python.
        traceback.print_exc()
        sys.stderr.flush()
        channel.abort()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
