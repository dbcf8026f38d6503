"""Uses of a model's versions on this cluster: what would fail without them."""

import os
from typing import Iterator, Optional

from clusteradm.node.job import files, folders, starter
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import StoredSpec
from clusteradm.node.spec.wire.versions import JOB, Use


def of(name: str, version: Optional[int] = None) -> Iterator[Use]:
    """What uses a version of the model, or any of them: jobs that run. Asked for on the head, where jobs are known."""
    for job in sorted(starter.running(folders.owned())):
        spec = files.read(StoredSpec, os.path.join(folders.own(job), job_names.SPEC))
        if spec is not None and spec.model.name == name and version in (None, spec.model.version):
            yield Use(JOB, job, spec.model.version)
