"""package: packages, without the name of a package manager. On these hosts it is apt."""

from typing import Any, Dict

from clusteradm.node import spec
from clusteradm.node.context import Context
from clusteradm.node.modules import apt


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Install or remove the packages."""
    return apt.run(spec.normalise("apt", {"name": options["name"], "state": options["state"]}), context)
