"""Models made here: the smallest that are what they say, and what the Edge TPU's compiler would make of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits"


@pytest.fixture(scope="session")
def digits() -> bytes:
    """The project's own model, not compiled."""
    return (DIGITS / "digits.tflite").read_bytes()


@pytest.fixture
def test_data() -> Path:
    """Real models and pictures."""
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    return Path(folder)


def darwinn_package(min_runtime: int, cached: int, streamed: int, token: int = 0) -> bytes:
    """A package as the Edge TPU's compiler writes it (libedgetpu executable/executable.fbs): what is read."""
    executables = [_executable(1, cached, token), _executable(2, streamed)]
    builder = flatbuffers.Builder(0)
    strings = [builder.CreateByteVector(executable) for executable in executables]
    builder.StartVector(4, len(strings), 4)
    for string in reversed(strings):
        builder.PrependUOffsetTRelative(string)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    multi = bytes(builder.Output())
    builder = flatbuffers.Builder(0)
    body = builder.CreateByteVector(multi)
    compiler = builder.CreateString("compiler 16")
    builder.StartObject(5)
    builder.PrependInt32Slot(0, min_runtime, 0)
    builder.PrependUOffsetTRelativeSlot(1, body, 0)
    builder.PrependUOffsetTRelativeSlot(4, compiler, 0)
    builder.Finish(builder.EndObject(), b"DWN1")
    return bytes(builder.Output())


def _executable(kind: int, parameters: int, token: int = 0) -> bytes:
    builder = flatbuffers.Builder(0)
    body = builder.CreateByteVector(bytes(parameters))
    builder.StartObject(15)
    builder.PrependUint64Slot(14, token, 0)
    builder.PrependUOffsetTRelativeSlot(6, body, 0)
    builder.PrependInt16Slot(13, kind, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@pytest.fixture
def compiled() -> Callable[..., bytes]:
    """A function that makes a model of one edgetpu-custom-op, and `cpu` more operations."""

    def make(
        package: bytes | None = None, *, shape: tuple[int, ...] = (1, 4, 4, 1), classes: int = 10, cpu: int = 0
    ) -> bytes:
        options = flexbuffers.Builder()
        with options.Map():
            options.Key("1")
            options.String("version")
            options.Key("4")
            options.Blob(darwinn_package(12, 300, 40) if package is None else package)
        operation = _operation(0, [0], [1])
        operation.customOptions = list(bytes(options.Finish()))
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "edgetpu-custom-op"
        softmax = schema.OperatorCodeT()
        softmax.builtinCode = softmax.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
        graph = schema.SubGraphT()
        graph.tensors = [_tensor("image", shape), _tensor("scores", (1, 10))]
        graph.inputs, graph.outputs = [0], [1]
        graph.operators = [operation, *(_operation(1, [1], [1]) for _ in range(cpu))]
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs = 3, [code, softmax], [graph]
        model.buffers, model.description = [schema.BufferT()], "made by a test"
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return make


def _operation(code: int, inputs: list[int], outputs: list[int]) -> Any:
    operation = schema.OperatorT()
    operation.opcodeIndex, operation.inputs, operation.outputs = code, inputs, outputs
    return operation


def _tensor(name: str, shape: tuple[int, ...]) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, list(shape), schema.TensorType.UINT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [0.25], [7]
    return tensor
