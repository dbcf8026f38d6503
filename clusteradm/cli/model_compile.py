"""`clusteradm model compile`: models for the Edge TPU, several in one run to share its memory."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from clusteradm import regular
from clusteradm.cli import context, show
from clusteradm.cli.parser import Commands
from clusteradm.errors import UsageError
from clusteradm.models import edgetpu_compiler
from clusteradm.models.inspection.report import Report, reports

_EXAMPLES = """\
examples:
  clusteradm model compile mobilenet.tflite
  clusteradm model compile faces.tflite people.tflite -o compiled/

Runs edgetpu_compiler, where it is installed, and writes NAME_edgetpu.tflite.
Several models of one run share the 8 MiB of a chip for parameters, and run by
turns on one TPU without a swap: serving keeps them together. Each gets what the
ones before it leave, so name the one that is asked most first.
"""


def add(verbs: Commands) -> None:
    """The verb."""
    verb = verbs.add("compile", "compile .tflite files for the Edge TPU, several together", examples=_EXAMPLES)
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".tflite file, quantised and not compiled")
    verb.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where to write them (default: beside each FILE)"
    )
    context.add_json_argument(verb)
    verb.set_defaults(run_local=_run)


def _run(args: argparse.Namespace) -> int:
    files: list[Path] = args.files
    shown = _write if args.json else _print
    if args.output is not None and not args.output.is_dir():
        raise UsageError("there is no such folder", where=str(args.output))
    targets = [(args.output or file.absolute().parent) / f"{file.stem}_edgetpu.tflite" for file in files]
    twice = next((target for number, target in enumerate(targets) if target in targets[:number]), None)
    if twice is not None:
        raise UsageError(f"two of the files would be {twice.name}", next_step="give them different names")
    for file in files:
        if not file.is_file():
            raise UsageError("there is no such file", where=regular.readable(file))
    if not edgetpu_compiler.available():
        raise UsageError(
            f"{edgetpu_compiler.PROGRAM} is not on this machine's PATH",
            next_step=f"on an x86-64 Debian that has it: {edgetpu_compiler.command(*files)}",
        )
    edgetpu_compiler.compile_together(files, targets)
    shown(files, reports(targets))
    return 0


def _write(files: list[Path], made: list[Report]) -> None:
    documents = [_document(file, one) for file, one in zip(files, made, strict=True)]
    show.json_document("model compile", {"models": documents})


def _print(files: list[Path], made: list[Report]) -> None:
    table = show.Table("model", "kept on the TPU, bytes", "sent each time, bytes", "shares a TPU with")
    for one in made:
        shares = ", ".join(Path(path).name for path in one.shares)
        table.add_row(Path(one.path).name, f"{_kept(one):,}", f"{_sent(one):,}", shares or "none")
    show.stdout.print(table)
    for one in made:
        show.message(f"next: {shlex.join(['clusteradm', 'deploy-model', one.path, '--name', 'NAME'])}")


def _kept(one: Report) -> int:
    return sum(package.cached_bytes for package in one.model.packages)


def _sent(one: Report) -> int:
    return sum(package.streamed_bytes for package in one.model.packages)


def _document(file: Path, one: Report) -> dict[str, object]:
    return {
        "input": regular.readable(file),
        "output": one.path,
        "cached_bytes": _kept(one),
        "streamed_bytes": _sent(one),
        "tokens": [f"{token:016x}" for token in one.tokens],
        "shares_with": list(one.shares),
    }
