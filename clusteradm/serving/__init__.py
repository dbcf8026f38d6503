"""Admin side of serving: the desired state and its changes, and how far the boards have followed it."""

from clusteradm.serving.changes import (
    canary,
    deploy,
    drain,
    hold_tpus,
    prepare_canary,
    undeploy,
    undrain,
)
from clusteradm.serving.rollout import BoardProgress, Progress, judge
from clusteradm.serving.state import Serving, places, servers

__all__ = [
    "BoardProgress",
    "Progress",
    "Serving",
    "canary",
    "deploy",
    "drain",
    "hold_tpus",
    "judge",
    "places",
    "prepare_canary",
    "servers",
    "undeploy",
    "undrain",
]
