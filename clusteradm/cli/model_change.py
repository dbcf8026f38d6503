"""Verbs of `clusteradm model` that change versions: label, unlabel, rollback, remove."""

from __future__ import annotations

import argparse

from clusteradm.cli import context, display, next_step, show
from clusteradm.cli.parser import Commands, Parser, checked
from clusteradm.cli.show import counted
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.models import copies
from clusteradm.models.manifest import check_name
from clusteradm.models.reference import Reference, check_label, check_version
from clusteradm.models.repository import Repository
from clusteradm.models.versions import Moved, Versions
from clusteradm.node.spec.wire.repository import ListedVersion
from clusteradm.node.spec.wire.versions import STABLE
from clusteradm.transport import Connections

_LABEL = """\
examples:
  clusteradm model label digits 3 stable
  clusteradm model label digits 4 canary
  clusteradm infer --model digits@stable photos/

A label is moved at once, and only to a version whose files the head finds as
they were stored. latest is no label that is moved: it is the highest number.
"""
_UNLABEL = """\
examples:
  clusteradm model unlabel digits canary
"""
_ROLLBACK = """\
examples:
  clusteradm model rollback digits
  clusteradm model rollback digits --label canary

The label returns to the version that it was before; again, one step further.
"""
_REMOVE = """\
examples:
  clusteradm model remove digits:2
  clusteradm model remove digits --yes

A version that a running job uses is not removed, nor one that has a label,
unless the whole model goes. The number of a removed version is not given again
by itself; that of a model that went as a whole is: its name begins anew, with 1.
"""


def add_verbs(verbs: Commands) -> None:
    """Add the verbs and their arguments."""
    label = _verb(verbs, "label", "make a label the name of a version", _LABEL)
    _add_name(label)
    label.add_argument("version", metavar="VERSION", type=checked(check_version), help="number of the version")
    label.add_argument("label", metavar="LABEL", type=checked(check_label), help="a word: stable, canary")
    label.set_defaults(run_model=_set_label)

    unlabel = _verb(verbs, "unlabel", "take a label away", _UNLABEL)
    _add_name(unlabel)
    unlabel.add_argument("label", metavar="LABEL", type=checked(check_label), help="the label")
    unlabel.set_defaults(run_model=_take_label)

    rollback = _verb(verbs, "rollback", "return a label to the version that it was before", _ROLLBACK)
    _add_name(rollback)
    rollback.add_argument(
        "--label", metavar="LABEL", type=checked(check_label), default=STABLE, help="which label (default: %(default)s)"
    )
    rollback.set_defaults(run_model=_roll_back)

    remove = _verb(verbs, "remove", "remove a version, or a model with all its versions", _REMOVE)
    remove.add_argument(
        "model", metavar="NAME[:VERSION]", type=checked(_removable), help="the version, or the whole model"
    )
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(run_model=_remove)


def _verb(verbs: Commands, name: str, summary: str, examples: str) -> Parser:
    verb = verbs.add(name, summary, examples=examples)
    context.add_connection_arguments(verb, limit=False, forks=False)
    return verb


def _add_name(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", type=checked(check_name), help="name of the model")


def _set_label(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    _show_moved(args, Versions(connections, cluster).label(args.name, args.version, args.label))
    _spread(connections, cluster)
    return 0


def _take_label(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    _show_moved(args, Versions(connections, cluster).unlabel(args.name, args.label))
    _spread(connections, cluster)
    return 0


def _roll_back(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    _show_moved(args, Versions(connections, cluster).roll_back(args.name, args.label))
    _spread(connections, cluster)
    return 0


def _spread(connections: Connections, cluster: Cluster) -> None:
    """Have the hosts keep copies of what they are to have now."""
    if copies.are_kept(cluster):
        hosts = tuple(cluster.hosts.values())
        connections.open(hosts)
        for text in copies.spread(connections, cluster, hosts).warnings():
            show.message(f"warning: {text}")


def _show_moved(args: argparse.Namespace, moved: Moved) -> None:
    if args.json:
        show.json_document(f"model {args.verb}", {**vars(moved), "changed": moved.changed})
        return
    before = f" (before: version {moved.before})" if moved.before is not None and moved.changed else ""
    now = f"is version {moved.version}" if moved.version is not None else "is no label any more"
    show.message(f"{moved.name}@{moved.label} {now}{before if moved.changed else ' already'}")


def _remove(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    wanted: Reference = args.model
    found = Repository(connections, cluster).versions(wanted)
    if not args.yes and not _confirmed(args, wanted, found):
        show.message("nothing was removed")
        return 0
    confirmed = None if args.yes else [one.version for one in found]
    removed = Versions(connections, cluster).remove(wanted, confirmed)
    _spread(connections, cluster)
    if args.json:
        show.json_document("model remove", {"name": wanted.name, "removed": list(removed)})
    else:
        which = ", ".join(map(str, removed))
        show.message(f"{wanted.name}: version{'' if len(removed) == 1 else 's'} {which} removed")
    return 0


def _confirmed(args: argparse.Namespace, wanted: Reference, found: tuple[ListedVersion, ...]) -> bool:
    """Show what would go, and ask."""
    if not display.can_ask():
        raise UsageError("not a terminal: nobody can be asked", next_step=f"{next_step.again(args)} --yes")
    lines = []
    for one in found:
        size = f"{one.manifest.bytes:,} bytes" if one.manifest else "damaged"
        labels = f", labelled {', '.join(one.labels)}" if one.labels else ""
        lines.append(f"{one.name} version {one.version}: {size}{labels} ({one.path})")
    if wanted.version is None:
        lines.append(
            f"Its labels and its numbers go too: the next model that is named {wanted.name} begins with version 1."
        )
    what = str(wanted) if wanted.version is not None else f"{wanted.name} with {counted(len(found), 'version')}"
    return display.confirm(show.visible("\n".join(lines)), f"Remove {what} from the cluster?")


def _removable(text: str) -> Reference:
    wanted = Reference.parse(text)
    if wanted.label is not None or (wanted.version is None and text != wanted.name):
        raise UsageError(f"{text!r}: name the version by its number")
    return wanted
