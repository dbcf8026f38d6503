"""Drains: hosts and single TPUs out of service, kept on the head, where every job is started from."""

import fcntl
import json
import os
import time

from clusteradm.node import atomic, files
from clusteradm.node.handler import handles
from clusteradm.node.serve import desired
from clusteradm.node.spec.wire.decode import decode, loads
from clusteradm.node.spec.wire.fleet import ChangeDrains, DrainEntry, DrainTable
from clusteradm.node.state import owners, private

_FILE = "drains.json"


@handles(ChangeDrains)
def change(request: ChangeDrains) -> DrainTable:
    """Take subjects out of service, return others to it. A subject that is drained already keeps its time.

    Raises ValueError for a file that can no longer be read: nothing is forgotten in silence.
    """
    path = os.path.join(private("cluster"), _FILE)
    with open(os.path.join(private("cluster"), "lock"), "ab", opener=owners) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = files.read(path)
        table = decode(DrainTable, {"drains": {} if data is None else loads(data)})
        drains = dict(table.drains)
        for subject, about in request.drain.items():
            since = drains[subject].since if subject in drains else int(time.time())
            drains[subject] = DrainEntry(about.reason, about.by, since)
        for subject in request.undrain:
            drains.pop(subject, None)
        if drains != table.drains:
            text = json.dumps(drains, indent=1, sort_keys=True, default=vars)
            with atomic.replacing(path) as file:
                file.write(text.encode("utf-8") + b"\n")
        if request.shared is None:
            return DrainTable(drains)
        desired.take_out(request.shared, list(drains))
    return DrainTable(drains, desired.held(request.shared))
