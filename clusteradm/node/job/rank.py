"""What mpirun starts on every host: `python3 -m clusteradm.node.job.rank JOB-DIRECTORY ATTEMPT`.

Rank 0, on the head, hands out; every other rank works. A rank that fails beyond its own handling ends the whole MPI
job, with the reason in the job's log: the supervisor decides what comes next.
"""

import sys
import traceback


def main(folder: str, attempt: int) -> None:
    """Run this rank to its end."""
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
        # Without this a rank that dies in Python leaves the others waiting for it in MPI_Finalize for ever.
        traceback.print_exc()
        sys.stderr.flush()
        channel.abort()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
