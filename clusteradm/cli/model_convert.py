"""`clusteradm model convert`: a trained network to full 8 bits, compared with itself, and compiled where asked."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from clusteradm import atomic, regular
from clusteradm.cli import context, feed_options, show
from clusteradm.cli.display import Display
from clusteradm.cli.model_log import print_log
from clusteradm.cli.parser import Commands
from clusteradm.errors import UsageError
from clusteradm.jobs import LocalInputs, converting, resolve, truth
from clusteradm.jobs.converting import Converted, Plan
from clusteradm.lab.plan import ROOT as LABS
from clusteradm.models import edgetpu_compiler
from clusteradm.models.compiler_log import Log
from clusteradm.models.convert.conversion import ENDS, require
from clusteradm.models.convert.source import look
from clusteradm.models.upload import label_file

_EXAMPLES = """\
examples:
  clusteradm model convert net.tflite --calibration photos/ -o int8.tflite
  clusteradm model convert digits.keras --calibration digits/ -o m.tflite \\
      --mean 0 --std 255 --truth truth.csv
  clusteradm model convert saved_model/ --calibration batch.npy -o m.tflite \\
      --ends int8 --compile

SOURCE is a float .tflite file, a Keras file (.keras, .h5) or the folder of a
SavedModel. Calibration inputs are given as to infer: pictures, folders,
.npy and .npz; some hundred that are like those of later. Each has to be
usable: one of another shape, or with NaN, is refused.

exit status:
  0    converted (and compiled, with --compile)
  2    the source or an input cannot be used, or it cannot be compiled here
  130  interrupted
"""
_MOST_WARNINGS = 10


def add(verbs: Commands) -> None:
    """The verb."""
    verb = verbs.add("convert", "convert a trained network to a full 8-bit .tflite", examples=_EXAMPLES)
    verb.add_argument(
        "source", type=Path, metavar="SOURCE", help="float .tflite, .keras, .h5, or a SavedModel's folder"
    )
    verb.add_argument(
        "--calibration",
        nargs="+",
        required=True,
        metavar="INPUTS",
        help="inputs whose ranges decide the scales: pictures, folders, arrays",
    )
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".tflite file to write")
    verb.add_argument("--ends", choices=ENDS, default=ENDS[0], help="type of input and output (default: %(default)s)")
    feed_options.add_arguments(verb)
    verb.add_argument("--labels", type=Path, metavar="FILE", help="label file, where the truth has labels by name")
    verb.add_argument(
        "--truth", type=Path, metavar="FILE", help="right answers, to compare the accuracy of both models"
    )
    verb.add_argument(
        "--compile", action="store_true", help="compile it too: by edgetpu_compiler, for a lab's cluster by the lab's"
    )
    context.add_json_argument(verb)
    verb.set_defaults(run_local=_run)


def _run(args: argparse.Namespace) -> int:
    source = look(args.source)
    require(source)
    inputs = _inputs(args)
    mean, std, layout = feed_options.values(args)
    if args.labels:
        label_file(args.labels, None)  # whether they are as many as the classes shows when the network is read
    plan = Plan(args.ends, mean, std, layout, args.labels, truth.read(args.truth) if args.truth else None)
    _check_output(args.output)
    with _steps() as progress:
        done = converting.convert(source, inputs, plan, args.output, show.message, progress)
    try:
        atomic.write(args.output, done.content)
    except OSError as error:
        raise UsageError(f"cannot write the model: {error.strerror}", where=str(args.output)) from error
    for warning in done.warnings:
        show.message(f"warning: {warning}")
    if not args.json:
        _print(args.output, done)
    compiled, log = _compiled(args) if args.compile else (None, None)
    if args.json:
        body: dict[str, Any] = {"output": str(args.output), **done.to_json()}
        body["compiled"] = str(compiled) if compiled else None
        body["log"] = log.to_json() if log else None
        show.json_document("model convert", body)
    elif not args.compile:
        show.stdout.print("next: " + _next(args.output, done.feed_options))
    elif compiled:
        if log:
            print_log(log)
        show.stdout.print(f"next: {_deploy(compiled, done.feed_options)}")
    return 0


def _inputs(args: argparse.Namespace) -> LocalInputs:
    inputs = resolve(args.calibration)
    if not isinstance(inputs, LocalInputs):
        raise UsageError("calibration inputs are of this machine, not of the head")
    for text in inputs.left_out[:_MOST_WARNINGS]:
        show.message(f"warning: left out: {text}")
    if len(inputs.left_out) > _MOST_WARNINGS:
        show.message(f"warning: left out: {len(inputs.left_out) - _MOST_WARNINGS} more")
    return inputs


def _check_output(path: Path) -> None:
    """Raise UsageError for a place that cannot be written, before the work."""
    if path.suffix != ".tflite":
        raise UsageError(f"--output {path} does not end in .tflite", next_step=f"--output {_quoted(path)}.tflite")
    if not path.absolute().parent.is_dir():
        raise UsageError("the folder of --output does not exist", where=str(path.parent))


@contextmanager
def _steps() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for one step after the other on a terminal; elsewhere a line at the beginning of each."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=show.stderr, disable=True)
    said: list[str] = []
    with Display(show.stderr, bar.get_renderable):
        task = bar.add_task("reading the network", total=None)

        def step(what: str, done: int, total: int) -> None:
            if what not in said:
                said.append(what)
                if not show.stderr.is_terminal:
                    show.message(f"{what}: {total:,} ...")
            bar.update(task, description=what, completed=done, total=total)

        yield step


def _print(path: Path, done: Converted) -> None:
    model = done.report.model
    inputs, outputs = (" and ".join(str(tensor) for tensor in ends) for ends in (model.inputs, model.outputs))
    show.stdout.print(f"{path}: input {inputs}, output {outputs}")
    values = f"values from {done.low:.6g} to {done.high:.6g}"
    show.stdout.print(f"calibrated with {show.counted(done.samples, 'input')}: {done.fed}, {values}")
    table = show.Table("", padding=(0, 2, 0, 0))
    for name in ("float", "8 bits"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("bytes", f"{done.float_bytes:,}", f"{len(done.content):,}")
    if done.accuracy:
        before, after = done.accuracy
        table.add_row(
            f"accuracy, {show.counted(before.labelled, 'input')}",
            *(f"{100 * one.right / one.labelled:.1f} % ({one.right:,})" for one in (before, after)),
        )
    show.stdout.print(table)
    if done.same is not None:
        show.stdout.print(f"same first answer: {done.same:,} of {done.samples:,}")
    for one in done.outputs:
        show.stdout.print(
            show.line(
                f"output {one.name}: differs by {one.mean:.3g} on average, {one.worst:.3g} at worst, "
                f"in a range from {one.low:.3g} to {one.high:.3g}"
            )
        )
    forecast = done.report.forecast
    if forecast:
        show.stdout.print(f"on an Edge TPU: at most {forecast.mapped:,} of {show.counted(forecast.total, 'operation')}")
    for obstacle in done.report.obstacles[:-1]:
        doubt = "" if obstacle.certain else "perhaps "
        show.stdout.print(show.line(f"  {doubt}{obstacle.what}: {obstacle.why}; {obstacle.mend}"))


def _is_lab() -> bool:
    """Whether the cluster of this run, which is not named, is a lab's."""
    try:
        path = context.inventory_path(argparse.Namespace(inventory=None))
    except UsageError:
        return False
    return path.absolute().is_relative_to(LABS)


def _compiled(args: argparse.Namespace) -> tuple[Path, Log | None]:
    """The compiled model, and the compiler's log; of the lab's compiler there is none."""
    target: Path = args.output.with_name(f"{args.output.stem}_edgetpu.tflite")
    if _is_lab():
        from clusteradm.lab.compiler import compile_file  # needs the packages of the extra `lab`

        compile_file(args.output, target)
        show.message(f"{target}: compiled for the lab's simulated Edge TPU")
        return target, None
    if not edgetpu_compiler.available():
        raise UsageError(
            f"{args.output} is written, but {edgetpu_compiler.PROGRAM} is not on this machine's PATH",
            next_step=f"on an x86-64 Debian that has it: {edgetpu_compiler.command(args.output)}\n"
            f"  then look at its log:   clusteradm model explain-log {_quoted(target.with_suffix('.log'))}",
        )
    return target, edgetpu_compiler.compile_file(args.output, target)


def _next(path: Path, options: str) -> str:
    compiled = path.with_name(f"{path.stem}_edgetpu.tflite")
    lab = f"clusteradm lab compile-model {_quoted(path)}"
    return f"{lab if _is_lab() else edgetpu_compiler.command(path)}, then {_deploy(compiled, options)}"


def _deploy(path: Path, options: str) -> str:
    return " ".join(["clusteradm deploy-model", _quoted(path), "--name NAME", *([options] if options else [])])


def _quoted(path: Path) -> str:
    return shlex.quote(regular.readable(path))
