"""service: a service, without the name of an init system. On these hosts it is systemd."""

from typing import Any, Dict

from clusteradm.node.context import Context
from clusteradm.node.modules import systemd
from clusteradm.node.spec import modules as module_specs


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Start, stop, enable or disable the service."""
    given = {name: options[name] for name in ("name", "state", "enabled")}
    return systemd.run(module_specs.normalise("systemd", given), context)
