"""What stages hand on: the tensors that cross from each stage of a pipeline to the next."""

from typing import List, Optional, Tuple

from clusteradm.node.job.activations import Layout
from clusteradm.node.spec.wire.manifest import Tensor
from clusteradm.node.spec.wire.pipeline import Pipeline, Stage


def crossing(pipeline: Pipeline, number: int) -> List[Tensor]:
    """What the stage `number` hands on: all that it and those before it give, and a later one or the result needs."""
    needed = {tensor.name for tensor in pipeline.outputs}
    for stage in pipeline.stages[number + 1 :]:
        needed |= {tensor.name for tensor in stage.inputs}
    given = [tensor for stage in pipeline.stages[: number + 1] for tensor in stage.outputs]
    return [tensor for tensor in given if tensor.name in needed]


def layouts(pipeline: Pipeline, stage: Stage) -> Tuple[Optional[Layout], Optional[Layout]]:
    """Of what a stage takes from the one before, and of what it hands on; None at the ends."""
    takes = Layout(crossing(pipeline, stage.number - 1)) if stage.before is not None else None
    return takes, Layout(crossing(pipeline, stage.number)) if stage.after is not None else None
