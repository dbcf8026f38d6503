"""Plan of a job: the deployed model that it runs, and the slots that it may use."""

from __future__ import annotations

from dataclasses import dataclass

from clusteradm.errors import UsageError
from clusteradm.jobs import slots
from clusteradm.jobs.slots import Slots
from clusteradm.models import advice
from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository, Stored
from clusteradm.node.spec.wire.job import ModelFile
from clusteradm.node.spec.wire.manifest import CLASSIFIER, MODEL, Feed, Manifest
from clusteradm.transport import Connections

_TOP = 5  # classes of a classifier's result


@dataclass(frozen=True)
class Plan:
    """A model and the slots for it. `most`: the most ranks wanted, None for one on every slot; `task`: the model's,
    where it is known."""

    model: ModelFile
    slots: Slots
    most: int | None
    task: str | None = None

    @classmethod
    def make(
        cls,
        connections: Connections,
        model: str,
        version: int | None = None,
        *,
        limit: str | None = None,
        ranks: int | None = None,
        cpu: bool = False,
        feed: Feed | None = None,
        threshold: float | None = None,
    ) -> Plan:
        """Find the model, and the slots for it. `model`: NAME, NAME:VERSION or NAME@LABEL; `version`: of a NAME alone;
        `limit`: a pattern of hosts; `feed`, `threshold`: where not as the model was deployed.

        Raises UsageError for a model that is not there or cannot run so, HostUnreachable and HostFailed for the head.
        """
        cluster = connections.cluster
        stored, manifest = Repository(connections, cluster).find(Reference.parse(model).at(version))
        _check_model(stored, manifest, cpu=cpu)
        chosen = {host.name for host in cluster.select(limit)} if limit else set(cluster.hosts)
        # In the order of the workers, which has the head first, as mpirun's hostfile does.
        hosts = [host for host in cluster.workers if host.name in chosen]
        form = advice.form(manifest.inputs[0], manifest.feed)
        if feed is not None:
            form = advice.form(manifest.inputs[0], advice.overridden(manifest.feed, feed))
            advice.check_feed(form)
        if threshold is None:
            threshold = manifest.threshold
        file = ModelFile(stored.name, stored.version, f"{stored.path}/{MODEL}", manifest.sha256, form, threshold)
        return cls(file, slots.find(connections, hosts, cpu=cpu), ranks, manifest.task)

    def top(self, wanted: int | None) -> int:
        """Classes of a result, where it is the model's whole outputs 0. `wanted`: by the user, None for the usual."""
        if wanted is not None:
            return wanted
        return _TOP if self.task in (None, CLASSIFIER) else 0

    @property
    def ranks(self) -> int:
        """The ranks that the job gets."""
        return self.slots.count if self.most is None else min(self.most, self.slots.count)

    def check(self) -> None:
        """Raise HostFailed where there is no slot, UsageError where there are fewer than ranks wanted."""
        self.slots.check()
        if self.most is not None and self.most > self.slots.count:
            raise UsageError(f"--ranks {self.most}: only {self.slots.count} are healthy and free")


def _check_model(stored: Stored, manifest: Manifest, *, cpu: bool) -> None:
    if len(manifest.inputs) != 1:
        raise UsageError(f"{stored.name} has {len(manifest.inputs)} inputs; infer feeds models with one")
    if not manifest.tpu_operations and not cpu:
        raise UsageError(
            f"nothing in {stored.name} version {stored.version} runs on the Edge TPU: it was not compiled",
            next_step="compile it with edgetpu_compiler and deploy that, or use the CPUs: --cpu",
        )
    if manifest.tpu_operations and cpu:
        raise UsageError(
            f"{stored.name} version {stored.version} is compiled for the Edge TPU, which a CPU cannot run",
            next_step="deploy the .tflite that the compiler was given, under another name",
        )
