"""Verified SSH connections, one per host, and the conversation with the node program over each."""

from clusteradm.transport.connections import Connections
from clusteradm.transport.fanout import DEFAULT_FORKS, Outcome
from clusteradm.transport.first_contact import FirstContact
from clusteradm.transport.limits import Limits
from clusteradm.transport.node import Node, NodeError, Silent
from clusteradm.transport.password import Password
from clusteradm.transport.routes import gateways_of

__all__ = [
    "DEFAULT_FORKS",
    "Connections",
    "FirstContact",
    "Limits",
    "Node",
    "NodeError",
    "Outcome",
    "Password",
    "Silent",
    "gateways_of",
]
