"""Loaded versions: what an engine says of a model that it has, and the front processes go by."""

import os
from dataclasses import dataclass, field
from typing import Optional, Tuple

from clusteradm.node.models import store
from clusteradm.node.spec.wire.decode import Record
from clusteradm.node.spec.wire.manifest import LABELS, Feed, Tensor
from clusteradm.node.spec.wire.servables import Servable

_MOST_CLASSES = 100000


@dataclass(eq=False, repr=False)
class Loaded(Record):
    """A version that an engine can run. `key`: its number on this board; `batches`: the most rows of one inference,
    1 for a model of a fixed shape; `seconds`: of one inference; `swap_seconds`: what it costs besides after another
    model has run on the same TPU; `on_tpu`: False where no operation of it is an Edge TPU's; `stateless`: False where
    it has variables, which begin anew with every request; `servable`: of what is no model."""

    key: int
    name: str
    version: int
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    feed: Optional[Feed] = None
    task: Optional[str] = None
    threshold: Optional[float] = None
    class_names: Tuple[str, ...] = field(default=())
    load_seconds: float = 0.0
    seconds: float = 0.0
    swap_seconds: float = 0.0
    batches: int = 1
    on_tpu: bool = True
    stateless: bool = True
    servable: Optional[Servable] = None


def class_names(folder: str) -> Tuple[str, ...]:
    """The lines of labels.txt of a version: line N is class N."""
    try:
        with open(os.path.join(folder, LABELS), encoding="utf-8", errors="replace") as file:
            return tuple(line.rstrip("\r\n") for _, line in zip(range(_MOST_CLASSES), file))
    except OSError:
        return ()


def about(folder: str, key: int, name: str, version: int) -> Loaded:
    """What the version's manifest and labels say; the tensors are the engine's to fill in."""
    manifest = store.manifest(folder)
    names = class_names(folder)
    if manifest is None:
        return Loaded(key, name, version, (), (), class_names=names)
    return Loaded(
        key,
        name,
        version,
        (),
        (),
        feed=manifest.feed,
        task=manifest.task,
        threshold=manifest.threshold,
        on_tpu=manifest.tpu_operations > 0,
        class_names=names,
    )
