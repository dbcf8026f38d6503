"""reboot: restart the host, a moment after the reply. The admin side waits until it is back."""

import subprocess
import time
from typing import Any, Dict

from clusteradm.node.context import Context, ModuleFailed
from clusteradm.node.state import boot_id


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Start the reboot. `boot`: the kernel's id of the present boot."""
    if context.check:
        return {"changed": True, "elapsed": 0, "rebooted": True}
    time.sleep(options["pre_reboot_delay"])
    done = context.run(["systemctl", "is-system-running"])
    if "offline" in done.stdout:
        raise ModuleFailed("systemd does not run here: the host cannot be rebooted by it")
    subprocess.Popen(
        ["sh", "-c", 'sleep 1; wall "$0"; exec systemctl reboot', options["msg"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return {"changed": True, "boot": boot_id()}
