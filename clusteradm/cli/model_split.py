"""`clusteradm model split`: segments of a model, for a pipeline of Edge TPUs."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from clusteradm.cli import context, next_step, show
from clusteradm.cli.job_view import transfer
from clusteradm.cli.parser import Commands
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.models import edgetpu_compiler, times
from clusteradm.models.split.plan import BALANCES
from clusteradm.models.split.split import Elsewhere, Split, split, to_document
from clusteradm.node.spec.wire.manifest import MOST_SEGMENTS
from clusteradm.transport import Connections

_EXAMPLES = """\
examples:
  clusteradm model split inception_v4_quant.tflite --segments 3
  clusteradm model split m.tflite --segments 2 --balance latency --output out/
  clusteradm model split m.tflite --segments 2 --balance latency --host w1

Writes NAME_segment_0_of_3.tflite and so on, which run one after the other:
a segment takes what those before it give, by name. They are run against the
whole model on random inputs, and have to give the same, bit by bit.
"""
_LONGEST = 24  # characters of an operation's name in the table


def add(verbs: Commands) -> None:
    """The verb."""
    verb = verbs.add("split", "split a .tflite file into segments for a pipeline of TPUs", examples=_EXAMPLES)
    verb.add_argument("file", type=Path, metavar="FILE", help=".tflite file, quantised and not compiled")
    verb.add_argument("--segments", type=_segments, required=True, metavar="K", help="number of segments, from 2")
    verb.add_argument(
        "--balance",
        choices=BALANCES,
        default=BALANCES[0],
        help="what the segments shall share evenly: bytes of weights, operations, or time on a CPU (%(default)s)",
    )
    verb.add_argument("--host", metavar="HOST", help="measure the times on this host's CPU, not on this machine's")
    verb.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where to write them (default: beside FILE)")
    context.add_connection_arguments(verb, limit=False, forks=False)
    verb.set_defaults(run_local=_run)


def _segments(text: str) -> int:
    number = context.positive(text)
    if not 2 <= number <= MOST_SEGMENTS:
        raise argparse.ArgumentTypeError(f"{number} segments: from 2 to {MOST_SEGMENTS}")
    return number


def _run(args: argparse.Namespace) -> int:
    folder: Path = args.output or args.file.absolute().parent
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=str(folder))
    if args.host and args.balance != "latency":
        raise UsageError(f"--host is of use with --balance latency alone, not {args.balance}")
    if args.host:
        cluster = context.open_cluster(args)
        host = cluster.host(args.host)
        with context.connect(args, cluster) as connections:
            connections.open([host])
            done = split(
                args.file,
                args.segments,
                args.balance,
                folder,
                Elsewhere(host.name, _measure(connections, cluster, host)),
            )
    else:
        done = split(args.file, args.segments, args.balance, folder)
    if args.json:
        show.json_document("model split", to_document(done))
    else:
        _print(args, done)
    if not done.compared:
        show.message(f"warning: not compared with the whole model: {done.problem}")
    return 0


def _measure(connections: Connections, cluster: Cluster, host: Host) -> Callable[[Sequence[bytes]], Sequence[float]]:
    def measured(parts: Sequence[bytes]) -> Sequence[float]:
        show.message(f"measuring {len(parts)} parts on {host.name}, {sum(map(len, parts)):,} bytes ...")
        with transfer("sending the parts") as progress:
            return times.on_host(connections, cluster, host, parts, progress)

    return measured


def _print(args: argparse.Namespace, done: Split) -> None:
    table = show.Table(padding=(0, 2, 0, 0))
    table.add_column("segment", no_wrap=True)
    for name in ("operations", "weights, bytes", "million MACs", "takes, bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    timed = done.measured_on
    if timed:
        table.add_column("ms on a CPU", justify="right", no_wrap=True)
    table.add_column("from")
    table.add_column("to")
    for one in done.pieces:
        part = one.segment
        numbers = [part.last - part.first + 1, part.weights, one.macs / 1e6, part.crossing]
        cells = [f"{number:,.1f}" if isinstance(number, float) else f"{number:,}" for number in numbers]
        if timed:
            cells.append(f"{one.milliseconds or 0:.2f}")
        table.add_row(one.path.name, *cells, *(name[:_LONGEST] for name in one.names))
    show.stdout.print(table)
    if done.compared:
        inputs = show.counted(done.compared, "random input")
        show.stdout.print(f"in turn they give what the whole model gives, bit by bit, on {inputs}")
    if timed:
        show.stdout.print(
            f"the times are of {timed}'s CPU, by which the segments are balanced: on Edge TPUs they differ, and the "
            "slowest segment there sets the pace of the pipeline"
        )
    for one in done.pieces:
        show.stdout.print(f"next: {edgetpu_compiler.command(one.path)}")
    deploy = next_step.complete(_deploy(args.file, done), args)
    show.stdout.print(f"then, for infer --pipeline {len(done.pieces)}: {deploy}")


def _deploy(whole: Path, done: Split) -> str:
    """The command that stores the model with its segments as edgetpu_compiler leaves them."""
    name = re.sub("[^a-zA-Z0-9_-]", "_", whole.stem)
    compiled = [one.path.with_name(f"{one.path.stem}_edgetpu.tflite") for one in done.pieces]
    words = ["clusteradm", "deploy-model", str(whole), "--name", name, "--segments", *map(str, compiled)]
    return shlex.join(words)
