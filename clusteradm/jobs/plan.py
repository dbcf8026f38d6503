"""Plan of a job: the deployed model that it runs, and the slots that it may use."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clusteradm.errors import UsageError
from clusteradm.jobs import pipelines, slots
from clusteradm.jobs.slots import Slots
from clusteradm.models import advice
from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository, Stored
from clusteradm.node.spec import reading
from clusteradm.node.spec.answers import MOST_ITEMS
from clusteradm.node.spec.wire.job import InputForm, ModelFile, SlurmOrder
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, MODEL, RAW, Feed, Manifest
from clusteradm.transport import Connections

TOP = 5  # classes of a classifier's result


@dataclass(frozen=True)
class Plan:
    """A model and the slots for it. `most`: the most ranks wanted, None for one on every slot; `top`: classes of a
    result, 0 where the model is read as no classifier; `notes`: what the user should know of how it is read; `wait`:
    the job waits for other jobs that have its TPUs; `slurm`: what Slurm is asked for, None without it."""

    model: ModelFile
    slots: Slots
    most: int | None
    top: int = TOP
    notes: tuple[str, ...] = ()
    wait: bool = False
    slurm: SlurmOrder | None = None

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
        task: str | None = None,
        top: int | None = None,
        wait: bool = False,
        pipeline: int | None = None,
        slurm: SlurmOrder | None = None,
    ) -> Plan:
        """Find the model, and the slots for it. `model`: NAME, NAME:VERSION or NAME@LABEL; `version`: of a NAME alone;
        `limit`: a pattern of hosts; `feed`, `threshold`, `task`: where not as the model was deployed, the task one of
        TASKS of node/spec/wire/manifest.py or RAW; `top`: classes of a classifier's result, 0 for RAW; `wait`: with the
        TPUs that other jobs have, for which this one waits; `pipeline`: the segments of the model that are to work
        together, each on a TPU of its own; `slurm`: with all healthy TPUs, of which Slurm gives some.

        Raises UsageError for a model that is not there or cannot run so, HostUnreachable and HostFailed for the head.
        """
        cluster = connections.cluster
        chosen = {host.name for host in cluster.select(limit)} if limit else set(cluster.hosts)
        # In the order of the workers, which has the head first, as mpirun's hostfile does.
        hosts = [host for host in cluster.workers if host.name in chosen]
        # They are asked for their slots next: their connections are made while the head looks the model up.
        connections.begin(hosts)
        stored, manifest = Repository(connections, cluster).find(Reference.parse(model).at(version))
        cut = None
        if pipeline is not None:
            cut = pipelines.find(stored, manifest, pipeline, cpu=cpu, head=cluster.head.name)
        _check_model(stored, manifest, cpu=cpu, in_parts=cut is not None)
        batch = advice.batch(manifest)
        form = advice.form(manifest.inputs[0], manifest.feed, batch)
        if feed is not None:
            form = advice.form(manifest.inputs[0], advice.overridden(manifest.feed, feed), batch)
            advice.check_rate(form)
            if feed.std or feed.layout or feed.fit:
                advice.check_feed(form)
        more: tuple[InputForm, ...] = ()
        if len(manifest.inputs) > 1:
            if feed is not None:
                raise UsageError(
                    f"{stored.name} has {len(manifest.inputs)} inputs, which take arrays alone: without --mean, --std, "
                    "--layout, --fit and --sample-rate"
                )
            # Arrays alone: of a picture nothing says which input it is.
            form, *others = (replace(advice.form(one, Feed(pictures=False)), name=one.name) for one in manifest.inputs)
            more = tuple(others)
        if threshold is None:
            threshold = manifest.threshold
        kind, notes = _task(manifest, form, batch, task, top)
        path = f"{stored.path}/{MODEL}"
        file = ModelFile(stored.name, stored.version, path, manifest.sha256, form, threshold, kind, more, batch, cut)
        classes = (TOP if top is None else top) if kind == CLASSIFIER else 0
        found = slots.find(connections, hosts, cpu=cpu, wait=wait, busy=slurm is not None)
        return cls(file, found, ranks, classes, notes, wait, slurm)

    @property
    def stages(self) -> int:
        """The ranks of a pipeline; 1 where each has the whole model."""
        return len(self.model.pipeline.stages) if self.model.pipeline else 1

    @property
    def left_over(self) -> tuple[str, ...]:
        """The slots that no pipeline has."""
        return pipelines.left_over(self.slots.usable, self.stages, self.most)

    @property
    def ranks(self) -> int:
        """The ranks that the job gets."""
        count = self.slots.count if self.most is None else min(self.most, self.slots.count)
        return count // self.stages * self.stages

    def check(self) -> None:
        """Raise HostFailed where there is no slot, UsageError where there are fewer than ranks wanted."""
        self.slots.check()
        if self.most is not None and self.most > self.slots.count:
            raise UsageError(f"--ranks {self.most}: only {self.slots.count} are healthy and free")
        if self.stages > 1:
            pipelines.check(self.slots.usable, self.stages, self.most, cpu=self.slots.cpu)


def task_of(model: ModelFile | None, top: int) -> str:
    """What the results of a job are of; a job of an earlier program says it by its number of classes alone."""
    return (model.task if model else None) or (CLASSIFIER if top else RAW)


def _task(
    manifest: Manifest, form: InputForm, batch: int, wanted: str | None, top: int | None
) -> tuple[str, tuple[str, ...]]:
    """What the outputs are read as, and what is to be said of it. Raises UsageError where they cannot be what the user
    says."""
    if top == 0:
        return RAW, ()
    if top is not None:
        if top > MOST_ITEMS:
            raise UsageError(f"--top {top}: a result has at most {MOST_ITEMS:,} classes")
        if wanted not in (None, CLASSIFIER):
            raise UsageError(f"--top is of a classifier's result, and --task says {wanted}")
        wanted = CLASSIFIER
    kind = wanted or manifest.task
    outputs = [reading.Output(one.name, advice.form(one, None, batch).shape, one.dtype) for one in manifest.outputs]
    try:
        return reading.find(kind, form.shape, outputs, form.feed).task, ()
    except reading.NoReading as error:
        if kind == DETECTOR and not all(tensor.shape for tensor in manifest.outputs):
            return DETECTOR, ()  # the operator gives its outputs their shapes when it runs
        if wanted is None:
            return RAW, (f"the results are whole tensors: {error}",)
        option = "--top" if top is not None else f"--task {wanted}"
        raise UsageError(f"{option}: {error}", next_step="leave it out; --task raw gives the whole outputs") from None


def _check_model(stored: Stored, manifest: Manifest, *, cpu: bool, in_parts: bool) -> None:
    if manifest.servable is not None:
        raise UsageError(
            f"{stored.name} version {stored.version} is of the kind {manifest.servable.kind}; jobs run models alone",
            next_step=f"serve it, and ask the endpoint: clusteradm serve deploy {stored.name}",
        )
    names = [tensor.name for tensor in manifest.inputs]
    if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
        raise UsageError(
            f"the {len(names)} inputs of {stored.name} have no names of their own, by which they could be fed"
        )
    if in_parts:
        return
    also = f"--pipeline {len(manifest.segments)} runs its segments; or " if manifest.segments else ""
    if not manifest.tpu_operations and not cpu:
        raise UsageError(
            f"nothing in {stored.name} version {stored.version} runs on the Edge TPU: it was not compiled",
            next_step=f"{also}compile it with edgetpu_compiler and deploy that, or use the CPUs: --cpu",
        )
    if manifest.tpu_operations and cpu:
        raise UsageError(
            f"{stored.name} version {stored.version} is compiled for the Edge TPU, which a CPU cannot run",
            next_step="deploy the .tflite that the compiler was given, under another name",
        )
