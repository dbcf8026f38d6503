"""What the owner of a model is told when it is deployed: why no node can run it, why it will be slow, what infer does
with it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from clusteradm.errors import UsageError
from clusteradm.models.tflite.inspect import TPU_OPERATION
from clusteradm.models.tflite.metadata import OTHER
from clusteradm.models.tflite.model import EIGHT_BITS, Model
from clusteradm.models.tflite.schema import OPERATORS
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import METADATA, Feed, Manifest, Tensor

# The custom operations that every TensorFlow Lite runtime has (tensorflow/lite/core/kernels/register.cc).
_CUSTOM = (TPU_OPERATION, "TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify")
# Types of outputs that no result can hold, and that some runtimes hand out and others do not.
_NO_OUTPUTS = ("resource", "variant", "int4", "int2", "uint4", "float8_e4m3fn", "float8_e5m2")
# Parameters that do not fit the chip are named from this share on.
_MUCH_STREAMED = 0.1
_FEW_BYTES = 64 << 10
_SEGMENT = re.compile(r"_segment_(\d+)_of_(\d+)")  # how edgetpu_compiler names the files of a pipeline


def check(model: Model, where: str) -> None:
    """Raise UsageError for a model that no node can run, or that nothing can be fed to."""
    for name in sorted(model.operators):
        if name.startswith("Flex"):
            raise UsageError(
                f"no node can run it: its operation {name} is TensorFlow's (Flex), and the nodes' runtimes lack these",
                where=where,
                next_step="convert it with the operations of TensorFlow Lite alone (without SELECT_TF_OPS)",
            )
        if name.startswith("ethos-u"):
            raise UsageError(
                "no node can run it: it is compiled for an Arm Ethos-U, not for the Edge TPU",
                where=where,
                next_step="deploy what edgetpu_compiler makes of the model that Vela was given",
            )
        if name not in _CUSTOM and name not in OPERATORS and not name.startswith("operator "):
            raise UsageError(
                f"no node can run it: its custom operation {name!r} is not in the nodes' runtimes",
                where=where,
                next_step="convert it without that operation",
            )
    for tensor, signature in zip(model.inputs, model.signatures, strict=True):
        if tensor.dtype not in feeding.TYPES:
            raise UsageError(
                f"nothing can be fed to it: its input {tensor.name!r} is of the type {tensor.dtype}",
                where=where,
                next_step=f"inputs are {', '.join(feeding.TYPES)}",
            )
        opened = [number for number, size in enumerate(signature) if size < 0]
        if any(tensor.shape[number : number + 1] in ((), (1,)) for number in opened if number) or 0 in tensor.shape:
            shape = "x".join("?" if size < 0 else str(size) for size in signature or tensor.shape)
            raise UsageError(
                f"its input {tensor.name!r} has no fixed size ({shape}): which one?",
                where=where,
                next_step="convert the model with the size of its inputs, for instance shape (1, 224, 224, 3)",
            )
    for tensor in model.outputs:
        if tensor.dtype in _NO_OUTPUTS:
            raise UsageError(
                f"results cannot hold its output {tensor.name!r}, of the type {tensor.dtype}",
                where=where,
                next_step="convert it with outputs that are numbers",
            )


def feed(
    model: Model,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    layout: str | None,
    fit: str | None = None,
    rate: int | None = None,
) -> Feed | None:
    """How the model's pictures are fed: by what the user says, else by its metadata; None where neither says anything.

    Raises UsageError for options that its input cannot have.
    """
    check_numbers(mean, std)
    about = model.metadata
    # What the user says of pictures says that it takes some.
    said = bool(std or layout or fit)
    pictures = None if about is None or about.content is None or said else about.content != OTHER
    if std:
        found = Feed(mean, std, layout, "user", pictures, fit, rate)
    elif about is not None and about.std and max(len(about.mean), len(about.std)) <= max(feeding.CHANNELS):
        found = Feed(about.mean, about.std, layout, METADATA, pictures, fit, rate)
    else:
        found = Feed((), (), layout, "", pictures, fit, rate)
    fed = form(model.inputs[0], found, batch(model))
    check_rate(fed)
    if said:
        check_feed(fed)
    elif found.std and found.pictures is not False:
        try:
            feeding.rule(fed)
        except feeding.NoRule:  # metadata that does not fit the input
            found = Feed((), (), None, "", pictures, rate=rate)
    return found if found != Feed() else None


def check_numbers(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise UsageError for a mean and a deviation that can be of no picture."""
    if bool(mean) != bool(std):
        raise UsageError("--mean and --std are given together", next_step="for instance: --mean 127.5 --std 127.5")
    if not all(value > 0 for value in std):
        raise UsageError("--std is more than 0: pixels are divided by it")
    if not all(map(math.isfinite, (*mean, *std))) or max(len(mean), len(std)) > max(feeding.CHANNELS):
        raise UsageError("--mean and --std are one number each, or one for each of 3 or 4 channels")


def overridden(deployed: Feed | None, feed: Feed) -> Feed:
    """How pictures are fed to a job that was given `feed`: the rest as the model was deployed."""
    before = deployed or Feed()
    normal = feed if feed.std else before
    layout, fit, rate = feed.layout or before.layout, feed.fit or before.fit, feed.rate or before.rate
    pictures = before.pictures if feed == Feed(source=feed.source, rate=feed.rate) else None
    return Feed(normal.mean, normal.std, layout, normal.source, pictures, fit, rate)


def check_rate(input_form: InputForm) -> None:
    """Raise UsageError where the user says of what sound is, and the input takes none."""
    if input_form.feed is not None and input_form.feed.rate is not None and not feeding.window(input_form):
        shape = "x".join(map(str, input_form.shape))
        raise UsageError(f"--sample-rate: the model takes {input_form.dtype} {shape}, no samples of sound")


def check_feed(input_form: InputForm) -> None:
    """Raise UsageError where a mean, a deviation, a layout or a fit that the user gave is not one of the input's."""
    try:
        feeding.rule(input_form)
    except feeding.NoRule as error:
        raise UsageError(f"--mean, --std, --layout and --fit do not fit the model: {error}") from None


def batch(model: Model | Manifest) -> int:
    """How many inputs the model takes at once."""
    return feeding.batch([one.shape for one in model.inputs], [one.shape for one in model.outputs])


def form(tensor: Tensor, how: Feed | None, batch: int = 1) -> InputForm:
    """The input of a job, of a model that takes `batch` of them at once."""
    shape = (1, *tensor.shape[1:]) if batch > 1 else tensor.shape
    return InputForm(tensor.dtype, shape, tensor.scale, tensor.zero_point, how)


def pictures(manifest: Manifest) -> str:
    """How pictures are fed to the model, in words."""
    try:
        rule = feeding.rule(form(manifest.inputs[0], manifest.feed, batch(manifest)))
    except feeding.NoRule as error:
        return "no pictures" if "no pictures" in str(error) else f"no pictures: {error}"
    return f"pictures of {rule.picture}, {rule.text}" + (", channels first" if rule.picture.layout == "nchw" else "")


def warnings(manifest: Manifest, model: Model, name: str) -> Iterator[str]:
    """Reasons for which it will be slow or fail, the gravest first. `name`: of its file."""
    segment = _SEGMENT.search(name)
    if segment:
        yield (
            f"it is segment {segment[1]} of {segment[2]} of a pipeline: infer runs it with the others of a whole model "
            f"(deploy-model WHOLE.tflite --segments *_segment_*_of_{segment[2]}*.tflite)"
        )
    if len(model.inputs) != 1:
        names = ", ".join(tensor.name for tensor in model.inputs)
        yield f"it has {len(model.inputs)} inputs: infer takes .npz files with an array for each of {names}"
    if not model.tpu_operations:
        also = f", and its segments with --pipeline {len(manifest.segments)}" if manifest.segments else ""
        yield f"nothing in it runs on the Edge TPU: {_not_compiled(model)}; infer runs it with --cpu{also}"
    elif model.cpu_operations:
        names = ", ".join(f"{name} ({count})" for name, count in model.cpu_operations.items())
        yield f"{sum(model.cpu_operations.values())} operations stay on the CPU: {names}"
    idle = [str(number) for number, one in enumerate(manifest.segments) if not one.tpu_operations]
    if idle:
        what = f"segment {idle[0]}" if len(idle) == 1 else f"segments {', '.join(idle)}"
        yield f"nothing of {what} runs on the Edge TPU, it is not compiled: infer --pipeline runs them with --cpu"
    parameters = manifest.cached_bytes + manifest.streamed_bytes
    if manifest.streamed_bytes > max(_MUCH_STREAMED * parameters, _FEW_BYTES):
        yield (
            f"{manifest.streamed_bytes:,} of {parameters:,} bytes of its parameters do not fit the Edge TPU's memory, "
            "and are sent for every inference"
        )
    newer = sorted(name for name in model.operators if name.startswith("operator "))
    if newer:
        yield f"it has operations newer than this program ({', '.join(newer)}): the nodes' runtimes may lack them"
    if model.tpu_operations and any(tensor.dynamic for tensor in model.inputs):
        yield "its input has no fixed shape, which the Edge TPU cannot take: convert it with a batch size of 1"
    shape = model.inputs[0].shape
    if batch(model) > 1:
        yield f"its batch size is {shape[0]}: infer feeds so many inputs at once, and zeros where there are fewer"
    elif len(shape) == 4 and shape[0] > 1:
        yield f"its batch size is {shape[0]}: its outputs are not of one input each, and infer feeds it whole arrays"
    yield from _feed_warnings(manifest)


def _feed_warnings(manifest: Manifest) -> Iterator[str]:
    tensor = manifest.inputs[0]
    if len(manifest.inputs) != 1:
        return
    try:
        warning = feeding.rule(form(tensor, manifest.feed, batch(manifest))).warning
    except feeding.NoRule as error:
        if "--mean" in str(error):
            yield str(error)
    else:
        if warning:
            yield warning


def _not_compiled(model: Model) -> str:
    """What is missing before the Edge TPU's compiler could map it."""
    if model.subgraphs > 1 and {"WHILE", "IF"} & set(model.cpu_operations):
        return "it has control flow, which the Edge TPU cannot run"
    ends = [tensor.dtype for tensor in (*model.inputs, *model.outputs)]
    if not model.mapped:
        if "int16" in model.work or "int16" in ends:
            return "it is quantised to 16 bits: quantise it fully to 8 bits (int8 or uint8), then compile it"
        if any(kind in model.work for kind in feeding.FLOATS):
            only = "only its weights are" if model.hybrid else "it is not"
            return f"{only} quantised: quantise it fully to 8 bits, then compile it (edgetpu_compiler MODEL.tflite)"
        kinds = ", ".join(kind for kind in model.work if kind not in EIGHT_BITS) or "none"
        return f"its operations are on {kinds}, and the Edge TPU takes 8-bit numbers"
    if any(tensor.dynamic for tensor in model.inputs):
        return (
            "its input has no fixed shape: convert it with a batch size of 1, then compile it "
            "(edgetpu_compiler MODEL.tflite)"
        )
    return "it was not compiled (edgetpu_compiler MODEL.tflite)"
