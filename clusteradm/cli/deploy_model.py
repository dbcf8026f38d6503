"""Check a TensorFlow Lite model, store it on the cluster under a version, and verify it on every host.

The model is checked before any connection is made. A version is a whole number and never changes; without --version it
is the next one. Deploying the same files again changes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from clusteradm.cli import feed_options, fetch_view, next_step, show
from clusteradm.cli.context import add_connection_arguments, connect, open_cluster
from clusteradm.cli.job_view import transfer
from clusteradm.cli.show import counted
from clusteradm.errors import HostUnreachable, UsageError
from clusteradm.fleet.deployment import Deployment, deploy
from clusteradm.models import advice, servables
from clusteradm.models.reference import check_version
from clusteradm.models.repository import Stored
from clusteradm.models.source import Source
from clusteradm.models.upload import Upload, prepare
from clusteradm.node.spec.servables.transforms import described
from clusteradm.node.spec.wire.manifest import Tensor
from clusteradm.node.spec.wire.versions import MOST_VERSION

# Options that say what a definition says itself, or that is no matter of other servables.
_OF_MODELS = ("labels", "sha256", "task", "threshold", "mean", "std", "layout", "fit", "sample-rate")

EXAMPLES = """\
examples:
  clusteradm deploy-model digits_edgetpu.tflite --name digits
  clusteradm deploy-model digits_edgetpu.tflite --name digits --version 7
  clusteradm deploy-model mobilenet_v2_edgetpu.tflite --name mobilenet_v2 \\
      --labels imagenet_labels.txt
  clusteradm deploy-model faces_edgetpu.tflite --name faces --task embedding \\
      --mean 127.5 --std 127.5
  clusteradm deploy-model inception_v4.tflite --name inception_v4 \\
      --segments inception_v4_segment_*_of_3_edgetpu.tflite
  clusteradm deploy-model coral:mobilenet_v2_1.0_224_quant_edgetpu
  clusteradm deploy-model vocabulary.yml --name words
  clusteradm deploy-model https://models.example.org/m_edgetpu.tflite \\
      --sha256 7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776

A label file has one label per line, in the order of the classes; a line may
begin with the number of its class. JSON, YAML, CSV and label maps (.pbtxt) are
read as well. Without --labels, the file that the model's metadata calls labels
is used, if there is one. How pictures are fed is in the metadata too; --mean,
--std and --layout say it where that is missing or wrong. These, --task and
--threshold are kept with the version, and infer uses them.

A .yml file defines a servable of another kind, for serve alone: a lookup, a
transform, a Python function, or an ensemble of these with models.

A file from an address is fetched once, and checked; clusteradm model catalogue
lists the names of Coral's models.

exit status:
  0    every host has the model
  1    the file cannot be fetched, or is another one
  2    wrong usage, or not a usable model
  3    some hosts failed, or none can load the model
  4    some hosts are unreachable
  130  interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm deploy-model`."""
    parser.add_argument(
        "model",
        metavar="FILE",
        help=".tflite file, compiled for the Edge TPU; an https address, or coral:NAME; or a .yml of another servable",
    )
    parser.add_argument("--name", metavar="NAME", help="name on the cluster: letters, digits, _ and -")
    parser.add_argument("--sha256", metavar="HEX", help="what the file must have; an address is taken with it alone")
    parser.add_argument("--labels", metavar="FILE", type=Path, help="label file, one class per line")
    parser.add_argument("--version", metavar="N", type=_version, help="version to store (default: the next one)")
    parser.add_argument(
        "--segments", nargs="+", type=Path, default=(), metavar="FILE", help="its segments too, for infer --pipeline"
    )
    feed_options.add_task(parser)
    feed_options.add_arguments(parser)
    feed_options.add_fit(parser)
    feed_options.add_rate(parser)
    feed_options.add_threshold(parser)
    add_connection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Deploy; 0 once every host sees the model as it was sent."""
    mean, std, layout = feed_options.values(args)
    if servables.is_definition(args.model):
        return _deploy(args, _defined(args))
    source = Source.parse(args.model, args.sha256)
    name = source.name(args.name)
    path, sha256 = _fetched(source)
    upload = prepare(
        path,
        name,
        args.labels,
        mean=mean,
        std=std,
        layout=layout,
        fit=args.fit,
        rate=args.sample_rate,
        task=args.task,
        threshold=args.threshold,
        called=source.called,
        sha256=sha256,
        parts=args.segments,
    )
    return _deploy(args, upload)


def _defined(args: argparse.Namespace) -> Upload:
    """A servable of another kind. Raises UsageError for options that are about models."""
    for option in _OF_MODELS:
        if getattr(args, option.replace("-", "_")) is not None:
            raise UsageError(f"--{option} is about models; {args.model} says all about its servable itself")
    if args.name is None:
        raise UsageError("a file is deployed under a name", next_step="for instance: --name vocabulary")
    return servables.prepare(Path(args.model), args.name)


def _deploy(args: argparse.Namespace, upload: Upload) -> int:
    if not args.json:
        show.stdout.print(f"{args.model}: {describe(upload)}")
        if upload.task is not None:
            show.stdout.print(f"task: {upload.task.kind}: {upload.task.why}")
    for warning in upload.warnings:
        show.message(f"warning: {warning}")
    with connect(args, open_cluster(args)) as connections, ExitStack() as shown:

        def on_stored(stored: Stored) -> None:
            shown.close()
            if not args.json:
                show.stdout.print(f"{stored.name} version {stored.version}: {stored.state} ({stored.path})")

        shown.enter_context(_keeping_what_came())
        progress = shown.enter_context(transfer("sending the model"))
        done = deploy(
            connections,
            upload,
            args.version,
            args.limit or None,
            progress=progress,
            on_stored=on_stored,
            on_lost=lambda: show.message("the connection to the head is lost; connecting again, to send the rest ..."),
        )
    for warning in done.warnings[len(upload.warnings) :]:
        show.message(f"warning: {warning}")
    _show(args, done)
    if any(isinstance(error, HostUnreachable) for error in done.verified.failed.values()):
        return HostUnreachable.exit_code
    return 0 if done.ok else 3


@contextmanager
def _keeping_what_came() -> Iterator[None]:
    """On Ctrl-C, say that nothing of an upload is lost."""
    try:
        yield
    except KeyboardInterrupt:
        show.message("what has arrived of the model is kept on the head for a week; the same command sends the rest")
        raise


def _fetched(source: Source) -> tuple[Path, str]:
    """The file, with a bar while it is fetched, and its sha256, which is said where nobody has known it; "" for a file
    of this machine without one."""
    if source.path is not None:
        return source.local()
    with fetch_view.showing() as progress:
        path, sha256 = source.local(progress)
    if source.sha256 is None:
        show.message(
            f"warning: the catalogue does not know the sha256 of {source.called}; what came has {sha256} "
            "(give it as --sha256 the next time)"
        )
    return path, sha256


def _show(args: argparse.Namespace, done: Deployment) -> None:
    stored, verified = done.stored, done.verified
    if args.json:
        show.json_document(
            "deploy-model",
            {
                "name": stored.name,
                "version": stored.version,
                "state": stored.state,
                "path": stored.path,
                "manifest": done.upload.manifest.to_json(),
                "task": vars(done.upload.task) if done.upload.task is not None else None,
                "verified": verified.hosts,
                "loaded": _loading(done),
                "failed": {host: str(error) for host, error in verified.failed.items()},
                "copied": None if done.copies is None else list(done.copies.hosts),
                "warnings": list(done.warnings),
            },
        )
    elif verified.hosts:
        show.stdout.print(f"sha256 verified from {counted(len(verified.hosts), 'host')}: {', '.join(verified.hosts)}")
        if done.upload.model is not None:
            _show_trial(done)
        if done.copies is not None:
            show.stdout.print(f"copied to the disks of {counted(len(done.copies.hosts), 'host')}")
    for host, error in verified.failed.items():
        text = next_step.complete(str(error), args)
        show.message(f"not verified: {text}" if text.startswith(host) else f"not verified: {host}: {text}")


def _loading(done: Deployment) -> list[str]:
    """The hosts whose runtime loads the model."""
    return [host for host in done.verified.hosts if done.verified.refused.get(host, "") is None]


def _show_trial(done: Deployment) -> None:
    """What the hosts' runtimes say of the model, without a TPU; those that refuse it are in the warnings."""
    loading = _loading(done)
    untried = [host for host in done.verified.hosts if host not in done.verified.refused]
    if loading:
        show.stdout.print(f"loaded for trial, without a TPU, on {counted(len(loading), 'host')}")
    if untried:
        show.message(f"not tried on {', '.join(untried)}: no TensorFlow Lite runtime there, or it took too long")


def describe(upload: Upload) -> str:
    """One line about the model."""
    manifest, model = upload.manifest, upload.model
    if model is None:
        kind = manifest.servable.kind if manifest.servable is not None else ""
        count = counted(len(upload.files), "file") if upload.files else "no files"
        takes, gives = (" and ".join(map(_typed, each)) for each in (manifest.inputs, manifest.outputs))
        return f"{kind}, {count} of {manifest.bytes:,} bytes, input {takes}, output {gives}"
    words = [f"{manifest.bytes:,} bytes", "input " + " and ".join(str(tensor) for tensor in model.inputs)]
    if model.classes and (manifest.labels or model.named):
        words.append(f"{model.classes} classes")
    else:
        words.append("output " + " and ".join(str(tensor) for tensor in model.outputs))
    if len(model.inputs) == 1:
        words.append(advice.pictures(manifest))
    words.append(f"{manifest.labels} labels" if manifest.labels else "no labels")
    if model.tpu_operations and not model.cpu_operations:
        words.append("all of it on the Edge TPU")
    if model.packages:
        kept, streamed = manifest.cached_bytes, manifest.streamed_bytes
        words.append(f"{kept:,} bytes of parameters kept on the Edge TPU, {streamed:,} sent for every inference")
    if manifest.segments:
        words.append(f"and {len(manifest.segments)} segments for a pipeline")
    if manifest.min_runtime is not None:
        words.append(f"Edge TPU runtime {manifest.min_runtime} or newer")
    return ", ".join(words)


def _typed(tensor: Tensor) -> str:
    return f"{tensor.name} {described(tensor)}" if tensor.dtype else tensor.name


def _version(text: str) -> int:
    try:
        return check_version(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.what}: whole numbers from 1 to {MOST_VERSION}") from None
