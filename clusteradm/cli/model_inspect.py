"""`clusteradm model inspect`: what the bytes of .tflite files say. Nothing is run, and no connection is made."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from clusteradm.cli import context, show
from clusteradm.cli.parser import Commands
from clusteradm.models.inspection.report import Report, reports
from clusteradm.models.tflite.inspect import TPU_OPERATION

_EXAMPLES = """\
examples:
  clusteradm model inspect mobilenet_v2_1.0_224_quant.tflite
  clusteradm model inspect a_edgetpu.tflite b_edgetpu.tflite
  clusteradm model inspect m.tflite --json | jq '.models[0].obstacles'

Nothing is run. Several files at once also tell which of them were compiled
together, and share the memory of the chip.
"""
_MOST_ENDS = 8
_MOST_KINDS = 40


def add(verbs: Commands) -> None:
    """The verb."""
    verb = verbs.add("inspect", "show what a .tflite file is, without running it", examples=_EXAMPLES)
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".tflite file")
    context.add_json_argument(verb)
    verb.set_defaults(run_local=_run)


def _run(args: argparse.Namespace) -> int:
    found = reports(args.files)
    if args.json:
        show.json_document("model inspect", {"models": [one.to_json() for one in found]})
        return 0
    for number, one in enumerate(found):
        table = show.Table("", "", show_header=False, padding=(0, 2))
        table.columns[0].no_wrap = True
        for name, words in lines(one):
            table.add_row(show.text((name, "bold")), words)
        if number:
            show.stdout.print()
        show.stdout.print(table)
    return 0


def lines(one: Report) -> Iterator[tuple[str, str]]:
    """(name, text) of each line about a model; a name is "" where the one before goes on."""
    model = one.model
    yield "file", one.path
    yield "size", f"{one.bytes:,} bytes{_cost(one)}"
    yield "task", f"{one.task.kind}: {one.task.why}"
    for name, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors[:_MOST_ENDS]:
            opened = ", its shape is left open" if tensor.dynamic else ""
            yield name, f"{_name(tensor.name)}: {tensor}{opened}"
        if len(tensors) > _MOST_ENDS:
            yield "", f"and {len(tensors) - _MOST_ENDS} more"
        if name == "input":
            yield "fed with", one.feed
    yield "labels", _labels(one)
    names = [f"{name} ({count})" for name, count in one.operations.items() if name != TPU_OPERATION]
    more = f", and {len(names) - _MOST_KINDS} more kinds" if len(names) > _MOST_KINDS else ""
    on_cpu = "on the CPU: " if one.compiled else ""
    yield "operations", on_cpu + (", ".join(names[:_MOST_KINDS]) + more or "none")
    yield from _edge_tpu(one)
    for number, obstacle in enumerate(one.obstacles, 1):
        doubt = "" if obstacle.certain else "perhaps "
        name = ("not on it" if one.compiled else "to mend") if number == 1 else ""
        yield name, f"{number}. {doubt}{obstacle.what}: {obstacle.why}"
        yield "", f"   {obstacle.mend}"
    if one.latency:
        about = one.latency
        times = ((about.dev_board, "on a Dev Board"), (about.usb, "with a USB 3 accelerator"))
        said = ", ".join(f"{ms:g} ms {where}" for ms, where in times if ms is not None)
        yield "published", f"{said} ({about.model}, {about.source}; told by the file's name)"
    if model.description:
        yield "description", model.description
    yield "sha256", one.sha256


def _cost(one: Report) -> str:
    if one.compiled and not one.parameters and not one.macs:
        return ""
    where = " on the CPU" if one.compiled else ""
    loops = ", loops' bodies not counted" if one.model.subgraphs > 1 else ""
    macs = f"{one.macs / 1e6:,.1f} million multiply-accumulates{where} per inference"
    return f"; {one.parameters:,} parameters, {macs}{loops}"


def _name(name: str) -> str:
    """A tensor's name; the converter joins those of all layers that it has fused into one by semicolons."""
    first, _, rest = name.partition(";")
    return f"{first};..." if rest else first or "(no name)"


def _labels(one: Report) -> str:
    if one.labels is None:
        return "none inside"
    if one.labels.problem:
        return f"those inside are not used: {one.labels.problem}"
    more = ", ..." if one.labels.count > len(one.labels.first) else ""
    return f"{one.labels.count:,} inside: {', '.join(one.labels.first)}{more}"


def _edge_tpu(one: Report) -> Iterator[tuple[str, str]]:
    model = one.model
    if one.forecast is not None:
        total, count = one.forecast.total, one.forecast.mapped
        text = f"not compiled; at most {count:,} of {show.counted(total, 'operation')} would run on one"
        if one.forecast.first and count < total:
            text += f"; the first that would not: {one.forecast.first} ({one.forecast.reason})"
        yield "Edge TPU", text
        return
    left = sum(model.cpu_operations.values())
    text = f"compiled, {show.counted(model.tpu_operations, 'part')}; {left or 'no'} operations on the CPU"
    if not model.packages:
        yield "Edge TPU", f"{text}; what is compiled is not of Google's compiler"
        return
    compilers = " and ".join(dict.fromkeys(package.compiler or "unknown" for package in model.packages))
    yield "Edge TPU", f"{text}; by the compiler {compilers}, for Edge TPU runtime {model.min_runtime} or newer"
    cached = sum(package.cached_bytes for package in model.packages)
    streamed = sum(package.streamed_bytes for package in model.packages)
    yield "parameters", f"{cached:,} bytes kept on the chip, {streamed:,} bytes streamed for every inference"
    tokens = ", ".join(f"{token:016x}" for token in one.tokens) or "none"
    if one.shares:
        shared = f"shared with {', '.join(one.shares)}: compiled together, all stay on the chip at once"
    else:
        shared = "models with the same one were compiled together"
    yield "token", f"{tokens} ({shared})"
