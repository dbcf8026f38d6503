"""The one table of `cluster_` variables: what each means, its type, and its default."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variable:
    """One variable. `scope`: the values of "host" differ per host, those of "cluster" must not."""

    name: str
    kind: str
    meaning: str
    default: Any = None
    optional: bool = True
    scope: str = "cluster"


_TABLE = (
    Variable("cluster_name", "str", "what the cluster is called", "cluster"),
    Variable("cluster_subnet", "subnet", "the private network, for example 10.0.0.0/24", optional=False),
    Variable("cluster_ip", "address", "the host's address in the private network", optional=False, scope="host"),
    Variable("cluster_interface", "str", "the network interface of the private network", optional=False, scope="host"),
    Variable("cluster_head_computes", "bool", "whether the head's own TPUs take part in jobs", True),
    Variable("cluster_user", "str", "the user that owns models and jobs and runs the ranks", "cluster"),
    Variable("cluster_uid", "int", "its uid, the same on every host", 6600),
    Variable("cluster_gid", "int", "its gid, the same on every host", 6600),
    Variable("cluster_shared", "path", "the directory that the head exports, the same path everywhere", "/srv/cluster"),
    Variable("cluster_nfs_options", "str", "mount options of the export", "rw,hard,vers=4.0,bg,_netdev,nofail"),
    Variable(
        "cluster_python",
        "path",
        "the Python that runs the inference ranks",
        "/opt/clusteradm/venv/bin/python3",
        scope="host",
    ),
    Variable("cluster_tpus", "int", "how many Edge TPUs the host is expected to have", scope="host"),
    Variable("cluster_tpu_source", "str", "the deb line of the Edge TPU's package source"),
    Variable("cluster_tpu_key", "str", "the URL of that source's signing key"),
    Variable("cluster_wheels", "str", "where pip finds wheels on hosts with no way to a package index"),
    Variable(
        "cluster_network_guard",
        "int",
        "seconds after which an unconfirmed change of the network is taken back",
        60,
    ),
)
VARIABLES: dict[str, Variable] = {variable.name: variable for variable in _TABLE}


def _is_address(value: Any) -> bool:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return True


def _is_subnet(value: Any) -> bool:
    try:
        ipaddress.ip_network(str(value))
    except ValueError:
        return False
    return "/" in str(value)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a string", lambda value: isinstance(value, str) and value != ""),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "path": ("an absolute path", lambda value: isinstance(value, str) and value.startswith("/")),
    "address": ("an IP address", _is_address),
    "subnet": ("a network such as 10.0.0.0/24", _is_subnet),
}


def complaint(variable: Variable, value: Any) -> str | None:
    """What is wrong with `value`, or None. A template is judged when it is rendered, not here."""
    if isinstance(value, str) and "{{" in value:
        return None
    wanted, fits = _KINDS[variable.kind]
    return None if fits(value) else f"{variable.name} must be {wanted}, not {value!r}"
