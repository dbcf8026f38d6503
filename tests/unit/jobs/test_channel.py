"""Messages by MPI of which a rank has died: nothing is raised, and what others send goes on."""

from __future__ import annotations

import time
from typing import Any

import pytest

from clusteradm.node.job.channel import ALIVE, CHUNK, EAGER_BYTES, NAP, Channel


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


def test_mpi_is_called_soon_and_then_ever_later_for_a_large_message_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    mpi, now = MPI(), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    channel = Channel(mpi)
    channel.send(1, CHUNK, {})
    assert channel.patience(0.1) == 0.1, "it is with the other end, whatever MPI says of it"
    channel.send(1, CHUNK, "x" * EAGER_BYTES)
    waits = [channel.patience(0.1)]
    while waits[-1] < 0.1:
        now[0] += waits[-1]
        waits.append(channel.patience(0.1))
    assert waits[0] == NAP and len(waits) < 10
    mpi.died = True  # MPI is done with what it sent to a rank that has died
    assert channel.patience(5.0) == 5.0


def test_what_open_mpi_takes_in_as_it_is_asked_is_heard_at_once() -> None:
    """It looks at what it has, and only then takes in what has come: the first answer is always no."""
    mpi = MPI()
    answers = iter((False, True))
    mpi.Iprobe = lambda *_: next(answers)  # type: ignore[method-assign]
    message = Channel(mpi).poll()
    assert message is not None and message.tag == ALIVE


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
