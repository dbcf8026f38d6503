"""`clusteradm model split`: segments of a model, for a pipeline of Edge TPUs."""

from __future__ import annotations

import argparse
from pathlib import Path

from clusteradm.cli import context, show
from clusteradm.cli.parser import Commands
from clusteradm.errors import UsageError
from clusteradm.models import edgetpu_compiler
from clusteradm.models.split.plan import BALANCES
from clusteradm.models.split.split import MOST_SEGMENTS, Split, split, to_document

_EXAMPLES = """\
examples:
  clusteradm model split inception_v4_quant.tflite --segments 3
  clusteradm model split m.tflite --segments 2 --balance latency --output out/

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
        help="what the segments shall share evenly: bytes of weights, operations, or time on this CPU (%(default)s)",
    )
    verb.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where to write them (default: beside FILE)")
    context.add_json_argument(verb)
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
    done = split(args.file, args.segments, args.balance, folder)
    if args.json:
        show.json_document("model split", to_document(done))
    else:
        _print(done)
    if not done.compared:
        show.message(f"warning: not compared with the whole model: {done.problem}")
    return 0


def _print(done: Split) -> None:
    table = show.Table(padding=(0, 2, 0, 0))
    table.add_column("segment", no_wrap=True)
    for name in ("operations", "weights, bytes", "million MACs", "takes, bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    timed = any(one.milliseconds is not None for one in done.pieces)
    if timed:
        table.add_column("ms on this CPU", justify="right", no_wrap=True)
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
            "the times are of this machine's CPU, by which the segments are balanced: on Edge TPUs they differ, and "
            "the slowest segment there sets the pace of the pipeline"
        )
    for one in done.pieces:
        show.stdout.print(f"next: {edgetpu_compiler.command(one.path)}")
