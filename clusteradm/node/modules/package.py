"""package: a package, by the name that does not say what installs it. On these hosts apt does."""

from typing import Any, Dict

from clusteradm.node import spec
from clusteradm.node.context import Context
from clusteradm.node.modules import apt


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the packages, or not."""
    return apt.run(spec.normalise("apt", {"name": options["name"], "state": options["state"]}), context)
