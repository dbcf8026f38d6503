"""Check a TensorFlow Lite model, store it on the cluster under a version, and verify it on every host.

The model is checked before any connection is made. A version is a whole number and never changes; without --version it
is the next one. Deploying the same files again changes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from clusteradm import health
from clusteradm.cli import show
from clusteradm.cli.context import add_connection_arguments, connect, open_cluster
from clusteradm.cli.job_view import counted, transfer
from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Cluster
from clusteradm.models.manifest import Manifest
from clusteradm.models.repository import Repository, Stored, Upload, Verified, prepare, too_old
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm deploy-model digits_edgetpu.tflite --name digits
  clusteradm deploy-model digits_edgetpu.tflite --name digits --version 7
  clusteradm deploy-model mobilenet_v2_edgetpu.tflite --name mobilenet_v2 \\
      --labels imagenet_labels.txt

A label file has one label per line, in the order of the classes; a line may
begin with the number of its class. Without --labels, the labels in the model's
metadata are used, if there are any.

exit status:
  0    every host has the model
  2    wrong usage, or not a usable model
  3    some hosts failed
  4    some hosts are unreachable
  130  interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm deploy-model`."""
    parser.add_argument("model", metavar="FILE", type=Path, help=".tflite file, compiled for the Edge TPU")
    parser.add_argument("--name", required=True, metavar="NAME", help="name on the cluster: letters, digits, _ and -")
    parser.add_argument("--labels", metavar="FILE", type=Path, help="label file, one class per line")
    parser.add_argument("--version", metavar="N", type=_version, help="version to store (default: the next one)")
    add_connection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Deploy; 0 once every host sees the model as it was sent."""
    upload = prepare(args.model, args.name, args.labels)
    if not args.json:
        show.stdout.print(f"{args.model}: {_describe(upload.manifest)}")
    for warning in upload.warnings:
        show.message(f"warning: {warning}")
    cluster = open_cluster(args)
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    with connect(args, cluster) as connections:
        connections.meet({host.name: host for host in (cluster.head, *hosts)}.values())
        repository = Repository(connections, cluster)
        with transfer("sending the model") as progress:
            stored = repository.add(upload, args.version, progress)
        if not args.json:
            show.stdout.print(f"{stored.name} version {stored.version}: {stored.state} ({stored.path})")
        verified = repository.verify(stored, upload, hosts)
        warnings = [*upload.warnings, *_runtime_warnings(upload.manifest, connections, verified, cluster)]
    _show(args, upload, stored, verified, warnings)
    if any(isinstance(error, HostUnreachable) for error in verified.failed.values()):
        return HostUnreachable.exit_code
    return 3 if verified.failed else 0


def _runtime_warnings(
    manifest: Manifest, connections: Connections, verified: Verified, cluster: Cluster
) -> Iterator[str]:
    """Said once it is known: where the model is going to be refused."""
    if manifest.model.min_runtime is None:
        return
    hosts = [host for host in cluster.workers if host.name in verified.hosts]
    old = too_old(manifest, health.survey(connections, hosts, sections=("runtime",)).documents)
    if old:
        warning = f"it needs Edge TPU runtime {manifest.model.min_runtime}, but older are {', '.join(old)}"
        show.message(f"warning: {warning}")
        yield warning


def _show(
    args: argparse.Namespace, upload: Upload, stored: Stored, verified: Verified, warnings: Sequence[str]
) -> None:
    if args.json:
        show.json_document(
            "deploy-model",
            {
                "name": stored.name,
                "version": stored.version,
                "state": stored.state,
                "path": stored.path,
                "manifest": upload.manifest.to_json(),
                "verified": verified.hosts,
                "failed": {host: str(error) for host, error in verified.failed.items()},
                "warnings": list(warnings),
            },
        )
    elif verified.hosts:
        show.stdout.print(f"sha256 verified from {counted(len(verified.hosts), 'host')}: {', '.join(verified.hosts)}")
    for host, error in verified.failed.items():
        text = str(error)
        show.message(f"not verified: {text}" if text.startswith(host) else f"not verified: {host}: {text}")


def _describe(manifest: Manifest) -> str:
    """One line on what the model is."""
    model = manifest.model
    words = [f"{manifest.bytes:,} bytes", "input " + " and ".join(str(tensor) for tensor in model.inputs)]
    words.append(f"{model.classes} classes" if model.classes else f"{len(model.outputs)} output tensors")
    words.append(f"{manifest.labels} labels" if manifest.labels else "no labels")
    if model.tpu_operations and not model.cpu_operations:
        words.append("all of it on the Edge TPU")
    if model.min_runtime is not None:
        words.append(f"Edge TPU runtime {model.min_runtime} or newer")
    return ", ".join(words)


def _version(text: str) -> int:
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no version: whole numbers from 1")
