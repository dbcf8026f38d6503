"""One verified SSH connection per host, and the node program at its other end."""

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
