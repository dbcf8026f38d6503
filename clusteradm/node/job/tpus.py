"""TPUs that jobs report: those that failed in the middle of one, for the list of drains, which is root's."""

import os
import pwd
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Tuple

from clusteradm.node.account import as_user
from clusteradm.node.job import files, folders
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.job import StoredSpec, TpusOfJob

_MOST_REASON = 300  # characters


class Word(NamedTuple):
    """What a job reports: HOST:PCI-ADDRESS -> why it failed; those that have worked again since."""

    job: str
    ill: Dict[str, str]
    well: Tuple[str, ...]


def take() -> List[Word]:
    """What jobs report since it was taken last: each word is taken once. Only of TPUs that root has given them."""
    found = []
    for job in folders.owned():
        own = folders.own(job)
        path = os.path.join(own, job_names.RUN, job_names.TPUS)
        if not os.path.lexists(path):
            continue
        spec = files.read(StoredSpec, os.path.join(own, job_names.SPEC))
        with suppress(OSError, KeyError, WireError):
            word = decode(TpusOfJob, _taken(path))
            slots = spec.slots if spec is not None else ()
            given = {"%s:%s" % (slot.host, tpu) for slot in slots for tpu in slot.tpus if tpu is not None}
            ill = {tpu: _line(why) for tpu, why in word.ill.items() if tpu in given}
            found.append(Word(job, ill, tuple(tpu for tpu in word.well if tpu in given)))
    return found


def _taken(path: str) -> Any:
    """The document, which is removed: as the cluster user, who can put anything in its place."""

    def work() -> Any:
        document = files.read_json(path)
        os.unlink(path)
        return document

    user = pwd.getpwuid(os.stat(os.path.dirname(path)).st_uid).pw_name
    return as_user(user, work)


def _line(text: str) -> str:
    return " ".join(text.split())[:_MOST_REASON]
