"""Deployment of a model: stored on the head, verified from every host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clusteradm import health
from clusteradm.models import members
from clusteradm.models.copies import Spread, are_kept, spread
from clusteradm.models.repository import Repository, Stored, Verified, too_old
from clusteradm.models.upload import Upload
from clusteradm.transport import Connections


@dataclass(frozen=True)
class Deployment:
    """Result of a deployment. `verified`: the hosts that see the files as they were sent, and those that do not;
    `warnings`: what the owner of the model should know; `copies`: on the hosts' disks, None where none are kept."""

    upload: Upload
    stored: Stored
    verified: Verified
    warnings: tuple[str, ...]
    copies: Spread | None = None

    @property
    def ok(self) -> bool:
        """Whether every host sees the model as it was sent, and one of them at least can load it."""
        reasons = [self.verified.refused.get(host) for host in self.verified.hosts]
        return not self.verified.failed and not (reasons and all(reasons))


def deploy(
    connections: Connections,
    upload: Upload,
    version: int | None,
    limit: str | None = None,
    *,
    progress: Callable[[int, int], None] = lambda sent, total: None,
    on_stored: Callable[[Stored], None] = lambda stored: None,
    on_lost: Callable[[], None] = lambda: None,
) -> Deployment:
    """Store a model under `version`, or the next one, and verify it from every host, or from those of `limit`.

    `progress`: gets bytes sent and bytes in all; `on_stored`: gets the version once it is stored;
    `on_lost`: is called when the head is sought again after a lost connection. Raises UsageError
    where the version exists with other files, HostUnreachable or HostFailed for the head.
    """
    cluster = connections.cluster
    hosts = cluster.select(limit) if limit is not None else tuple(cluster.hosts.values())
    connections.open({host.name: host for host in (cluster.head, *hosts)}.values())
    repository = Repository(connections, cluster)
    upload = members.complete(repository, upload)
    stored = repository.add(upload, version, progress, on_lost)
    on_stored(stored)
    verified = repository.verify(stored, upload, hosts)
    # In the inventory's order, not in that of the answers.
    verified.hosts.sort(key=[host.name for host in hosts].index)
    copies = None
    if are_kept(cluster):
        copies = spread(connections, cluster, [cluster.hosts[name] for name in verified.hosts])
    warnings = (
        *upload.warnings,
        *_refused_warnings(verified),
        *_runtime_warnings(connections, upload, verified.hosts),
        *(copies.warnings() if copies is not None else ()),
    )
    return Deployment(upload, stored, verified, warnings, copies)


def _refused_warnings(verified: Verified) -> tuple[str, ...]:
    """The hosts whose runtime cannot load the model, together where they give the same reason."""
    reasons: dict[str, list[str]] = {}
    for host in verified.hosts:
        reason = verified.refused.get(host)
        if reason:
            reasons.setdefault(reason, []).append(host)
    every = sum(map(len, reasons.values())) == len(verified.hosts)
    who = "no host can" if every and len(reasons) == 1 else ""
    return tuple(f"{who or ', '.join(hosts) + ' cannot'} load it: {reason}" for reason, hosts in reasons.items())


def _runtime_warnings(connections: Connections, upload: Upload, verified: Iterable[str]) -> tuple[str, ...]:
    """The hosts whose Edge TPU runtime is too old for the model, in one text."""
    minimum = upload.manifest.min_runtime
    if minimum is None:
        return ()
    names = set(verified)
    hosts = [host for host in connections.cluster.workers if host.name in names]
    old = too_old(upload.manifest, health.collect(connections, hosts, sections=("runtime",)).documents)
    return (f"it needs Edge TPU runtime {minimum}, but older are {', '.join(old)}",) if old else ()
