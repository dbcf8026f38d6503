"""package: packages, without the name of a package manager. On these hosts it is apt."""

from typing import Any, Dict

from clusteradm.node.context import Context
from clusteradm.node.modules import apt
from clusteradm.node.spec import modules as module_specs


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Install or remove the packages."""
    return apt.run(module_specs.normalise("apt", {"name": options["name"], "state": options["state"]}), context)
