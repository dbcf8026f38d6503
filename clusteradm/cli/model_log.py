"""`clusteradm model explain-log`: a log of edgetpu_compiler as a table, each reason in plain words."""

from __future__ import annotations

import argparse
from pathlib import Path

from clusteradm import regular
from clusteradm.cli import context, show
from clusteradm.cli.parser import Commands
from clusteradm.models.compiler_log import MOST_BYTES, Log, advice, parse

_EXAMPLES = """\
examples:
  edgetpu_compiler -s m.tflite | tee m.log
  clusteradm model explain-log m.log
  clusteradm model explain-log m_edgetpu.log --json

What the compiler printed, or the .log file that it wrote beside the model.
"""


def add(verbs: Commands) -> None:
    """The verb."""
    verb = verbs.add("explain-log", "explain a log of edgetpu_compiler", examples=_EXAMPLES)
    verb.add_argument("file", type=Path, metavar="FILE", help="what the compiler printed, or its .log file")
    context.add_json_argument(verb)
    verb.set_defaults(run_local=_run)


def _run(args: argparse.Namespace) -> int:
    where = regular.readable(args.file)
    logs = parse(regular.read(args.file, MOST_BYTES).decode("utf-8", "replace"), where)
    if args.json:
        show.json_document("model explain-log", {"logs": [log.to_json() for log in logs]})
        return 0
    for number, log in enumerate(logs):
        if number:
            show.stdout.print()
        print_log(log)
    return 0


def print_log(log: Log) -> None:
    """The table of one compilation, and what to do."""
    runtime = f", for Edge TPU runtime {log.min_runtime} or newer" if log.min_runtime else ""
    version = f"by compiler {log.version or 'of unknown version'}{runtime}"
    if not log.compiled:
        show.stdout.print(show.line(f"{log.input or 'the model'}: not compiled, {version}: {log.failure}"))
        show.stdout.print(show.line(f"  {log.mend}"))
        return
    show.stdout.print(show.line(f"{log.output or log.input or 'the model'}: compiled {version}"))
    sizes = [
        (log.cached_bytes, "of parameters kept on the chip"),
        (log.remaining_bytes, "left there"),
        (log.streamed_bytes, "sent for every inference"),
    ]
    said = [f"about {size:,} bytes {what}" for size, what in sizes if size is not None]
    if said:
        show.stdout.print(", ".join(said))
    if log.on_tpu is not None:
        show.stdout.print(f"{log.on_tpu:,} operations on the Edge TPU, {log.on_cpu or 0:,} on the CPU")
    if log.rows:
        table = show.Table(padding=(0, 2, 0, 0))
        table.add_column("operation", no_wrap=True)
        table.add_column("count", justify="right", no_wrap=True)
        table.add_column("where", no_wrap=True)
        table.add_column("reason")
        table.add_column("what to do")
        for row in sorted(log.rows, key=lambda row: (row.mapped, -row.count)):
            where = ("Edge TPU", "") if row.mapped else ("CPU", row.meaning)
            table.add_row(row.name, f"{row.count:,}", *where, row.mend)
        show.stdout.print(table)
    for text in advice(log):
        show.stdout.print(show.line(f"- {text}"))
