"""Power of a host: restarted or switched off, a moment after the reply."""

import subprocess

from clusteradm.node.handler import handles
from clusteradm.node.spec.wire.power import ChangePower, PowerBegun
from clusteradm.node.state import boot_id


@handles(ChangePower)
def run(request: ChangePower) -> PowerBegun:
    """Begin it."""
    return PowerBegun(begin(request.action, request.message))


def begin(action: str, message: str) -> str:
    """Begin "reboot" or "poweroff", and return the kernel's id of the present boot. `message`: to those logged in.

    Raises OSError where systemd does not run.
    """
    try:
        state = subprocess.run(["systemctl", "is-system-running"], stdout=subprocess.PIPE, check=False).stdout
    except FileNotFoundError:
        state = b"offline"
    if b"offline" in state:
        raise OSError("systemd does not run here: the host cannot be rebooted by it")
    subprocess.Popen(
        ["sh", "-c", 'sleep 1; wall "$1"; exec systemctl "$0"', action, message],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return boot_id()
