"""`clusteradm model verify`: what every host reads of the stored versions, compared with what was stored."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from clusteradm.cli import context, next_step, show
from clusteradm.cli.parser import Commands
from clusteradm.cli.show import counted
from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Cluster
from clusteradm.models import copies
from clusteradm.models.copies import Spread
from clusteradm.models.reference import Reference
from clusteradm.models.verification import Damage, Verification, verify
from clusteradm.node.spec.wire.repository import UNREADABLE
from clusteradm.transport import Connections

_EXAMPLES = """\
examples:
  clusteradm model verify
  clusteradm model verify digits:2
  clusteradm model verify digits@stable --limit coral-3 --json

Every host reads every file anew, from its disk or from the head, and hashes it.

exit status:
  0    every host reads every file as it was stored
  3    a file is damaged, or a host failed
  4    some hosts are unreachable
"""
_SHORT = 12  # characters of a sha256


def add_verb(verbs: Commands) -> None:
    """Add the verb and its arguments."""
    verb = verbs.add("verify", "have every host hash what it reads of the models", examples=_EXAMPLES)
    verb.add_argument(
        "model", metavar="NAME[:VERSION|@LABEL]", nargs="?", help="only these versions (default: every version)"
    )
    context.add_connection_arguments(verb)
    verb.set_defaults(run_model=_verify)


def _verify(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    wanted = Reference.parse(args.model) if args.model else None
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    done: list[str] = []

    def tell(host: object) -> None:
        done.append(str(host))
        if not args.json and show.stderr.is_terminal:
            show.message(f"{len(done)} of {counted(len(hosts), 'host')}")

    result = verify(connections, cluster, wanted, hosts, tell)
    spread = copies.spread(connections, cluster, hosts) if copies.are_kept(cluster) else None
    if args.json:
        show.json_document("model verify", _document(result, spread))
    elif result.versions:
        show.stdout.print(_table(result))
    else:
        show.message("no models are deployed")
    if not args.json:
        for text in _texts(result):
            show.message(next_step.complete(text, args))
    if spread is not None:
        _show_copies(args, spread)
    for host, error in result.failed.items():
        text = next_step.complete(str(error), args)
        show.message(f"not verified: {text}" if text.startswith(host) else f"not verified: {host}: {text}")
    if any(isinstance(error, HostUnreachable) for error in result.failed.values()):
        return HostUnreachable.exit_code
    return 0 if result.ok and (spread is None or not (spread.failed or spread.mended)) else 3


def _show_copies(args: argparse.Namespace, spread: Spread) -> None:
    """What became of the copies on the hosts' own disks."""
    if not args.json:
        show.stdout.print(f"copies on the disks of {counted(len(spread.hosts), 'host')}: as they were stored")
    for host, versions in spread.mended.items():
        show.message(f"damaged on the disk of {host}, and copied again: {', '.join(versions)}")
    for text in spread.warnings():
        show.message(f"warning: {next_step.complete(text, args)}")


def _document(result: Verification, spread: Spread | None) -> dict[str, object]:
    copied = None
    if spread is not None:
        failed = {host: str(error) for host, error in spread.failed.items()}
        copied = {"hosts": list(spread.hosts), "mended": spread.mended, "failed": failed}
    return {
        "ok": result.ok,
        "copies": copied,
        "hosts": list(result.hosts),
        "failed": {host: str(error) for host, error in result.failed.items()},
        "versions": [
            {"name": one.name, "version": one.version, "damaged": result.damaged(one)} for one in result.versions
        ],
        "damages": [vars(damage) for damage in result.damages],
        "damaged_labels": list(result.labels),
        "unrecorded": [{"name": one.name, "version": one.version} for one in result.unrecorded],
        "left_out": result.left_out,
    }


def _table(result: Verification) -> show.Table:
    table = show.Table()
    table.add_column("model", no_wrap=True)
    for column in ("version", "bytes", "hosts"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for one in result.versions:
        size = f"{one.manifest.bytes:,}" if one.manifest else ""
        state = "damaged" if result.damaged(one) else "as it was stored" if result.hosts else "not read"
        table.add_row(one.name, str(one.version), size, str(len(result.hosts)), state)
    return table


def _texts(result: Verification) -> Iterator[str]:
    """Damages, each with what to do."""
    for damage in result.damages:
        yield f"damaged: {_what(damage)}\n  {_remedy(damage)}"
    for text in result.labels:
        yield f"damaged: {text}"
    for one in result.unrecorded:
        yield f"{one.name} version {one.version} is of an earlier program, which did not store its manifest's sha256"
    if result.left_out:
        yield f"{counted(result.left_out, 'more version')} not verified: the head lists a limited number"


def _what(damage: Damage) -> str:
    where = f"{damage.name} version {damage.version}: {damage.file}"
    hosts = ", ".join(damage.hosts)
    if damage.wanted is None:
        return f"{where} cannot be read as such a file on {hosts}"
    if damage.found is None:
        return f"{where} is not there on {hosts}"
    if damage.found.startswith(UNREADABLE):
        return f"{where} cannot be read on {hosts} ({damage.found.partition(': ')[2] or damage.found})"
    return f"{where} has sha256 {damage.found[:_SHORT]}... on {hosts}, and was stored with {damage.wanted[:_SHORT]}..."


def _remedy(damage: Damage) -> str:
    if damage.everywhere is None:
        return f"see whether the head reads it so, too: clusteradm model verify {damage.name}:{damage.version}"
    if damage.everywhere:
        return (
            "the head has it so on its disk; deploy the same file again, with the same options, under its number: "
            f"clusteradm deploy-model FILE.tflite --name {damage.name} --version {damage.version}"
        )
    host = damage.hosts[0]
    return f"the head reads it well; see the mount and the disk of the host: clusteradm health --limit {host}"
