"""Python API: a cluster by its inventory, and what the commands do to it, without printing.

    import clusteradm

    with clusteradm.open("inventory.yml") as cluster:
        for finding in cluster.health().errors:
            print(finding.subject, finding.cause, finding.remedy)

docs/python-api.md describes it. Errors are those of clusteradm.errors.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from clusteradm import inventory, shipped, transport
from clusteradm.errors import UsageError
from clusteradm.inventory import Host
from clusteradm.transport import DEFAULT_FORKS, FirstContact, Limits, Password

if TYPE_CHECKING:
    from clusteradm.fleet.deployment import Deployment
    from clusteradm.health import Finding, Survey
    from clusteradm.jobs import JobReport, Update
    from clusteradm.node.spec.wire.repository import ListedVersion, ModelList
    from clusteradm.node.spec.wire.result import Result
    from clusteradm.playbook import Event, Recap

StrPath = str | os.PathLike[str]


def open(
    path: StrPath,
    *,
    known_hosts: StrPath | None = None,
    accept_new: bool = False,
    forks: int = DEFAULT_FORKS,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    sudo_password: str | None = None,
) -> Cluster:
    """Read an inventory. No connection is made before a method needs one.

    `path`: the inventory, a file or a folder. `known_hosts`: host keys, by default known_hosts beside the inventory; a
    host that is not in it is unreachable, unless `accept_new`, which also accepts packages that are not in
    clusteradm.lock. `forks`: how many hosts at a time. `limits`: time limits
    in seconds. `sudo_password`: for hosts whose sudo asks for one.

    Raises InputErrors with every defect of the inventory.
    """
    cluster = inventory.load(Path(path))
    connections = transport.Connections(
        cluster,
        Path(known_hosts) if known_hosts is not None else cluster.known_hosts,
        forks=forks,
        first_contact=FirstContact.ACCEPT if accept_new else FirstContact.ASK,
        limits=limits,
        sudo_password=Password(sudo_password) if sudo_password is not None else None,
    )
    return Cluster(cluster, connections, accept_new=accept_new)


@dataclass(frozen=True)
class Health:
    """Result of Cluster.health: every finding, and the survey that they were made of."""

    findings: Sequence[Finding]
    survey: Survey

    @property
    def ok(self) -> bool:
        """Whether there is no error and no warning."""
        return all(finding.ok for finding in self.findings)

    @property
    def errors(self) -> list[Finding]:
        """Findings that keep a host or a TPU from work."""
        return [finding for finding in self.findings if finding.severity.name == "ERROR"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that do not stop jobs."""
        return [finding for finding in self.findings if finding.severity.name == "WARNING"]


@dataclass(frozen=True)
class Inference:
    """Result of Cluster.infer: the job's id, its figures, the reasons why hosts or TPUs were left out, and its results.

    `results`: one for every input, in input order; empty where they were written to a file.
    """

    job: str
    report: JobReport
    left_out: Sequence[str]
    results: Sequence[Result]


class Cluster:
    """A cluster. Its connections are opened when first needed and closed by `close`, or at the end of a with block.

    The methods raise UsageError for arguments that make no sense, HostUnreachable and HostFailed for hosts that they
    cannot do without.
    """

    def __init__(
        self, cluster: inventory.Cluster, connections: transport.Connections, *, accept_new: bool = False
    ) -> None:
        self.inventory = cluster
        self._accept_new = accept_new
        self._connections = connections

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. What runs on the hosts goes on."""
        self._connections.close()

    def _hosts(self, limit: str | None) -> tuple[Host, ...]:
        return self.inventory.select(limit) if limit is not None else tuple(self.inventory.hosts.values())

    def health(
        self,
        *,
        limit: str | None = None,
        expect: bool = False,
        progress: Callable[[str], None] = lambda text: None,
    ) -> Health:
        """Check every host and every TPU, as `clusteradm health`. A host that does not answer is a finding.

        `limit`: a host pattern, as --limit. `expect`: report TPUs that the inventory does not declare. `progress`: gets
        a line of text for every host that has answered.
        """
        from clusteradm import health

        survey = health.collect(self._connections, self._hosts(limit), together=True, progress=progress)
        findings = health.judge(self.inventory, survey, undeclared=expect)
        return Health(tuple(findings), survey)

    def bootstrap(
        self,
        *,
        playbook: StrPath | None = None,
        limit: str | None = None,
        tags: Iterable[str] = (),
        skip_tags: Iterable[str] = (),
        check: bool = False,
        diff: bool = False,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Recap:
        """Run a playbook, by default the shipped bootstrap.yml, as `clusteradm bootstrap`.

        `tags`, `skip_tags`: which tasks, all by default. `check`: change nothing. `diff`: events carry the changes of
        files. `on_event`: gets every event in the calling thread. Failed and unreachable hosts are in the recap, not
        raised. Raises InputErrors with every defect of the playbook.
        """
        from clusteradm.fleet.packages import Packages
        from clusteradm.playbook import PlaybookRun, Tags, Templates, load
        from clusteradm.playbook.tags import ALL

        templates = Templates()
        path = Path(playbook) if playbook is not None else shipped.PLAYBOOKS / "bootstrap.yml"
        chosen = Tags(frozenset(tags) or ALL, frozenset(skip_tags))
        book = load(path, self.inventory, templates).only(chosen)
        files = Packages(self.inventory, accept_new=self._accept_new, check=check)
        run = PlaybookRun(
            book, self._connections, check=check, diff=diff, limit=limit, templates=templates, files=files
        )
        return run.execute(on_event)

    def deploy_model(
        self,
        model: StrPath,
        name: str | None = None,
        *,
        sha256: str | None = None,
        labels: StrPath | None = None,
        version: int | None = None,
        limit: str | None = None,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        layout: str | None = None,
        task: str | None = None,
        threshold: float | None = None,
        progress: Callable[[int, int], None] = lambda sent, total: None,
    ) -> Deployment:
        """Store a .tflite file, or the definition of another servable (.yml, which says all itself), on the cluster and
        verify it on every host, as `clusteradm deploy-model`.

        `model`: a path, coral:NAME, or an https address with `sha256`; these two need no `name`.
        `version`: the next one by default. `limit`: verify on these hosts only. `progress`: gets bytes sent and bytes
        in all. `mean`, `std` (one number or one per channel), `layout` ("nhwc", "nchw"): how pictures are fed; `task`,
        `threshold` (the least score of an answer): how outputs are read. Raises NotAModel for a file that is no model,
        before any connection is made; hosts that do not see the model are in the result, not raised.
        """
        from clusteradm.fleet.deployment import deploy
        from clusteradm.models import servables
        from clusteradm.models.source import Source
        from clusteradm.models.upload import prepare

        if servables.is_definition(os.fspath(model)):
            if any((sha256, labels, mean, std, layout, task, threshold)):
                raise UsageError("a definition says all about its servable itself", where=os.fspath(model))
            upload = servables.prepare(Path(model), name or "")
            return deploy(self._connections, upload, version, limit, progress=progress)

        source = Source.parse(os.fspath(model), sha256)
        name = source.name(name)
        file = Path(labels) if labels is not None else None
        path, found = source.local()
        upload = prepare(
            path,
            name,
            file,
            mean=mean,
            std=std,
            layout=layout,
            task=task,
            threshold=threshold,
            called=source.called,
            sha256=found,
        )
        return deploy(self._connections, upload, version, limit, progress=progress)

    def models(self) -> ModelList:
        """Every version of every model on the cluster, as `clusteradm model list`."""
        from clusteradm.models.repository import Repository

        return Repository(self._connections, self.inventory).list()

    def model(self, name: str, version: int | None = None) -> ListedVersion:
        """One version of a model, by default the latest, as `clusteradm model show`. Raises UsageError for none.

        `name`: NAME, NAME:VERSION or NAME@LABEL.
        """
        from clusteradm.models.reference import Reference
        from clusteradm.models.repository import Repository
        from clusteradm.node.spec.wire.repository import ListedVersion

        wanted = Reference.parse(name).at(version)
        found = Repository(self._connections, self.inventory).show(wanted, uses=False)
        assert found.version is not None  # noqa: S101 - show has looked
        labels = tuple(sorted(label for label, number in found.labels.items() if number == found.version))
        return ListedVersion(wanted.name, found.version, found.path, found.manifest, labels)

    def infer(
        self,
        model: str,
        inputs: Iterable[StrPath],
        *,
        version: int | None = None,
        limit: str | None = None,
        ranks: int | None = None,
        top: int | None = None,
        threshold: float | None = None,
        task: str | None = None,
        cpu: bool = False,
        wait: bool = False,
        pipeline: int | None = None,
        output: StrPath | None = None,
        progress: Callable[[int, int], None] = lambda sent, total: None,
        on_update: Callable[[Update], None] = lambda update: None,
    ) -> Inference:
        """Run a deployed model over inputs, as `clusteradm infer`, and wait for the results. Ctrl-C cancels the job.

        `inputs`: files and folders, or head:PATH. `version`: the latest by default. `limit`, `ranks`, `cpu`: where it
        runs. `wait`: queue behind the jobs that have the TPUs. `pipeline`: so many segments of the model, each on a
        TPU of its own. `top`: classes of a result, 0 for whole outputs; by default 5 of a classifier. `threshold`: the
        least score of an answer, and `task`: classifier, detector, segmentation, pose, embedding or raw, if not as the
        model was deployed. `output`: a file for the results, with large tensors beside it. `progress`: gets bytes sent
        and in all; `on_update`: gets every change of the job.

        Raises UsageError for inputs or a model that cannot be, HostFailed for a job that failed, HostUnreachable for a
        head that is lost for long: the job goes on there.
        """
        from clusteradm.jobs import Jobs, Plan, Results, build, launcher, resolve, writable
        from clusteradm.node.spec.wire.job_names import RESULTS

        into = None if output is None else writable(Path(output))
        found = resolve([os.fspath(each) for each in inputs])
        plan = Plan.make(
            self._connections,
            model,
            version,
            limit=limit,
            ranks=ranks,
            cpu=cpu,
            threshold=threshold,
            task=task,
            top=top,
            wait=wait,
            pipeline=pipeline,
            slurm=launcher.order(self.inventory, wait=wait),
        )
        jobs = Jobs(self._connections, self.inventory)
        job, _ = jobs.submit(found, plan, top=plan.top, progress=progress)
        try:
            status = None
            for update in jobs.follow(job):
                status = update.status
                on_update(update)
        except KeyboardInterrupt:
            jobs.cancel(job)
            raise
        assert status is not None  # noqa: S101 - the last update of a job that has ended has one
        jobs.check(job, status)
        with tempfile.TemporaryFile() as file:
            jobs.fetch(job, RESULTS, file)
            results = Results(job, self.inventory.head.name, file)
            if into is not None:
                results.save(into, lambda name, file: jobs.fetch(job, name, file))
            return Inference(
                job, build(job, status, None), plan.slots.left_out, () if into is not None else tuple(results.lines())
            )
