"""Verbs of `clusteradm serve` that change what is served: deploy, canary, label, undeploy, drain, undrain."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator

from clusteradm.cli import context, next_step, show
from clusteradm.cli.parser import Commands, Parser, checked
from clusteradm.cli.serve_view import follow
from clusteradm.errors import HostFailed, UsageError
from clusteradm.inventory import Cluster
from clusteradm.models.manifest import check_name
from clusteradm.models.reference import Reference, check_label, check_version
from clusteradm.models.repository import Repository
from clusteradm.models.versions import Versions
from clusteradm.node.spec.wire.serving import DesiredState
from clusteradm.serving import Serving, changes, servers
from clusteradm.serving.tpus import ALL, check_for_model, choose_for_model
from clusteradm.transport import Connections

_DEPLOY = """\
examples:
  clusteradm serve deploy digits            the latest, and each that comes
  clusteradm serve deploy digits:2          version 2
  clusteradm serve deploy digits:2 --label stable
  clusteradm serve deploy digits@stable     whatever version the label is
  clusteradm serve deploy digits --versions latest:2      and the one before
  clusteradm serve deploy digits --hosts 'coral-[1:3]'
  clusteradm serve deploy digits --tpus 1                 one TPU of each host
  clusteradm serve deploy digits --tpus coral-1:apex_0,coral-2:apex_0

Each board loads the version beside the old one, switches, and ends the old one
when its last request has ended. One that cannot load it goes on with the old
one, and the command says so. Clients that name no version get this one.
"""
_CANARY = """\
examples:
  clusteradm serve canary digits --version 3 --percent 5
  clusteradm serve canary digits --version 3 --percent 0     no more
  clusteradm serve deploy digits:3                           for all

Of the requests that name no version, so many of a hundred get this one, by
chance; those with the header clusteradm-client: NAME by that name, always the
same; clusteradm-canary: always or never decides itself.
"""
_LABEL = """\
examples:
  clusteradm serve label digits 3 stable

As clusteradm model label, and the boards have followed when it ends.
"""
_UNDEPLOY = """\
examples:
  clusteradm serve undeploy digits
"""
_DRAIN = """\
examples:
  clusteradm serve drain coral-3
  clusteradm serve undrain coral-3

The board gets no new requests and ends those that it has. It stays in service
for jobs: clusteradm drain takes it out of both.
"""


def add_verbs(verbs: Commands) -> None:
    """Add the verbs and their arguments."""
    deploy = _verb(verbs, "deploy", "serve a version of a model", _DEPLOY, _deploy)
    deploy.add_argument(
        "model", metavar="MODEL[:VERSION|@LABEL]", type=checked(Reference.parse), help="of the repository"
    )
    deploy.add_argument("--label", metavar="LABEL", type=checked(check_label), help="make this the version's label")
    deploy.add_argument(
        "--versions",
        metavar="WHICH",
        type=checked(changes.policy_of),
        help="served at the same time, for requests that name one: all, latest:N, or N,N,... (default: the one)",
    )
    deploy.add_argument("--hosts", metavar="PATTERN", help="only there (default: where it is, else everywhere)")
    deploy.add_argument(
        "--tpus",
        metavar="WHICH",
        type=checked(check_for_model),
        help="only on these: all, N of each host, or [HOST:]TPU,... (default: as --hosts)",
    )
    _add_wait(deploy)
    canary = _verb(verbs, "canary", "send a share of the requests to another version", _CANARY, _canary)
    _add_name(canary)
    canary.add_argument("--version", metavar="N", type=checked(check_version), required=True, help="the other version")
    canary.add_argument("--percent", metavar="P", type=_percent, required=True, help="of the requests; 0 ends it")
    _add_wait(canary)
    label = _verb(verbs, "label", "make a label the name of a version, and have the boards follow", _LABEL, _label)
    _add_name(label)
    label.add_argument("version", metavar="VERSION", type=checked(check_version), help="number of the version")
    label.add_argument("label", metavar="LABEL", type=checked(check_label), help="a word: stable, canary")
    _add_wait(label)
    undeploy = _verb(verbs, "undeploy", "serve a model no more", _UNDEPLOY, _undeploy)
    _add_name(undeploy)
    _add_wait(undeploy)
    for name, summary, run in (
        ("drain", "send boards nothing new", _drain),
        ("undrain", "send them requests again", _undrain),
    ):
        verb = _verb(verbs, name, summary, _DRAIN, run)
        verb.add_argument("hosts", nargs="+", metavar="HOST", help="boards")
        _add_wait(verb)


def _verb(
    verbs: Commands,
    name: str,
    summary: str,
    examples: str,
    run: Callable[[argparse.Namespace, Connections, Cluster], int],
) -> Parser:
    verb = verbs.add(name, summary, examples=examples)
    context.add_connection_arguments(verb, limit=False)
    verb.set_defaults(run_serve=run)
    return verb


def _add_name(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=checked(check_name), help="name of the model")


def _add_wait(parser: Parser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=context.positive,
        default=120,
        help="wait S seconds for the boards (default: %(default)s)",
    )


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return value


def _deploy(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving, wanted = Serving(connections, cluster), args.model
    state = serving.require()
    if args.label and (wanted.version is None or wanted.label):
        raise UsageError(
            "--label needs the number of a version", next_step=f"{wanted.name}:VERSION --label {args.label}"
        )
    repository = Repository(connections, cluster)
    for number in args.versions.versions if args.versions else ():
        repository.find(Reference(wanted.name, number))
    repository.find(wanted)
    where = _where(args, connections, cluster, state)
    if args.label:
        Versions(connections, cluster).label(wanted.name, wanted.version, args.label)
        wanted = Reference(wanted.name, label=args.label)

    def deployed(state: DesiredState) -> DesiredState:
        return changes.deploy(state, wanted, where, args.versions)

    return _change(args, serving, deployed, model=wanted.name, always=True)


def _where(
    args: argparse.Namespace, connections: Connections, cluster: Cluster, state: DesiredState
) -> changes.Where | None:
    """Where the model is to be; None where nothing is said."""
    if args.hosts is None and args.tpus is None:
        return None
    names = () if args.hosts is None else tuple(_hosts(cluster, args.hosts))
    if args.tpus is None:
        return changes.Where(names)
    asked = [host for host in servers(cluster) if not names or host.name in names]
    if args.tpus != ALL and not args.tpus.isdecimal():
        connections.open(asked)
    tpus, each = choose_for_model(connections, asked, args.tpus, state)
    return changes.Where(() if tpus else names, tpus, each)


def _canary(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving = Serving(connections, cluster)
    state = serving.require()
    changes.canary(state, args.model, args.version, args.percent)
    if args.percent > 0:
        found = Repository(connections, cluster).show(Reference(args.model, args.version), uses=False)
        changes.canary(state, args.model, args.version, args.percent, found.versions, found.labels)
        # No request is sent to a version before the boards have it.
        desired = serving.change(lambda state: changes.prepare_canary(state, args.model, args.version))
        with _interrupted(args, f"version {args.version} gets no requests yet; run the command again"):
            lacking = follow(serving, desired.state, seconds=args.timeout, model=args.model, quiet=True)
        if lacking:
            serving.change(lambda state: changes.canary(state, args.model, args.version, 0))
            raise HostFailed(
                f"version {args.version} of {args.model} gets no requests: not every board has it (above)",
                next_step="mend that, and run the command again",
            )
    return _change(
        args, serving, lambda state: changes.canary(state, args.model, args.version, args.percent), model=args.model
    )


def _label(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving = Serving(connections, cluster)
    serving.require()
    Versions(connections, cluster).label(args.model, args.version, args.label)
    return _change(args, serving, lambda state: state, model=args.model, always=True)


def _undeploy(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving = Serving(connections, cluster)
    serving.require()
    return _change(args, serving, lambda state: changes.undeploy(state, args.model))


def _drain(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving = Serving(connections, cluster)
    serving.require()
    hosts = [name for text in args.hosts for name in _hosts(cluster, text)]
    return _change(args, serving, lambda state: changes.drain(state, hosts))


def _undrain(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving = Serving(connections, cluster)
    serving.require()
    hosts = [name for text in args.hosts for name in _hosts(cluster, text)]
    return _change(args, serving, lambda state: changes.undrain(state, hosts))


def _change(
    args: argparse.Namespace,
    serving: Serving,
    make: Callable[[DesiredState], DesiredState],
    *,
    model: str | None = None,
    always: bool = False,
) -> int:
    """Store the change and wait for the boards."""
    desired = serving.change(make, always=always)
    if desired.balancer:
        show.message(f"warning: {show.line(desired.balancer)}")
        show.message("the head tells it again every few seconds: journalctl -u clusteradm-serve-control on the head")
    with _interrupted(args, "the change is stored, and the boards go on by themselves"):
        status = follow(serving, desired.state, seconds=args.timeout, model=model, quiet=args.json)
    if args.json:
        body = {"revision": desired.state.revision, "followed": not status, "balancer": desired.balancer}
        show.json_document(f"serve {args.verb}", body)
    elif status:
        show.message(f"how it goes on: {next_step.command('serve status', args)}")
    return max(status, 3 if desired.balancer else 0)


@contextlib.contextmanager
def _interrupted(args: argparse.Namespace, text: str) -> Iterator[None]:
    """Say on Ctrl-C what has become of the change while the boards were waited for."""
    try:
        yield
    except KeyboardInterrupt:
        show.message(f"{text}: {next_step.command('serve status', args)}")
        raise


def _hosts(cluster: Cluster, pattern: str) -> list[str]:
    """The servers that a pattern names. Raises UsageError for a host that has none."""
    names = [host.name for host in cluster.select(pattern)]
    able = [host.name for host in servers(cluster)]
    for name in names:
        if name not in able:
            raise UsageError(f"{name} has no server", next_step=f"servers are on: {', '.join(able)}")
    if not names:
        raise UsageError(f"no host is named {pattern!r}", next_step=f"servers are on: {', '.join(able)}")
    return names
