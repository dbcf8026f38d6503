"""reboot: restart the host, a moment after the reply. The admin side waits until it is back."""

import time
from typing import Any, Dict

from clusteradm.node.context import Context
from clusteradm.node.fleet import power


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Start the reboot. `boot`: the kernel's id of the present boot."""
    if context.check:
        return {"changed": True, "elapsed": 0, "rebooted": True}
    time.sleep(options["pre_reboot_delay"])
    return {"changed": True, "boot": power.begin("reboot", options["msg"])}
