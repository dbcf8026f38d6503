"""Copies of models on the hosts' own disks, where the inventory says so (cluster_models: local)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusteradm.errors import ClusteradmError, HostFailed
from clusteradm.inventory import Cluster, Host
from clusteradm.inventory.kinds import LOCAL_MODELS
from clusteradm.models.repository import Repository
from clusteradm.node.spec.wire.manifest import MODEL, SEGMENT
from clusteradm.node.spec.wire.repository import Copies, KeepCopies, ListedVersion
from clusteradm.transport import Connections

_MOST_REASONS = 3
_SECONDS = 1800.0  # all models, over the network to a slow disk


@dataclass(frozen=True)
class Spread:
    """What became of the copies. `hosts`: those that have all of them; `mended`: by host, the versions whose copy was
    damaged, as "NAME version N"; `failed`: the errors of the other hosts; `left_out`: versions that the head did not
    list; `unread`: whether it cannot read a part of its repository. Other copies were left as they are then."""

    hosts: tuple[str, ...]
    mended: dict[str, tuple[str, ...]]
    failed: dict[str, ClusteradmError]
    left_out: int = 0
    unread: bool = False

    def warnings(self) -> tuple[str, ...]:
        """The hosts that have not all copies, and why; their ranks read from the head. What was left out."""
        texts = (
            str(error) if str(error).startswith(host) else f"{host}: {error}" for host, error in self.failed.items()
        )
        left = ""
        if self.left_out:
            left = f"no copy was removed: the head lists a limited number of versions, and left out {self.left_out}"
        elif self.unread:
            left = "no copy was removed: the head cannot read all versions (clusteradm model verify says which)"
        return (*(f"not copied to its disk: {text}" for text in texts), *([left] if left else []))


def are_kept(cluster: Cluster) -> bool:
    """Whether the hosts keep copies."""
    return bool(cluster.setting("cluster_models") == LOCAL_MODELS)


def spread(connections: Connections, cluster: Cluster, hosts: Sequence[Host]) -> Spread:
    """Have each of the hosts but the head, which has the repository itself, keep a verified copy of every version that
    jobs use without being told to: the latest of each model, and those with a label; and of nothing else, unless the
    head has more versions than it lists, or such that it cannot read.

    Raises HostUnreachable and HostFailed for the head.
    """
    listed = Repository(connections, cluster).list()
    wanted = _wanted(listed.versions)
    paths = {sha256: f"{one.path}/{file}" for sha256, (one, file) in wanted.items()}
    # A version that is not in the list, or has lost its manifest or label, may be one whose copy is wanted.
    unread = bool(listed.damaged) or any(one.manifest is None for one in listed.versions)
    request = KeepCopies(cluster.setting("cluster_user"), paths, others=unread or listed.left_out > 0)

    def keep(host: Host) -> Copies:
        return connections.node(host).call(request, timeout=_SECONDS)

    outcome = connections.each([host for host in hosts if host.name != cluster.head.name], keep)
    failed = dict(outcome.failed)
    mended: dict[str, tuple[str, ...]] = {}
    for name, copies in outcome.ok.items():
        if copies.failed:
            reasons = list(dict.fromkeys(copies.failed.values()))
            failed[name] = HostFailed("; ".join(reasons[:_MOST_REASONS]), where=name)
        if copies.mended:
            known = [wanted[each][0] for each in copies.mended if each in wanted]
            mended[name] = tuple(dict.fromkeys(f"{one.name} version {one.version}" for one in known))
    whole = tuple(name for name in outcome.ok if name not in failed)
    return Spread(whole, mended, failed, listed.left_out, unread)


def _wanted(versions: Sequence[ListedVersion]) -> dict[str, tuple[ListedVersion, str]]:
    """The models and segments to copy, by their sha256: version and file; of a damaged one nobody knows what it was."""
    latest = {one.name: one.version for one in versions}  # the list is in the order of the numbers
    found: dict[str, tuple[ListedVersion, str]] = {}
    for one in versions:
        about = one.manifest
        if about is not None and about.servable is None and (one.labels or latest[one.name] == one.version):
            found[about.sha256] = (one, MODEL)
            for number, segment in enumerate(about.segments):
                found[segment.sha256] = (one, SEGMENT % (number, len(about.segments)))
    return found
