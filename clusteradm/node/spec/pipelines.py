"""Pipelines over slots: which TPUs work together, as stages of a pipeline each."""

from typing import List, Optional, Sequence, Set, Tuple

from clusteradm.node.spec.wire.job import RankPlace, Slot


def place(slots: Sequence[Slot], stages: int, most: Optional[int] = None) -> List[RankPlace]:
    """The worker ranks, from 1 up, host after host as mpirun maps them, each with its pipeline and stage, from 0.

    As many pipelines of so many `stages` as there are TPUs for, and of no more TPUs than `most`. Those that fit on one
    host come first; what hosts have left over is put together in the order of the hosts, which are neighbours then.
    """
    inside: List[List[Tuple[int, int]]] = []
    rest: List[Tuple[int, int]] = []
    for number, slot in enumerate(slots):
        mine = [(number, turn) for turn in range(len(slot.tpus))]
        whole = len(mine) // stages * stages
        inside += [mine[start : start + stages] for start in range(0, whole, stages)]
        rest += mine[whole:]
    across = [rest[start : start + stages] for start in range(0, len(rest) // stages * stages, stages)]
    count = len(inside) + len(across) if most is None else most // stages
    found = {}
    for pipeline, members in enumerate((inside + across)[:count]):
        for stage, at in enumerate(members):
            found[at] = (pipeline, stage)
    ranks: List[RankPlace] = []
    for number, turn in sorted(found):
        pipeline, stage = found[number, turn]
        slot = slots[number]
        ranks.append(RankPlace(len(ranks) + 1, slot.host, slot.tpus[turn], pipeline, stage))
    return ranks


def left_over(slots: Sequence[Slot], ranks: Sequence[RankPlace]) -> List[Tuple[str, Optional[str]]]:
    """Host and PCI address of each slot that has no rank."""
    used: Set[Tuple[str, Optional[str]]] = {(rank.host, rank.pci_address) for rank in ranks}
    every = [(slot.host, address) for slot in slots for address in slot.tpus]
    return [one for one in every if one not in used]
