"""Owner of an Edge TPU, which is not reset under it."""

from typing import Optional, Tuple

from clusteradm.node.probe.tpu import process
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.fleet import BUSY, Card, Owner, ResetOutcome, ResetTpu


def busy(request: ResetTpu, tpus: Tuple[Card, ...], card: Card) -> Optional[ResetOutcome]:
    """The outcome of a reset of one that a process has open; None where none has. `tpus`: all that there are."""
    if not card.owned:
        return None
    owner = process(request.root, card.device_owner, request.user)
    return ResetOutcome(BUSY, tpus, card, owner=None if owner is None else decode(Owner, owner))
