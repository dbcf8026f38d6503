"""Verification of stored versions: every host reads every file anew and hashes what it read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from clusteradm.errors import ClusteradmError
from clusteradm.inventory import Cluster, Host
from clusteradm.models.reference import Reference
from clusteradm.models.repository import CACHED, Repository
from clusteradm.node.spec.wire.manifest import LABELS, MANIFEST, MODEL, SUMS, sums_text
from clusteradm.node.spec.wire.repository import ListedVersion, VerifyModel
from clusteradm.transport import Connections

_READING = 600.0  # for one version


@dataclass(frozen=True)
class Damage:
    """A file of a version that is not as it was stored. `found`: its sha256 there, None where it is missing,
    "unreadable: REASON" where it cannot be read.

    `everywhere`: the head reads it so itself: its disk has it so; None where it was not asked. `wanted`: None where the
    file is no longer one of its kind, and nobody knows what it was.
    """

    name: str
    version: int
    file: str
    found: str | None
    wanted: str | None
    hosts: tuple[str, ...]
    everywhere: bool | None


@dataclass(frozen=True)
class Verification:
    """Result of a verification. `hosts`: those that have read everything; `failed`: the errors of the others;
    `unrecorded`: versions of an earlier program, which has stored no sha256 of their manifests."""

    versions: tuple[ListedVersion, ...]
    hosts: tuple[str, ...]
    damages: tuple[Damage, ...]
    failed: dict[str, ClusteradmError]
    unrecorded: tuple[ListedVersion, ...]
    left_out: int = 0
    # Files of labels that are damaged, and folders of models that cannot be read, in words.
    labels: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every host has read every file as it was stored."""
        return not (self.damages or self.failed or self.left_out or self.labels)

    def damaged(self, version: ListedVersion) -> bool:
        """Whether a host reads that version otherwise than it was stored."""
        return any((each.name, each.version) == (version.name, version.version) for each in self.damages)


def verify(
    connections: Connections,
    cluster: Cluster,
    wanted: Reference | None,
    hosts: Sequence[Host],
    on_done: Callable[[Host], None] = lambda host: None,
) -> Verification:
    """Have the hosts hash every file of the versions: all, those of a model, or one.

    What was stored is what the head has in SHA256SUMS. Raises UsageError for a version that is not there,
    HostUnreachable and HostFailed for the head; the errors of other hosts are in the result.
    """
    repository = Repository(connections, cluster)
    listed = repository.list() if wanted is None else repository.list_of(wanted)
    versions = listed.versions if wanted is None else repository.chosen(wanted, listed)
    expected = {(one.name, one.version): _expected(one) for one in versions}
    user = cluster.setting("cluster_user")

    def look(host: Host) -> dict[tuple[str, int], dict[str, str | None]]:
        node = connections.node(host)
        found, within = {}, CACHED
        for one in versions:
            files = tuple(sorted(expected[one.name, one.version]))
            read = node.call(VerifyModel(user, one.path, files, within), timeout=within + _READING).sha256
            if None in read.values():
                within = 0.0  # it has waited long enough for what it had not seen yet
            found[one.name, one.version] = read
        return found

    outcome = connections.each(hosts, look, on_done)
    damages = [
        *_lost(versions, cluster.head.name),
        *_damages(expected, outcome.ok, cluster.head.name),
    ]
    return Verification(
        versions,
        tuple(outcome.ok),
        tuple(damages),
        dict(outcome.failed),
        tuple(one for one in versions if one.sums is None),
        listed.left_out,
        listed.damaged,
    )


def _expected(version: ListedVersion) -> dict[str, str]:
    """The sha256 of every file of a version, as it was stored; of one without a record, by its manifest."""
    if version.sums:
        record = sums_text(version.sums).encode("utf-8")
        return {**version.sums, SUMS: hashlib.sha256(record).hexdigest()}
    if version.manifest is None:
        return {}
    labels = version.manifest.labels_sha256
    return {MODEL: version.manifest.sha256, **({LABELS: labels} if labels is not None else {})}


def _lost(versions: Sequence[ListedVersion], head: str) -> Iterator[Damage]:
    """What the head itself cannot read of a version: without it nobody knows how the rest was stored."""
    for one in versions:
        if one.sums == {}:
            yield Damage(one.name, one.version, SUMS, None, None, (head,), True)
        if not one.sums and one.manifest is None:
            yield Damage(one.name, one.version, MANIFEST, None, None, (head,), True)


def _damages(
    expected: dict[tuple[str, int], dict[str, str]],
    read: dict[str, dict[tuple[str, int], dict[str, str | None]]],
    head: str,
) -> Iterator[Damage]:
    for (name, version), files in expected.items():
        for file, wanted in sorted(files.items()):
            seen: dict[str | None, list[str]] = {}
            for host, versions in read.items():
                digest = versions[name, version].get(file)
                if digest != wanted:
                    seen.setdefault(digest, []).append(host)
            for digest, hosts in seen.items():
                everywhere = head in hosts if head in read else None
                yield Damage(name, version, file, digest, wanted, tuple(hosts), everywhere)
