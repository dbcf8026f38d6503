"""service: a unit, by the name that does not say what starts it. On these hosts systemd does."""

from typing import Any, Dict

from clusteradm.node import spec
from clusteradm.node.context import Context
from clusteradm.node.modules import systemd


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the service started or enabled, or not."""
    given = {name: options[name] for name in ("name", "state", "enabled")}
    return systemd.run(spec.normalise("systemd", given), context)
