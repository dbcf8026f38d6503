"""Log of a host's server, or of HAProxy, from the journal."""

import subprocess

from clusteradm.node.handler import handles
from clusteradm.node.spec.wire.serving_requests import AskServingLog, ServingLog

SERVER_UNIT, BALANCER_UNIT = "clusteradm-serve.service", "haproxy.service"
_MOST_LINES = 10_000
_MOST_CHARACTERS = 4000  # of a line
_SECONDS = 30.0


@handles(AskServingLog)
def log(request: AskServingLog) -> ServingLog:
    """The last lines. Raises OSError, and subprocess.TimeoutExpired for a journal that cannot be read in time."""
    unit = BALANCER_UNIT if request.balancer else SERVER_UNIT
    lines = max(1, min(request.lines, _MOST_LINES))
    command = ["journalctl", "--no-pager", "--quiet", "--output=short-iso", "--lines=%d" % lines, "--unit", unit]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=_SECONDS
    )
    if done.returncode:
        raise OSError("journalctl: " + done.stderr.decode("utf-8", "replace").strip()[:500])
    text = done.stdout.decode("utf-8", "replace")
    return ServingLog(tuple(line[:_MOST_CHARACTERS] for line in text.splitlines()))
