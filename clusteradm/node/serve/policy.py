"""Policy: which models a board is to have, by the desired state and what the repository has."""

from dataclasses import dataclass, field
from typing import Dict, List, Tuple

from clusteradm.node.serve import placement
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.manifest import NAME
from clusteradm.node.spec.wire.serving import MOST_BYTES, DesiredState, ServedModel


@dataclass(eq=False, repr=False)
class SeenModel(Record):
    """What is known of a model in the repository. `error`: why its labels are not known; `contents`: of the versions
    that may be wanted, by number, as share.py has them."""

    versions: Tuple[int, ...]
    labels: Dict[str, int]
    contents: Dict[str, str] = field(default_factory=dict, metadata=limits("[0-9a-f]{0,64}"))
    error: str = field(default="", metadata=limits(most=2000))


@dataclass(eq=False, repr=False)
class Seen(Record):
    """What the share helper saw. `desired`: the text of desired.json."""

    models: Dict[str, SeenModel] = field(metadata=limits(NAME))
    desired: str = field(default="", metadata=limits(most=MOST_BYTES))


def here(desired: DesiredState, host: str) -> List[ServedModel]:
    """The models that this host is to serve."""
    found = ((model, placement.homes(desired, host, model.name)) for model in desired.models)
    return [model for model, devices in found if devices is None or devices]
