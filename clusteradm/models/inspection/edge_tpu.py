"""What of a model an Edge TPU can run, what keeps the rest off it, and what to change first.

Rules of Google's compiler, which is closed: its table of supported operations (coral.ai/docs/edgetpu/models-intro,
"Supported operations"), and that all after the first operation that is not mapped stays on the CPU. What it decides by
size (large activations) cannot be told from a file: the number of mapped operations is an estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from clusteradm.models.tflite import schema
from clusteradm.models.tflite.graph import Graph, Operation, Tensor
from clusteradm.models.tflite.inspect import TPU_OPERATION
from clusteradm.models.tflite.model import EIGHT_BITS, Model
from clusteradm.node.spec import feeding

_SUPPORTED = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE
STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
"""
SUPPORTED = frozenset(_SUPPORTED.split())
# In a remedy: the file that is inspected, and the command that compiles it.
FILE = "MODEL.tflite"
COMPILE = "edgetpu_compiler"
_END_TO_END = "keep 8-bit numbers from end to end"
# What does the work of an operation that is not supported.
_INSTEAD = {
    "LEAKY_RELU": "use RELU, RELU6 or PRELU",
    "ELU": "use RELU or RELU6",
    "GELU": "use RELU or RELU6",
    "HARD_SWISH": "use RELU6",
    "EXP": "use LOGISTIC or SOFTMAX where it is a part of one",
    "DIV": "multiply by the inverse",
    "POW": "multiply, or use MUL of the tensor by itself",
    "SQUARE": "use MUL of the tensor by itself",
    "BATCH_MATMUL": "use FULLY_CONNECTED with constant weights",
    "ARG_MAX": "take the largest score after the inference",
    "TOPK_V2": "take the largest scores after the inference",
    "CAST": _END_TO_END,
    "DEQUANTIZE": _END_TO_END,
    "SPLIT_V": "use SPLIT into equal parts, or SLICE",
    "UNPACK": "use SLICE or STRIDED_SLICE",
    "GATHER": "use SLICE",
    "GATHER_ND": "move it behind the model, to the CPU's part at its end",
    "MIRROR_PAD": "use PAD (zeros)",
    "BATCH_TO_SPACE_ND": "convert without dilation",
    "SPACE_TO_BATCH_ND": "convert without dilation",
    "LSTM": "convert it as UNIDIRECTIONAL_SEQUENCE_LSTM (tf.keras.layers.LSTM with a static batch)",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "use two LSTMs of one direction",
    "TFLite_Detection_PostProcess": "none needed: it is meant for the CPU, at the model's end",
    "PosenetDecoderOp": "none needed: it is meant for the CPU, at the model's end",
}
_BY_SIZE = ("RESIZE_BILINEAR",)
_WITH_WEIGHTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_MOST_SOFTMAX = 16_000  # elements
_MOST_KINDS = 50  # of operations in one obstacle


@dataclass(frozen=True)
class Obstacle:
    """Something that keeps operations off an Edge TPU. `operations`: the number of each kind that it is about.

    `certain`: False where only the compiler can tell.
    """

    what: str
    why: str
    mend: str
    operations: Mapping[str, int] = field(default_factory=dict)
    certain: bool = True


@dataclass(frozen=True)
class Forecast:
    """What would be mapped of a model that is not compiled: the first operation that would not, and why."""

    mapped: int
    total: int
    first: str = ""
    reason: str = ""


def obstacles(model: Model, graphs: tuple[Graph, ...]) -> list[Obstacle]:
    """What keeps the model, or a part of it, off an Edge TPU, in the order in which to mend it."""
    graph = graphs[0]
    found = [*_control_flow(graphs), *_foreign(graph), *_open_shapes(model, graph), *_types(model, graph)]
    batch = [tensor for tensor in model.inputs if len(tensor.shape) == 4 and tensor.shape[0] > 1]
    if batch:
        found.append(
            Obstacle(
                f"the batch size of {batch[0].name!r} is {batch[0].shape[0]}",
                "of a tensor, only the three inner dimensions may be larger than 1",
                "convert it with a batch size of 1",
            )
        )
    found += _limited(graph, bool(model.tpu_operations))
    if not model.tpu_operations:
        found.append(Obstacle("it is not compiled", "an Edge TPU runs compiled models", COMPILE))
    return found


def _limited(graph: Graph, compiled: bool) -> Iterator[Obstacle]:
    reasons: dict[tuple[str, str], Counter[str]] = {}
    for operation in graph.operations:
        why = limit(graph, operation)
        if why:
            mend = _INSTEAD.get(operation.name, "change the network, or move the operation to its end")
            reasons.setdefault((why, mend), Counter())[operation.name] += 1
    for (why, mend), kinds in sorted(reasons.items(), key=lambda item: -item[1].total()):
        yield Obstacle(_counted(kinds), why, mend, _few(kinds))
    sound = [one for one in graph.operations if one.name != TPU_OPERATION and not wrong_type(graph, one)]
    left = Counter(one.name for one in sound if one.name in SUPPORTED and not limit(graph, one))
    if compiled and left:
        why = "the compiler left them on the CPU: by their size, or as they come after another that it did not map"
        yield Obstacle(_counted(left), why, "mend what is above, and compile it again", _few(left))
    sized = Counter({name: count for name, count in left.items() if name in _BY_SIZE})
    if sized and not compiled:
        why = "the compiler maps it for some sizes only: its log says so"
        yield Obstacle(_counted(sized), why, "none needed where it is mapped", _few(sized), certain=False)


def _control_flow(graphs: tuple[Graph, ...]) -> Iterator[Obstacle]:
    flow = Counter(one.name for one in graphs[0].operations if one.name in ("WHILE", "IF", "CALL_ONCE", "CALL"))
    if len(graphs) > 1 or flow:
        names = _counted(flow) if flow else f"{len(graphs)} subgraphs"
        yield Obstacle(
            f"control flow: {names}",
            "an Edge TPU runs one straight sequence of operations",
            "unroll loops and remove conditions, then convert it again",
            dict(flow),
        )


def _foreign(graph: Graph) -> Iterator[Obstacle]:
    kinds = Counter(
        one.name
        for one in graph.operations
        if one.name not in schema.OPERATORS and one.name != TPU_OPERATION and one.name not in _INSTEAD
    )
    flex = Counter({name: count for name, count in kinds.items() if name.startswith("Flex")})
    custom = kinds - flex
    if flex:
        yield Obstacle(
            _counted(flex),
            "operations of TensorFlow itself (Flex), which neither an Edge TPU nor the nodes' runtimes have",
            "convert it with the operations of TensorFlow Lite alone (without SELECT_TF_OPS)",
            dict(flex.most_common(_MOST_KINDS)),
        )
    if custom:
        yield Obstacle(
            _counted(custom),
            "custom operations, which the compiler does not know",
            "convert it without them",
            dict(custom.most_common(_MOST_KINDS)),
        )


def _open_shapes(model: Model, graph: Graph) -> Iterator[Obstacle]:
    opened = [tensor.name for tensor in model.inputs if tensor.dynamic or min(tensor.shape, default=1) < 1]
    if opened:
        yield Obstacle(
            f"the input {opened[0]!r} has no fixed shape",
            "the compiler places every tensor in the chip's memory beforehand",
            "convert it with a batch size of 1: clusteradm model convert does",
        )
    elif not model.tpu_operations and any(tensor.opened for tensor in graph.tensors):
        inner = next(tensor.name for tensor in graph.tensors if tensor.opened)
        yield Obstacle(
            f"the tensor {inner!r} inside it has no fixed shape",
            "the compiler places every tensor in the chip's memory beforehand",
            "convert it with fixed shapes: clusteradm model convert does so for the batch",
        )


def _types(model: Model, graph: Graph) -> Iterator[Obstacle]:
    kinds: dict[str, Counter[str]] = {}
    for operation in graph.operations:
        kind = wrong_type(graph, operation)
        if kind and operation.name in SUPPORTED and operation.name != "QUANTIZE":
            kinds.setdefault(kind, Counter())[operation.name] += 1
    floats = sum((kinds.pop(kind, Counter()) for kind in feeding.FLOATS), Counter[str]())
    if floats:
        what = f"floating-point numbers: {_counted(floats)}"
        if model.tpu_operations:
            yield Obstacle(what, "they stay on the CPU", _END_TO_END, _few(floats))
        elif model.hybrid or model.mapped:
            why = "only its weights are quantised" if model.hybrid else "only a part of it is quantised"
            mend = "quantise the original model fully to 8 bits (clusteradm model convert), without float fallback"
            yield Obstacle(what, f"{why}; an Edge TPU computes with 8-bit numbers", mend, _few(floats))
        else:
            mend = f"clusteradm model convert {FILE} --calibration INPUTS --output INT8.tflite"
            why = "it is not quantised: an Edge TPU computes with 8-bit numbers"
            yield Obstacle(what, why, mend, _few(floats))
    for kind, names in kinds.items():
        if kind == "int16":
            why, mend = "it is quantised to 16 bits", "quantise it fully to 8 bits"
        else:
            why, mend = "an Edge TPU takes 8-bit numbers", _END_TO_END
        yield Obstacle(f"{kind} numbers: {_counted(names)}", why, mend, _few(names))


def wrong_type(graph: Graph, operation: Operation) -> str | None:
    """The type, other than 8 bits, of what an operation computes with or writes; None where there is none."""
    for number in (*operation.data, *operation.outputs):
        if number >= 0 and graph.tensors[number].dtype not in EIGHT_BITS:
            return graph.tensors[number].dtype
    return None


def limit(graph: Graph, operation: Operation) -> str | None:
    """Why the compiler does not map this operation, whatever it computes with; None where it does."""
    name = operation.name
    if name in ("WHILE", "IF", "CALL_ONCE", "CALL", TPU_OPERATION) or name.startswith("Flex"):
        return None
    if name not in SUPPORTED:
        if name in _INSTEAD and name not in schema.OPERATORS:
            return "it has no counterpart on an Edge TPU"
        return "an Edge TPU has no such operation" if name in schema.OPERATORS else None
    tensors = [graph.tensors[number] for number in operation.inputs if number >= 0]
    outputs = [graph.tensors[number] for number in operation.outputs if number >= 0]
    shape = outputs[0].shape if outputs else ()
    return next(_limits(name, operation, tensors, shape), None)


def _limits(name: str, operation: Operation, tensors: list[Tensor], shape: tuple[int, ...]) -> Iterator[str]:
    if name in ("AVERAGE_POOL_2D", "MAX_POOL_2D") and operation.option(schema.Pool2DOptions.FUSED_ACTIVATION, "<b"):
        yield "a pooling with an activation in it is not supported"
    if name == "CONCATENATION":
        if operation.option(schema.ConcatenationOptions.FUSED_ACTIVATION, "<b"):
            yield "a concatenation with an activation in it is not supported"
        if len(tensors) > 2 and any(len(tensor.weights) for tensor in tensors):
            yield "a concatenation with a constant may have only two inputs"
    if name == "CONV_2D":
        options2 = schema.Conv2DOptions
        across = operation.option(options2.DILATION_W, "<i", 1)
        if across != operation.option(options2.DILATION_H, "<i", 1):
            yield "a convolution with different dilation in x and y is not supported"
    if name == "STRIDED_SLICE":
        strides = tensors[3].numbers() if len(tensors) > 3 else ()
        if any(step != 1 for step in strides):
            yield "a slice with steps other than 1 is not supported"
        elif operation.option(schema.StridedSliceOptions.ELLIPSIS_MASK, "<i") or operation.option(
            schema.StridedSliceOptions.NEW_AXIS_MASK, "<i"
        ):
            yield "a slice with an ellipsis or a new axis is not supported"
    if name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        axes = tensors[1].numbers() if len(tensors) > 1 else ()
        rank = len(tensors[0].shape) if tensors else 0
        if any(axis % rank == 0 for axis in axes if rank) and tensors[0].shape[0] != 1:
            yield "a reduction over the batch is not supported"
    if name == "SOFTMAX" and shape and (max(shape) > _MOST_SOFTMAX or sum(side > 1 for side in shape) > 1):
        yield f"a softmax is supported over one dimension of at most {_MOST_SOFTMAX:,} elements"
    if name in _WITH_WEIGHTS and len(tensors) > 1 and not len(tensors[1].weights):
        yield "weights that the model computes are not supported: they have to be constant"
    if len(shape) > 3 and any(side > 1 for side in shape[:-3]):
        yield "of a tensor, only the three inner dimensions may be larger than 1"


def forecast(graph: Graph) -> Forecast:
    """What the compiler would map of a model that is not compiled: all before the first obstacle, on every path.

    A QUANTIZE at an input may come before that.
    """
    late: set[int] = set()
    mapped, first, reason = 0, "", ""
    for operation in graph.operations:
        kind = wrong_type(graph, operation)
        why = f"it works on {kind}" if kind else limit(graph, operation)
        if operation.name not in schema.OPERATORS and why is None:
            why = "a custom operation"
        ahead = kind is not None and operation.name == "QUANTIZE" and not mapped
        if why is None and late.isdisjoint(operation.data):
            mapped += 1
        elif not ahead:
            late.update(operation.outputs)
            if not first and why:
                first, reason = operation.name, why
    return Forecast(mapped, len(graph.operations), first, reason)


def _counted(kinds: Mapping[str, int]) -> str:
    names = [f"{name} ({count})" for name, count in list(kinds.items())[:8]]
    return ", ".join([*names, *(["..."] if len(kinds) > 8 else [])])


def _few(kinds: Counter[str]) -> dict[str, int]:
    return dict(kinds.most_common(_MOST_KINDS))
