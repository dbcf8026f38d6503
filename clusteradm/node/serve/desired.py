"""Desired state of serving on the head, CLUSTER_SHARED/serving/desired.json: root's, exported read-only.

Whoever changes it has read it before: a state is stored only as the successor of the one that it was made of.
"""

import json
import os
from dataclasses import replace
from typing import Optional, Sequence, Tuple

from clusteradm.node import atomic, locks
from clusteradm.node.handler import handles
from clusteradm.node.serve import balancer, placing
from clusteradm.node.served import path_of, read
from clusteradm.node.spec.wire.serving import MOST_BYTES, BoardTpus, DesiredState, PlacedModel
from clusteradm.node.spec.wire.serving_requests import Desired, ShowServing, StoreServing

LOCK = "serving"


@handles(ShowServing)
def show(request: ShowServing) -> Desired:
    """The state as it is."""
    return Desired(read(request.shared), ready=balancer.is_set_up())


@handles(StoreServing)
def store(request: StoreServing) -> Desired:
    """Store the next state, and have HAProxy follow it. Where models are is the head's own."""
    with locks.held(LOCK):
        old = read(request.shared)
        if old.revision != request.state.revision:
            return Desired(old, ready=balancer.is_set_up())
        placed = placing.carried(request.shared, old, request.state)
        new = write(request.shared, replace(request.state, out_of_service=old.out_of_service, placement=placed))
        trouble = balancer.follow(new, placing.models(request.shared, new))
        return Desired(new, True, trouble, balancer.is_set_up())


def place(shared: str, revision: int, placed: Tuple[PlacedModel, ...]) -> str:
    """Store where models are to be, unless there is another state than that by now; why HAProxy does not follow, or "".

    HAProxy follows first: what leaves a board has no requests there then.
    """
    with locks.held(LOCK):
        old = read(shared)
        if old.revision != revision:
            return ""
        trouble = balancer.follow(replace(old, placement=placed), placing.models(shared, old))
        write(shared, replace(old, placement=placed))
        return trouble


def held(shared: str) -> Optional[Tuple[BoardTpus, ...]]:
    """The TPUs that serving has; None where nothing is served."""
    return read(shared).boards if balancer.is_set_up() else None


def take_out(shared: str, subjects: Sequence[str]) -> None:
    """Make these, and no others, what is out of service in the whole cluster; only where something is served."""
    if not os.path.exists(path_of(shared)):
        return
    with locks.held(LOCK):
        old = read(shared)
        wanted = tuple(sorted(subjects))
        if old.out_of_service != wanted:
            write(shared, replace(old, out_of_service=wanted))


def write(shared: str, state: DesiredState) -> DesiredState:
    """Store a state as the successor of the one with its revision, and return it; the caller holds the lock."""
    state = replace(state, revision=state.revision + 1)
    data = json.dumps(vars(state), indent=1, sort_keys=True, default=vars).encode("utf-8") + b"\n"
    if len(data) > MOST_BYTES:
        raise ValueError("the desired state would have %d bytes, more than the %d of it" % (len(data), MOST_BYTES))
    path = path_of(shared)
    if not os.path.isdir(os.path.dirname(path)):
        os.mkdir(os.path.dirname(path), 0o755)
        os.chmod(os.path.dirname(path), 0o755)  # noqa: S103 - every board reads it
    with atomic.replacing(path, 0o644) as file:
        file.write(data)
    return state
