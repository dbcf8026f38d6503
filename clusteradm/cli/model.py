"""Models on the cluster: shown, labelled, verified, removed; and model files: converted, looked into."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from clusteradm.cli import (
    context,
    model_catalogue,
    model_change,
    model_compile,
    model_convert,
    model_inspect,
    model_log,
    model_servable,
    model_split,
    model_verify,
    show,
)
from clusteradm.cli.parser import Parser
from clusteradm.inventory import Cluster
from clusteradm.models import advice, copies
from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository
from clusteradm.models.versions import uses_text
from clusteradm.node.spec.wire.manifest import Manifest, Tensor
from clusteradm.node.spec.wire.repository import ListedVersion, ModelFound, ModelList
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm model list
  clusteradm model show digits
  clusteradm model show digits:2
  clusteradm model label digits 2 stable
  clusteradm model rollback digits
  clusteradm model verify
  clusteradm model remove digits:1
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
  clusteradm model show digits:2 --json
  clusteradm model show digits@stable
"""
_SHORT = 12  # characters of a sha256 in the list


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm model`."""
    verbs = parser.add_commands("verb")
    listing = verbs.add("list", "list every version of every model", examples=_LIST)
    listing.set_defaults(run_model=_list)
    one = verbs.add("show", "show one version of a model, its labels and who uses it", examples=_SHOW)
    one.add_argument("model", metavar="NAME[:VERSION|@LABEL]", help="the model (default: its latest version)")
    one.add_argument("--version", type=context.positive, metavar="N", help="version of NAME")
    one.set_defaults(run_model=_show)
    for verb in (listing, one):
        context.add_connection_arguments(verb, limit=False, forks=False)
    model_change.add_verbs(verbs)
    model_verify.add_verb(verbs)
    model_catalogue.add_verb(verbs)
    model_inspect.add(verbs)
    model_convert.add(verbs)
    model_compile.add(verbs)
    model_log.add(verbs)
    model_split.add(verbs)


def run(args: argparse.Namespace) -> int:
    """Work on a file of this machine; or ask the head, and for some verbs the other hosts."""
    if hasattr(args, "run_local"):
        return int(args.run_local(args))
    with context.at_head(args) as (connections, cluster):
        status: int = args.run_model(args, connections, cluster)
    return status


def _list(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    found = Repository(connections, cluster).list()
    if args.json:
        models = [_document(version) for version in found.versions]
        body = {"models": models, "left_out": found.left_out, "damaged": list(found.damaged)}
        show.json_document("model list", body)
    elif not found.versions and not found.damaged:
        show.message("no models are deployed")
    elif found.versions:
        show.stdout.print(_table(found))
    for text in found.damaged:
        show.message(f"warning: {text}")
    if found.left_out:
        show.message(f"{found.left_out} more versions are not listed: the head lists a limited number")
    return 0


def _document(version: ListedVersion) -> dict[str, Any]:
    """The version as JSON values; the keys of a damaged manifest are left out."""
    about = version.manifest.to_json() if version.manifest else {}
    own = {"name": version.name, "version": version.version, "path": version.path, "labelled": list(version.labels)}
    return {**about, **own}


def _table(found: ModelList) -> show.Table:
    table = show.Table()
    for column in ("model", "version", "labelled", "bytes", "task", "input", "output", "sha256"):
        right = column in ("version", "bytes")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for version in found.versions:
        row = [version.name, str(version.version), ", ".join(version.labels) or "-"]
        if version.manifest is None:
            row += ["", "", "its manifest is damaged"]
        else:
            about = version.manifest
            kind = about.servable.kind if about.servable is not None else about.task
            row += [f"{about.bytes:,}", kind or "-", _shapes(about.inputs), _shapes(about.outputs)]
            row.append(about.sha256[:_SHORT])
        table.add_row(*row)
    return table


def _show(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    wanted = Reference.parse(args.model).at(args.version)
    found = Repository(connections, cluster).show(wanted)
    version, about = found.version, found.manifest
    assert version is not None and about is not None  # noqa: S101 - Repository.show has looked
    labels = tuple(sorted(label for label, number in found.labels.items() if number == version))
    if args.json:
        document = _document(ListedVersion(wanted.name, version, found.path, about, labels))
        uses = [vars(use) for use in found.uses if use.version == version]
        body = {**document, "versions": list(found.versions), "all_labels": found.labels, "uses": uses}
        show.json_document("model show", body)
        return 0
    table = show.Table("", "", show_header=False, padding=(0, 2))
    for name, text in (*_of_cluster(wanted.name, found, cluster), *_of_model(about)):
        table.add_row(show.text((name, "bold")), text)
    show.stdout.print(table)
    return 0


def _of_cluster(name: str, found: ModelFound, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What the cluster has to do with it."""
    latest = ", the latest" if found.version == max(found.versions, default=None) else ""
    yield "model", f"{name} version {found.version}{latest}"
    others = [str(number) for number in found.versions if number != found.version]
    yield "versions", f"also {', '.join(others)}" if others else "no other"
    yield "where", f"{found.path} on {cluster.head.name}, under this path on every host"
    mine = sorted(label for label, number in found.labels.items() if number == found.version)
    if copies.are_kept(cluster):
        yield "copies", "on the disk of every host" if mine or latest else "none: neither the latest, nor labelled"
    other = [f"{label}: version {number}" for label, number in sorted(found.labels.items()) if label not in mine]
    yield "labelled", (", ".join(mine) or "no") + (f" ({', '.join(other)})" if other else "")
    yield "used by", uses_text([use for use in found.uses if use.version == found.version]) or "nothing that runs"


def _of_model(about: Manifest) -> Iterator[tuple[str, str]]:
    """What is in it."""
    if about.servable is not None:
        yield from model_servable.rows(about)
        return
    yield "size", f"{about.bytes:,} bytes"
    answers = f", answers with a score of {about.threshold:g} at least" if about.threshold is not None else ""
    yield "task", (about.task or "unknown") + answers
    yield "sha256", about.sha256
    yield from (("input", f"{tensor.name}: {tensor}") for tensor in about.inputs)
    yield from (("output", f"{tensor.name}: {tensor}") for tensor in about.outputs)
    if len(about.inputs) == 1:
        yield "pictures", advice.pictures(about).partition("pictures of ")[2] or "none"
    yield "classes", "no labels" if about.labels is None else f"{about.labels} labels"
    on_cpu = ", ".join(f"{name} ({count})" for name, count in about.cpu_operations.items())
    yield "Edge TPU", f"{about.tpu_operations} operations; on the CPU: {on_cpu or 'none'}"
    for number, one in enumerate(about.segments):
        where = f"{one.tpu_operations} operations on the Edge TPU" if one.tpu_operations else "not compiled"
        kept = f", {one.cached_bytes:,} bytes kept there, {one.streamed_bytes:,} sent for every inference"
        yield f"segment {number}", f"{one.bytes:,} bytes, {where}{kept if one.tpu_operations else ''}"
    if about.min_runtime is not None:
        yield "runtime", f"Edge TPU runtime {about.min_runtime} or newer"
    if about.description:
        yield "description", about.description


def _shapes(tensors: tuple[Tensor, ...]) -> str:
    return " ".join(f"{tensor.dtype}[{','.join(map(str, tensor.shape))}]" for tensor in tensors)
