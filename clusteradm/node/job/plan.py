"""Places of the ranks: how they are spread over the slots, and mpirun's hostfile for that."""

from typing import List, Optional, Sequence

from clusteradm.node.spec import pipelines
from clusteradm.node.spec.wire.job import JobSpec, RankPlace, Slot


def ranks(spec: JobSpec, slots: Sequence[Slot]) -> List[RankPlace]:
    """The worker ranks of a job on these of its slots."""
    pipeline = spec.model.pipeline
    return pipelines.place(slots, len(pipeline.stages), spec.ranks) if pipeline else place(slots, spec.ranks)


def wanted(spec: JobSpec) -> List[RankPlace]:
    """The places that a job has for itself: also what its pipelines leave over, as it may take the place of another."""
    return place(spec.slots) if spec.model.pipeline and spec.ranks is None else ranks(spec, spec.slots)


def place(slots: Sequence[Slot], most: Optional[int] = None) -> List[RankPlace]:
    """The worker ranks, from 1 up, in the order in which mpirun maps them by slot: host after host.

    `slots`: the head first if it computes. With `most`, no more ranks than that, spread over the hosts: every host's
    first TPU before any host's second.
    """
    rounds = sorted((turn, number) for number, slot in enumerate(slots) for turn in range(len(slot.tpus)))
    chosen = set(rounds[: len(rounds) if most is None else most])
    ranks: List[RankPlace] = []
    for number, slot in enumerate(slots):
        for turn, address in enumerate(slot.tpus):
            if (turn, number) in chosen:
                ranks.append(RankPlace(len(ranks) + 1, slot.host, address))
    return ranks


def render_hostfile(head: str, ranks: Sequence[RankPlace]) -> str:
    """mpirun's hostfile: the head first, with a slot for rank 0 whether or not it has a TPU."""
    slots = {head: 1}
    for rank in ranks:
        slots[rank.host] = slots.get(rank.host, 0) + 1
    return "".join("%s slots=%d\n" % (host, count) for host, count in slots.items())
