"""Verbs of `clusteradm serve` that show: status, logs; and the progress of a roll-out."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict

from clusteradm.cli import context, next_step, show
from clusteradm.cli.display import Display
from clusteradm.cli.parser import Commands
from clusteradm.cli.show import counted
from clusteradm.errors import HostUnreachable, UsageError
from clusteradm.inventory import Cluster
from clusteradm.node.spec.wire.serving import AVAILABLE, LATEST, SPECIFIC, DesiredState, ServedModel
from clusteradm.node.spec.wire.serving_requests import BoardSaid, ServingStatus
from clusteradm.serving import Progress, Serving, hosts_of, judge, servers
from clusteradm.transport import Connections

_STATUS = """\
examples:
  clusteradm serve status
  clusteradm serve status --watch
  clusteradm serve status --json | jq '.boards[] | select(.balanced != "UP")'

exit status:
  0    every board serves what it is to
  3    some do not
"""
_LOGS = """\
examples:
  clusteradm serve logs coral-1
  clusteradm serve logs coral-1 coral-2 --lines 500
  clusteradm serve logs --balancer          HAProxy's, on the head
"""
_PLAIN_EVERY = 5.0  # seconds between two lines where there is no terminal
_WATCH_EVERY = 2.0


def add_verbs(verbs: Commands) -> None:
    """Add the verbs and their arguments."""
    status = verbs.add("status", "show models, boards, and how far they are", examples=_STATUS)
    status.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    context.add_connection_arguments(status, limit=False, forks=False)
    status.set_defaults(run_serve=_status)
    logs = verbs.add("logs", "print the last lines of servers' logs", examples=_LOGS)
    logs.add_argument("hosts", nargs="*", metavar="HOST", help="boards (default: all)")
    logs.add_argument("--lines", metavar="N", type=context.positive, default=50, help="lines of each (default: 50)")
    logs.add_argument("--balancer", action="store_true", help="of HAProxy on the head instead")
    context.add_connection_arguments(logs, limit=False)
    logs.set_defaults(run_serve=_logs)


def follow(
    serving: Serving,
    desired: DesiredState,
    *,
    seconds: float,
    model: str | None = None,
    quiet: bool = False,
) -> int:
    """Show how the boards follow the state, and say at the end which have not, and why; 0 or 3."""
    progress = Progress(())
    said, started = 0.0, time.monotonic()

    def line() -> show.Text:
        on_the_way = ", ".join(f"{board.host}: {board.why}" for board in progress.lacking)
        return show.text(
            f"{len(progress.followed)} of {counted(len(progress.boards), 'board')} followed  ", (on_the_way, "dim")
        )

    with Display(show.stderr, line):
        for progress in serving.follow(desired, seconds, model):  # noqa: B007 - the display shows it
            now = time.monotonic()
            if not quiet and not show.stderr.is_terminal and now - max(said, started) > _PLAIN_EVERY:
                said = now
                show.message(show.line(line().plain))
    if not quiet:
        show.message(f"{len(progress.followed)} of {counted(len(progress.boards), 'board')} followed")
    for board in progress.lacking:
        what = "does not answer, and follows when it is back" if board.away else "has not followed"
        show.message(show.line(f"{board.host} {what}: {board.why}"))
    return 3 if progress.lacking else 0


def _status(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    if args.watch and args.json:
        raise UsageError("--watch and --json do not go together", next_step="ask again as often as needed, with --json")
    serving = Serving(connections, cluster)
    hosts = [host.name for host in servers(cluster)]
    if args.watch:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                status = serving.status()
                _show(serving.require(), status, hosts)
                time.sleep(_WATCH_EVERY)
                show.stdout.print()
        return 0
    # In this order: the state is no older than what a board has followed.
    status, state = serving.status(), serving.require()
    progress = judge(state, status, hosts)
    ill = bool(progress.lacking or status.balancer) or any(
        engine.state != "ready" for said in status.boards.values() if said.state for engine in said.state.engines
    )
    if args.json:
        body = {
            "desired": asdict(state),
            "boards": [{"host": host, **asdict(status.boards[host])} for host in hosts if host in status.boards],
            "followed": list(progress.followed),
            "balancer": status.balancer or None,
        }
        show.json_document("serve status", body)
    else:
        _show(state, status, hosts)
        if ill:
            show.message(f"why: {next_step.command('serve logs HOST', args)}")
    return 3 if ill else 0


def _show(state: DesiredState, status: ServingStatus, hosts: Sequence[str]) -> None:
    models = show.Table("model", "served", "canary", "on", "TPUs")
    for model in state.models:
        wanted = hosts_of(state, model, hosts)
        there = [host for host in wanted if _has(status.boards.get(host), model.name)]
        share = f"{model.canary.percent:g} % to version {model.canary.version}" if model.canary else "-"
        models.add_row(model.name, _served(model), share, f"{len(there)} of {len(wanted)}", _tpus(state, model, status))
    if state.models:
        show.stdout.print(models)
    else:
        show.message("no model is served: clusteradm serve deploy NAME")
    boards = show.Table("board", "HAProxy", "revision", "requests/s", "now", "TPUs", "versions", "error")
    for host in hosts:
        boards.add_row(host, *_board(state, host, status.boards.get(host)))
    show.stdout.print(boards)
    if status.balancer:
        show.message(f"warning: {show.line(status.balancer)}")


def _board(state: DesiredState, host: str, said: BoardSaid | None) -> list[str]:
    if said is None:
        return ["-"] * 6 + ["it was not asked"]
    balanced = "drained" if host in (*state.drained, *state.out_of_service) else said.balanced or "-"
    if said.state is None:
        return [balanced, "-", "-", "-", "-", "-", said.error]
    engines = [
        f"{engine.pci_address or engine.servables or 'cpu'} {engine.state}"
        + (f" {engine.temperature:.0f} C" if engine.temperature is not None else "")
        + (f" {engine.megahertz:g} MHz" if engine.megahertz is not None else "")
        + (f" {engine.swaps} swaps of {1000 * engine.swap_seconds / engine.swaps:.1f} ms" if engine.swaps else "")
        + (" SIMULATED" if engine.simulated else "")
        for engine in said.state.engines
    ]
    versions = [
        f"{one.name}:{one.version}" + ("" if one.state == AVAILABLE else f" {one.state}") for one in said.state.versions
    ]
    errors = [said.state.error, *(engine.reason for engine in said.state.engines)]
    errors += [f"{one.name}:{one.version}: {one.reason}" for one in said.state.versions if one.reason]
    late = "" if said.state.revision >= state.revision else f" of {state.revision}"
    return [
        balanced,
        f"{said.state.revision}{late}",
        str(said.rate),
        str(said.sessions),
        ", ".join(engines),
        ", ".join(versions),
        "; ".join(filter(None, errors)),
    ]


def _has(said: BoardSaid | None, name: str) -> bool:
    versions = said.state.versions if said is not None and said.state is not None else ()
    return any(version.name == name and version.state == AVAILABLE for version in versions)


def _tpus(state: DesiredState, model: ServedModel, status: ServingStatus) -> str:
    """On how many TPUs a model is, and on which where it is not everywhere."""
    there = {
        f"{host}:{device}"
        for host, said in status.boards.items()
        for version in (said.state.versions if said.state is not None else ())
        if version.name == model.name and version.state == AVAILABLE
        for device in version.tpus
    }
    placed = any(each.name == model.name and each.tpus for each in state.placement)
    return f"{len(there)}: {', '.join(sorted(there))}" if placed and there else str(len(there))


def _served(model: ServedModel) -> str:
    if model.policy.kind == LATEST:
        there = "latest" if model.policy.latest == 1 else f"latest {model.policy.latest}"
    else:
        there = ", ".join(map(str, model.policy.versions)) if model.policy.kind == SPECIFIC else "all"
    if model.default is None:
        return there
    default = f"version {model.default}" if model.default.isdigit() else f"@{model.default}"
    return default if there in ("", model.default) else f"{default} of {there}"


def _logs(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    serving = Serving(connections, cluster)
    if args.balancer and args.hosts:
        raise UsageError("--balancer is about the head, without a HOST")
    chosen = [cluster.host(name) for name in args.hosts] or list(servers(cluster))
    hosts = [cluster.head] if args.balancer else chosen
    connections.open(hosts)
    found: dict[str, tuple[str, ...]] = {}
    unreachable = 0
    for host in hosts:
        try:
            found[host.name] = serving.log(host, args.lines, balancer=args.balancer)
        except HostUnreachable as error:
            show.message(str(error))
            unreachable = error.exit_code
    if args.json:
        show.json_document("serve logs", {"logs": found})
    else:
        for name, lines in found.items():
            for text in lines:
                show.data(f"{name}: {text}\n" if len(hosts) > 1 else f"{text}\n")
    return unreachable
