"""Uses of a model's versions on this cluster: what would fail without them."""

import os
from typing import Iterator, Optional

from clusteradm.node import served
from clusteradm.node.job import files, folders, starter
from clusteradm.node.models import store
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import StoredSpec
from clusteradm.node.spec.wire.serving import MAPS
from clusteradm.node.spec.wire.versions import ENDPOINT, JOB, Use


def of(shared: str, name: str, version: Optional[int] = None) -> Iterator[Use]:
    """What uses a version of the model, or any of them: jobs that run, and the endpoint. Asked for on the head.

    Raises WireError for a damaged file of the endpoint's: nobody knows then what it serves.
    """
    for job in sorted(starter.running(folders.owned())):
        spec = files.read(StoredSpec, os.path.join(folders.own(job), job_names.SPEC))
        if spec is not None and spec.model.name == name and version in (None, spec.model.version):
            yield Use(JOB, job, spec.model.version)
    for one in _served(shared, name):
        if version in (None, one):
            yield Use(ENDPOINT, name, one)


def _served(shared: str, name: str) -> Iterator[int]:
    """The versions that the boards' servers are to have."""
    for model in served.read(shared).models if os.path.isdir(MAPS) else ():
        if model.name == name:
            folder = store.model_folder(shared, name)
            labels = {label: one.version for label, one in store.read_versions(folder).labels.items()}
            there = store.versions(folder)
            yield from (one for one in model.wanted(there, labels) if one in there)
