"""Pipelines of an attempt: which ranks are the stages of which, and what each of them is told."""

import os
from dataclasses import replace
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

from clusteradm.node.spec.wire.job import Assignment, RankPlace, StoredSpec
from clusteradm.node.spec.wire.pipeline import Stage


class Pipelines:
    """The ranks of each pipeline, in the order of its stages; a rank that is in none is one of its own."""

    def __init__(self, ranks: Iterable[RankPlace]) -> None:
        found: Dict[Tuple[bool, int], List[RankPlace]] = {}
        for rank in ranks:
            alone = rank.pipeline is None
            found.setdefault((alone, rank.rank if rank.pipeline is None else rank.pipeline), []).append(rank)
        self._stages: Dict[int, List[int]] = {}
        for members in found.values():
            numbers = [rank.rank for rank in sorted(members, key=lambda rank: rank.stage)]
            self._stages.update(dict.fromkeys(numbers, numbers))

    def stages(self, rank: int) -> Sequence[int]:
        """The ranks of this rank's pipeline."""
        return self._stages[rank]

    def first(self, rank: int) -> int:
        """The rank that gets the chunks of this rank's pipeline."""
        return self._stages[rank][0]

    def is_last(self, rank: int) -> bool:
        """Whether this rank delivers the results."""
        return self._stages[rank][-1] == rank


def anew(mine: Assignment) -> Assignment:
    """What a stage is told when its pipeline begins anew: nothing of what was before is to come through."""
    stage = mine.stage
    if stage is None:
        raise ValueError("rank %d is no stage of a pipeline" % mine.place.rank)
    turn = stage.turn + 1
    return replace(mine, stage=replace(stage, turn=turn, link="%s.%d" % (stage.link.partition(".")[0], turn)))


def assignments(spec: StoredSpec, attempt: int, ranks: Sequence[RankPlace]) -> Iterator[Assignment]:
    """What each rank is told of its work."""
    hosts = {rank.rank: rank.host for rank in ranks}
    pipelines = Pipelines(ranks)
    for rank in ranks:
        here = sum(host == rank.host for host in hosts.values())
        if spec.model.pipeline is None:
            yield Assignment(rank, here, spec.model, spec.top, spec.folder)
            continue
        segment = spec.model.pipeline.stages[rank.stage]
        model = replace(spec.model, path=segment.path, sha256=segment.sha256)
        order = pipelines.stages(rank.rank)
        at = rank.stage
        before = order[at - 1] if at else None
        after = order[at + 1] if at + 1 < len(order) else None
        near = tuple(each for each in (before, after) if each is not None and hosts[each] == rank.host)
        link = "%s/%d" % (os.path.basename(spec.folder), attempt)
        yield Assignment(rank, here, model, spec.top, spec.folder, stage=Stage(at, before, after, near, link))
