"""Convert and inspect model files, and show the models that are deployed on the cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from clusteradm.cli import context, model_convert, model_inspect, model_log, model_split, show
from clusteradm.cli.parser import Parser
from clusteradm.models import advice
from clusteradm.models.catalogue import catalogue, one_version
from clusteradm.node.spec.wire.manifest import Tensor
from clusteradm.node.spec.wire.repository import ListedVersion, ModelList
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm model list
  clusteradm model list --json
  clusteradm model show digits
  clusteradm model show digits --version 2
  clusteradm model convert net.tflite --calibration photos/ -o int8.tflite
  clusteradm model inspect mobilenet_v2_1.0_224_quant.tflite

A model is deployed with clusteradm deploy-model, and used with clusteradm infer.
"""
_LIST = """\
examples:
  clusteradm model list
  clusteradm model list --json | jq -r '.models[].name'
"""
_SHOW = """\
examples:
  clusteradm model show digits
  clusteradm model show digits --version 2 --json
"""
_SHORT = 12  # characters of a sha256 in the list


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm model`."""
    verbs = parser.add_commands("verb")
    listing = verbs.add("list", "list every version of every model", examples=_LIST)
    listing.set_defaults(run_model=_list)
    one = verbs.add("show", "show one version of a model: files, inputs, outputs", examples=_SHOW)
    one.add_argument("name", metavar="NAME", help="name of the model")
    one.add_argument("--version", type=context.positive, metavar="N", help="version (default: the latest)")
    one.set_defaults(run_model=_show)
    for verb in (listing, one):
        context.add_connection_arguments(verb, limit=False, forks=False)
    model_inspect.add(verbs)
    model_convert.add(verbs)
    model_log.add(verbs)
    model_split.add(verbs)


def run(args: argparse.Namespace) -> int:
    """Work on a file of this machine; or ask the head, and show."""
    if hasattr(args, "run_local"):
        return int(args.run_local(args))
    cluster = context.open_cluster(args)
    with context.connect(args, cluster) as connections:
        connections.open([cluster.head])
        args.run_model(args, connections)
    return 0


def _list(args: argparse.Namespace, connections: Connections) -> None:
    found = catalogue(connections, connections.cluster)
    if args.json:
        models = [_document(version) for version in found.versions]
        show.json_document("model list", {"models": models, "left_out": found.left_out})
    elif not found.versions:
        show.message("no models are deployed")
    else:
        show.stdout.print(_table(found))
    if found.left_out:
        show.message(f"{found.left_out} more versions are not listed: the head lists a limited number")


def _document(version: ListedVersion) -> dict[str, Any]:
    """The version as JSON values; the keys of a damaged manifest are left out."""
    about = version.manifest.to_json() if version.manifest else {}
    return {**about, "name": version.name, "version": version.version, "path": version.path}


def _table(found: ModelList) -> show.Table:
    table = show.Table()
    for column, justify in (("model", "left"), ("version", "right"), ("bytes", "right"), ("input", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left", no_wrap=True)
    for column in ("output", "sha256"):
        table.add_column(column, no_wrap=True)
    for version in found.versions:
        row = [version.name, str(version.version)]
        if version.manifest is None:
            row += ["", "its manifest is damaged"]
        else:
            about = version.manifest
            row += [f"{about.bytes:,}", _shapes(about.inputs), _shapes(about.outputs), about.sha256[:_SHORT]]
        table.add_row(*row)
    return table


def _show(args: argparse.Namespace, connections: Connections) -> None:
    version = one_version(connections, connections.cluster, args.name, args.version)
    if args.json:
        show.json_document("model show", _document(version))
        return
    table = show.Table("", "", show_header=False, padding=(0, 2))
    for name, text in _lines(version):
        table.add_row(show.text((name, "bold")), text)
    show.stdout.print(table)


def _lines(version: ListedVersion) -> Iterator[tuple[str, str]]:
    yield "model", f"{version.name} version {version.version}"
    yield "path", f"{version.path} (on every host)"
    about = version.manifest
    if about is None:
        yield "manifest", "damaged"
        return
    yield "sha256", about.sha256
    yield "size", f"{about.bytes:,} bytes"
    yield from (("input", f"{tensor.name}: {tensor}") for tensor in about.inputs)
    yield from (("output", f"{tensor.name}: {tensor}") for tensor in about.outputs)
    if len(about.inputs) == 1:
        yield "pictures", advice.pictures(about).partition("pictures of ")[2] or "none"
    yield "labels", "none" if about.labels is None else str(about.labels)
    on_cpu = ", ".join(f"{name} ({count})" for name, count in about.cpu_operations.items())
    yield "Edge TPU", f"{about.tpu_operations} operations; on the CPU: {on_cpu or 'none'}"
    if about.min_runtime is not None:
        yield "runtime", f"Edge TPU runtime {about.min_runtime} or newer"
    if about.description:
        yield "description", about.description


def _shapes(tensors: tuple[Tensor, ...]) -> str:
    return " ".join(f"{tensor.dtype}[{','.join(map(str, tensor.shape))}]" for tensor in tensors)
