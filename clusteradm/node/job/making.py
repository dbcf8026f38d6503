"""A job until it starts: made, filled with inputs, started or discarded.

Root makes the folders and the spec, and talks to systemd; all else is written and read as the cluster user.
"""

import os
import re
import secrets
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Tuple

from clusteradm.node import blobs, locks
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.job import files, folders, keeping, naming, pack, plan, queue, starter
from clusteradm.node.job.feed import Feed
from clusteradm.node.slurm import programs
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Status, StoredSpec
from clusteradm.node.spec.wire.job_requests import (
    AddPart,
    AddPaths,
    Created,
    CreateJob,
    DiscardJob,
    InputsAdded,
    PartTaken,
    Started,
    StartJob,
)
from clusteradm.node.spec.wire.node import Empty

_PIECES = "pieces.jsonl"  # while the job is being made: the names and sizes of the files in the pack
_HIDDEN = re.compile("[.]" + job_names.ID)
_TAKEN = "job %s has the TPUs by now: --wait queues behind it"
_NO_SLURM = (
    "the head has no Slurm (no scontrol): clusteradm bootstrap --playbook slurm.yml sets it up; of a Slurm that is "
    "there already, install its client on the head (Debian's package slurm-client), with its slurm.conf and munge key"
)
_ABANDONED = 24 * 3600.0  # seconds after which a job that was never started is removed


@handles(CreateJob)
def create(request: CreateJob) -> Created:
    """Make an empty job."""
    job = "%s-%s" % (time.strftime("%Y%m%d-%H%M%S"), secrets.token_hex(3))
    jobs = os.path.join(request.shared, job_names.JOBS)
    for name in filter(_HIDDEN.fullmatch, os.listdir(jobs)):
        with suppress(FileNotFoundError):
            if time.time() - os.lstat(os.path.join(jobs, name)).st_mtime > _ABANDONED:
                folders.remove(folders.unstarted(request.shared, name[1:]))
    keeping.remove(request.shared, request.user, request.keep_seconds, request.keep_bytes)
    folders.make(folders.unstarted(request.shared, job), request.user)
    return Created(job)


@handles(AddPart)
def add_part(request: AddPart) -> PartTaken:
    """Append a file body to the inputs and remove it. Not taken: another job has removed it before."""
    job = folders.unstarted(request.shared, request.job)
    path = blobs.path_of(request.blob)
    try:
        blob = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return PartTaken(False)
    with blob:

        def work() -> None:
            pack.append(os.path.join(job.share, job_names.PACK), blob)
            with open(os.path.join(job.run, _PIECES), "a", encoding="utf-8") as file:
                file.writelines(files.line(vars(piece)) for piece in request.files)
                file.writelines(files.line({"failed": name, "why": why}) for name, why in request.failed.items())

        as_user(request.user, work)
    with suppress(FileNotFoundError):
        os.unlink(path)
    return PartTaken(True)


@handles(AddPaths)
def add_paths(request: AddPaths) -> InputsAdded:
    """Append inputs that are on the head already."""
    job = folders.unstarted(request.shared, request.job)

    def work() -> Dict[str, Any]:
        count = size = 0
        with open(os.path.join(job.run, _PIECES), "a", encoding="utf-8") as pieces:
            for source in naming.find(list(naming.expanded(request.paths, request.shared)), request.suffixes):
                added, why = 0, source.error
                if why is None:
                    try:
                        with naming.opened(source) as file:
                            added = pack.append(os.path.join(job.share, job_names.PACK), file)
                        why = None if source.size in (None, added) else "the tar file was cut short meanwhile"
                    except pack.NoInput as error:
                        why = str(error)
                pieces.write(files.line({"name": source.name, "size": added, "member": source.member}))
                if why is not None:
                    pieces.write(files.line({"failed": source.name, "why": why}))
                count, size = count + 1, size + added
        return {"files": count, "bytes": size}

    return InputsAdded(**_refusable(request.user, work))


@handles(StartJob)
def start(request: StartJob) -> Started:
    """Index the inputs, make the job visible, start its supervisor."""
    job = folders.unstarted(request.shared, request.job)
    final = folders.started(request.shared, request.job)

    model = request.spec.model

    def prepare() -> Dict[str, Any]:
        """Of a job that stays open for inputs."""
        place = request.watch.folder if request.watch else None
        if place is not None:
            try:
                os.listdir(place)
            except OSError as error:
                raise pack.PackError("cannot read the folder %s on the head: %s" % (place, error.strerror)) from None
        Feed.of(job).make()
        if request.after is not None:
            from clusteradm.node.job import taking  # of use to few jobs

            taking.copy_record(folders.started(request.shared, request.after).run, job.run)
        files.write_json(os.path.join(job.run, job_names.STATUS), Status(job_names.STARTING))
        return {}

    def work() -> Dict[str, Any]:
        whole = os.path.join(job.share, job_names.PACK)
        entries, failed = _entries(os.path.join(job.run, _PIECES))
        # Where not one could be read, there is no pack.
        if not entries or files.size(whole) != sum(entry.size for entry in entries):
            raise pack.PackError("the inputs did not arrive whole")
        entries = [entry._replace(error=failed.get(entry.name)) for entry in entries]
        lines = pack.index(whole, entries, *map(pack.wanted, (model.input, *model.more)))
        count = pack.write_index(os.path.join(job.run, job_names.INPUTS), lines)
        # A job that was started is there after a power failure.
        for path in (whole, os.path.join(job.run, job_names.INPUTS)):
            files.sync(path)
        os.unlink(os.path.join(job.run, _PIECES))
        files.write_json(os.path.join(job.run, job_names.STATUS), Status(job_names.STARTING, total=count))
        return {"inputs": count}

    if request.slurm and not programs.there():
        return Started(refused=_NO_SLURM)
    started = Started(**_refusable(request.user, work if request.watch is None else prepare))
    if started.refused is not None:
        return started
    # The inputs may have taken long to come; from here on the version is used, and no longer to be removed.
    with locks.held(locks.JOBS), locks.held(locks.MODELS, shared=True):
        slots = request.spec.slots if request.wait or request.slurm else queue.left(request.spec, request.job)
        if not plan.ranks(request.spec, slots):
            return Started(refused=_TAKEN % ", ".join(queue.ahead(request.spec, request.job)))
        if not os.path.lexists(model.path):
            return Started(refused="version %d of model %s was removed meanwhile" % (model.version, model.name))
        known = {"job": request.job, "inputs": started.inputs, "folder": final.share, "slots": slots}
        known.update(watch=request.watch, slurm=request.slurm)
        spec = StoredSpec(**{**vars(request.spec), **known})
        files.write_json(os.path.join(job.own, job_names.SPEC), spec)
        folders.rename(job.share, final.share)
        starter.start(request.job, request.user, final.own)
    return started


def _entries(pieces: str) -> Tuple[List[pack.Entry], Dict[str, str]]:
    """The files in the pack, and why some of them are not to be used, by name."""
    entries: List[pack.Entry] = []
    failed: Dict[str, str] = {}
    at = 0
    for line in files.read_lines(pieces):
        if "failed" in line:
            failed[line["failed"]] = line["why"]
        else:
            entries.append(pack.Entry(line["name"], at, line["size"], None, line.get("member")))
            at += line["size"]
    return entries, failed


@handles(DiscardJob)
def discard(request: DiscardJob) -> Empty:
    """Remove a job that was never started."""
    job = folders.unstarted(request.shared, request.job)
    if os.path.lexists(job.share):
        folders.remove(job)
    return Empty()


def _refusable(user: str, work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """The work's result; {"refused": why} where the inputs are no use: the asker's mistake, not the host's failure."""

    def careful() -> Dict[str, Any]:
        try:
            return work()
        except pack.PackError as error:
            return {"refused": str(error)}

    return dict(as_user(user, careful))
