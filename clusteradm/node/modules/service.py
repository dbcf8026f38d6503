"""service: a unit, by the name that does not say what starts it. On these hosts systemd does."""

from typing import Any, Dict

from clusteradm.node.modules import Context, systemd

_OF_SYSTEMD = {"masked": None, "daemon_reload": False, "daemon_reexec": False, "no_block": False, "force": None}


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the service started or enabled, or not."""
    return systemd.run(dict(_OF_SYSTEMD, **options), context)
