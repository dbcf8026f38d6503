"""Messages by MPI of which a rank has died: nothing is raised, and what others send goes on."""

from __future__ import annotations

from typing import Any

from clusteradm.node.job.channel import ALIVE, CHUNK, Channel


class MPI:
    """Open MPI with its recovery, of which rank 2 is dead."""

    BYTE = ANY_TAG = None
    ANY_SOURCE = -1

    class Exception(RuntimeError):
        pass

    class Status:
        def Get_source(self) -> int:
            return 1

        def Get_tag(self) -> int:
            return ALIVE

        def Get_count(self, _: Any) -> int:
            return 4

    def __init__(self) -> None:
        self.COMM_WORLD = self
        self.sent: list[int] = []
        self.died = False

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 3

    def Isend(self, data: Any, rank: int, tag: int) -> MPI:
        if self.died and rank == 2:
            raise MPI.Exception("MPI_ERR_OTHER")
        self.sent.append(rank)
        return self

    def Test(self) -> bool:
        if self.died:
            raise MPI.Exception("MPI_ERR_OTHER")
        return False

    def Iprobe(self, source: int, *_: Any) -> bool:
        if self.died and source in (self.ANY_SOURCE, 2):
            raise MPI.Exception("MPI_ERR_PROC_FAILED_PENDING")
        return source in (self.ANY_SOURCE, 1)

    def Recv(self, buffer: Any, *_: Any) -> None:
        buffer[0][:] = b"null"


def test_a_dead_rank_costs_no_message_of_another() -> None:
    mpi = MPI()
    channel = Channel(mpi)
    channel.send(2, CHUNK, {})
    mpi.died = True
    for rank in (2, 1, 2, 1):
        channel.send(rank, CHUNK, {})
    assert mpi.sent == [2, 1, 1]
    message = channel.poll()
    assert message is not None and (message.rank, message.tag, message.body) == (1, ALIVE, None)
