"""What people have taken out of service: hosts and single TPUs, kept on the head, where every job is started from."""

import fcntl
import json
import os
import time
from typing import Any, Callable, Dict

from clusteradm.node import files
from clusteradm.node.state import owners, private

_FILE = "drains.json"


def change(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """{"drain": {subject: {"reason", "by"}}, "undrain": [subjects]} -> {"drains": all that are drained}.

    Either may be left out. A subject is HOST, or HOST:PCI-ADDRESS. What is drained already keeps its time. Raises
    ValueError for a file that is no longer readable: nothing is forgotten in silence.
    """
    path = os.path.join(private("cluster"), _FILE)
    with open(os.path.join(private("cluster"), "lock"), "ab", opener=owners) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = files.read(path)
        drains: Dict[str, Dict[str, Any]] = {} if data is None else json.loads(data.decode("utf-8"))
        before = dict(drains)
        for subject, about in request.get("drain", {}).items():
            since = drains.get(subject, {}).get("since", int(time.time()))
            drains[subject] = {"reason": str(about["reason"]), "by": str(about["by"]), "since": since}
        for subject in request.get("undrain", ()):
            drains.pop(subject, None)
        if drains != before:
            files.write(path, json.dumps(drains, indent=1, sort_keys=True).encode("utf-8") + b"\n")
    return {"drains": drains}
