"""A simulated Edge TPU on this machine, in a mount namespace of its own, whose /sys/class and /dev show it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from clusteradm.lab import compiler, hardware, tpu_package
from clusteradm.lab.topology import boards

SIDE = 224  # pixels: an input of 150,528 bytes
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def model() -> bytes:
    """A model for 224x224 RGB that costs the CPU little, so that the device can keep the published time."""
    made, graph = schema.ModelT(), schema.SubGraphT()
    made.version, made.buffers = 3, [schema.BufferT()]
    graph.tensors = []
    for name, shape in (("input", [1, SIDE, SIDE, 3]), ("pooled", [1, 16, 16, 3]), ("output", [1, 768])):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer, tensor.type = name, shape, 0, schema.TensorType.UINT8
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [1 / 255], [0]
        graph.tensors.append(tensor)
    pool, shape = schema.Pool2DOptionsT(), schema.ReshapeOptionsT()
    pool.strideH = pool.strideW = pool.filterHeight = pool.filterWidth = SIDE // 16
    pool.padding, shape.newShape = schema.Padding.VALID, [1, 768]
    made.operatorCodes, graph.operators = [], []
    for number, (code, kind, options) in enumerate(
        (
            (schema.BuiltinOperator.AVERAGE_POOL_2D, schema.BuiltinOptions.Pool2DOptions, pool),
            (schema.BuiltinOperator.RESHAPE, schema.BuiltinOptions.ReshapeOptions, shape),
        )
    ):
        entry, operation = schema.OperatorCodeT(), schema.OperatorT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        operation.opcodeIndex, operation.inputs, operation.outputs = number, [number], [number + 1]
        operation.builtinOptionsType, operation.builtinOptions = kind, options
        made.operatorCodes.append(entry)
        graph.operators.append(operation)
    graph.inputs, graph.outputs = [0], [2]
    made.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return compiler.compile_model(bytes(builder.Output()), "the benchmark's model")


def enter_namespace() -> None:
    """Start this program again where mounts and ports are its own, unless it is there already."""
    if os.environ.get("SERVE_BENCHMARK") != "inside":
        os.environ["SERVE_BENCHMARK"] = "inside"
        own = ["--mount", "--net", "--propagation", "private"]
        os.execvp("unshare", ["unshare", *own, sys.executable, *sys.argv])  # noqa: S606
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Tpu:
    """The device process, and the library in `folder`, for LD_LIBRARY_PATH."""

    def __init__(self, folder: Path, milliseconds: float) -> None:
        self.folder = folder
        board = boards(1, 1)[0]
        view, sockets = folder / "view", folder / "sockets"
        hardware.make(view, board)
        sockets.mkdir()
        # As little else as Python and its children need.
        devices = folder / "dev"
        devices.mkdir()
        mount("-t", "tmpfs", "none", devices)
        for name in _DEVICES:
            (devices / name).touch()
            mount("--bind", f"/dev/{name}", devices / name)
        (devices / "shm").mkdir()
        mount("-t", "tmpfs", "none", devices / "shm")
        # PyTriton starts its server on a terminal.
        (devices / "pts").mkdir()
        mount("--bind", "/dev/pts", devices / "pts")
        (devices / "ptmx").symlink_to("pts/ptmx")
        (devices / "fd").symlink_to("/proc/self/fd")
        (devices / "apex_0").touch()
        mount("--move", devices, "/dev")
        mount("--bind", view / "sys-class", "/sys/class")
        tpu_package.compile_library(
            folder / "libedgetpu.so.1", {"SOCKETS": sockets, "CLASS": Path("/sys/class/apex"), "DEV": Path("/dev")}
        )
        apex = Path("/sys/class/apex/apex_0")
        self.address = (apex / "pci_address").read_text().strip()
        command = [sys.executable, "-m", "clusteradm.lab.device", str(sockets / "apex_0.sock"), str(apex)]
        self.process = subprocess.Popen([*command, str(milliseconds)])
        end = time.monotonic() + 30
        while not (sockets / "apex_0.sock").exists():
            if time.monotonic() > end:
                raise SystemExit("the simulated TPU does not start")
            time.sleep(0.05)

    @property
    def environment(self) -> dict[str, str]:
        """For a process that uses it."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.folder)}

    def end(self) -> None:
        """End the device."""
        self.process.terminate()
        self.process.wait()


def mount(*arguments: object) -> None:
    """Mount, or say why not."""
    subprocess.run(["mount", *map(str, arguments)], check=True)
