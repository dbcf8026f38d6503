"""Drains: hosts and single TPUs out of service, kept on the head, where every job is started from."""

import fcntl
import json
import os
import time
from typing import Dict

from clusteradm.node import atomic, files
from clusteradm.node.handler import handles
from clusteradm.node.job import tpus
from clusteradm.node.serve import desired
from clusteradm.node.slurm import nodes
from clusteradm.node.spec.wire.decode import decode, loads
from clusteradm.node.spec.wire.fleet import BY_JOB, ChangeDrains, DrainEntry, DrainReason, DrainTable
from clusteradm.node.state import owners, private

_FILE = "drains.json"


@handles(ChangeDrains)
def change(request: ChangeDrains) -> DrainTable:
    """Take subjects out of service, return others to it. A subject that is drained already keeps its time.

    TPUs that have failed in a job are drained with the reason, and returned where they have worked again in it. Where
    there is Slurm, it drains the same nodes, and those that it has drained by itself are in the table too.
    Raises ValueError for a file that can no longer be read: nothing is forgotten in silence.
    """
    path = os.path.join(private("cluster"), _FILE)
    with open(os.path.join(private("cluster"), "lock"), "ab", opener=owners) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = files.read(path)
        table = decode(DrainTable, {"drains": {} if data is None else loads(data)})
        drains = dict(table.drains)
        wanted: Dict[str, DrainReason] = {}
        for word in tpus.take():
            by = BY_JOB + word.job
            wanted.update((tpu, DrainReason(why, by)) for tpu, why in word.ill.items() if tpu not in drains)
            for tpu in word.well:
                if tpu in drains and drains[tpu].by == by:
                    del drains[tpu]
        wanted.update(request.drain)
        for subject, about in wanted.items():
            since = drains[subject].since if subject in drains else int(time.time())
            drains[subject] = DrainEntry(about.reason, about.by, since)
        for subject in request.undrain:
            drains.pop(subject, None)
        if drains != table.drains:
            text = json.dumps(drains, indent=1, sort_keys=True, default=vars)
            with atomic.replacing(path) as file:
                file.write(text.encode("utf-8") + b"\n")
        if request.shared is not None:
            desired.take_out(request.shared, list(drains))
    drains.update(nodes.agree(drains, request.undrain))
    return DrainTable(drains, None if request.shared is None else desired.held(request.shared))
