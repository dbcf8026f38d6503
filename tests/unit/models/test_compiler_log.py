"""Logs of edgetpu_compiler, as people have posted them: sizes, operations, reasons, and what is no log."""

from __future__ import annotations

import time

import pytest

from clusteradm.errors import UsageError
from clusteradm.models.compiler_log import Log, advice, parse

# google-coral/edgetpu#512 and a quoted run of yolov5s: printed with -s by version 16.
LIMITED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
YOLO = f"""\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 3173 ms.

Input model: yolov5s-int8-224.tflite
Input size: 7.37MiB
Output model: yolov5s-int8-224_edgetpu.tflite
Output size: 8.34MiB
On-chip memory used for caching model parameters: 6.08MiB
On-chip memory remaining for caching model parameters: 0.00B
Off-chip memory used for streaming uncached model parameters: 1.70MiB
Number of Edge TPU subgraphs: 2
Total number of operations: 294
Operation log: yolov5s-int8-224_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead
run on the CPU, which is slower.
Number of operations that will run on Edge TPU: 289
Number of operations that will run on CPU: 5

Operator                       Count      Status

CONCATENATION                  1          {LIMITED}
CONCATENATION                  17         Mapped to Edge TPU
TRANSPOSE                      1          {LIMITED}
CONV_2D                        62         Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
# google-coral/edgetpu#317: the .log file beside the model, which has the table alone.
FILE = """\
Edge TPU Compiler version 15.0.340273435
Input: m.tflite
Output: m_edgetpu.tflite

Operator                       Count      Status

TRANSPOSE                      70         Operation not supported
PAD                            17         More than one subgraph is not supported
PAD                            1          Mapped to Edge TPU
QUANTIZE                       1          Mapped to Edge TPU
CAST                           2          Operation is working on an unsupported data type
RESHAPE                        4          Tensor has unsupported rank (up to 3 innermost dimensions mapped)
RESIZE_NEAREST_NEIGHBOR        1          Operation version not supported
FULLY_CONNECTED                1          Filter, bias, or other param is not constant at compile-time
SOFTMAX                        1          Something that nobody has seen
"""


def test_what_the_compiler_prints() -> None:
    (log,) = parse(YOLO, "log")
    assert (log.version, log.min_runtime, log.compiled, log.failure) == ("16.0.384591198", 14, True, "")
    assert (log.input_bytes, log.output_bytes) == (round(7.37 * 2**20), round(8.34 * 2**20))
    assert (log.cached_bytes, log.remaining_bytes, log.streamed_bytes) == (6375342, 0, 1782579)
    assert (log.subgraphs, log.operations_in_all, log.on_tpu, log.on_cpu) == (2, 294, 289, 5)
    assert [(row.name, row.count, row.mapped) for row in log.rows] == [
        ("CONCATENATION", 1, False),
        ("CONCATENATION", 17, True),
        ("TRANSPOSE", 1, False),
        ("CONV_2D", 62, True),
    ]
    texts = list(advice(log))
    assert [text.split()[0] for text in texts] == ["5", "1,782,579", "2"]
    assert "a pipeline of 2 TPUs" in texts[1]


def test_the_file_beside_the_model() -> None:
    (log,) = parse(FILE, "log")
    assert (log.version, log.min_runtime, log.compiled) == ("15.0.340273435", 13, True)
    assert (log.on_tpu, log.on_cpu) == (2, 96)
    meanings = [row.meaning for row in log.rows]
    assert meanings[0] == "an Edge TPU has no such operation"
    assert meanings[1].startswith("it comes after an operation that is not mapped")
    assert meanings[4] == "its numbers are not of 8 bits"
    assert "three inner dimensions" in meanings[5] and "newer version" in meanings[6] and "weights" in meanings[7]
    assert meanings[8] == 'the compiler says "Something that nobody has seen"'
    assert all(row.mend for row in log.rows if not row.mapped)


@pytest.mark.parametrize(
    ("lines", "meaning"),
    [
        # google-coral/edgetpu#829, #601, #189
        (
            "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has "
            "dynamic-sized tensors.\nCompilation failed: Model failed in Tflite interpreter.\nCompilation failed!",
            "a tensor has no fixed shape",
        ),
        (
            "ERROR: Restored original execution plan after delegate application failure.\nCompilation failed: "
            "Compilation failed due to large activation tensors in model.",
            "the numbers between two layers do not fit the chip's memory",
        ),
        ("Internal compiler error. Aborting!", "the compiler gave up"),
        ("Invalid model: m.tflite\nModel not quantized", "it is not quantised"),
        ("ERROR: Didn't find op for builtin opcode 'CONV_2D' version '5'", "a newer version"),
        ("Compilation failed: something new", "Compilation failed: something new"),
    ],
)
def test_failures(lines: str, meaning: str) -> None:
    (log,) = parse(f"Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer.\n{lines}\n", "log")
    assert (log.compiled, meaning in log.failure, bool(log.mend)) == (False, True, True)
    assert list(advice(log)) == [log.mend]


def test_several_models_of_one_run() -> None:
    more = YOLO.split("\n\n", 2)
    text = "\n\n".join([*more[:2], more[2], more[2].replace("yolov5s", "other").replace("1.70MiB", "0.00B")])
    first, second = parse(text, "log")
    assert (first.input, second.input) == ("yolov5s-int8-224.tflite", "other-int8-224.tflite")
    assert (second.version, second.compiled, second.streamed_bytes) == (first.version, True, 0)


@pytest.mark.parametrize("text", ["", "hello\n", "a b c\n" * 1000, "\0\x1b[31m", "Input size: 99999999999999999999MiB"])
def test_what_is_no_log(text: str) -> None:
    with pytest.raises(UsageError, match="no log of edgetpu_compiler"):
        parse(text, "log")


def test_a_log_without_end_is_bounded() -> None:
    (log,) = parse("Edge TPU Compiler version 16.0\n" + "CONV_2D 1 Mapped to Edge TPU\n" * 200_000, "log")
    assert len(log.rows) == 4096
    assert isinstance(log, Log) and log.to_json()["on_tpu"] == 4096


def test_time_is_linear_in_the_length_of_a_log() -> None:
    started = time.process_time()
    before = "Edge TPU Compiler version 16.0\nModel compiled successfully in 1 ms.\n"
    found = parse(before + "a\n" * 30_000 + "".join(f"Input model: m{n}.tflite\n" for n in range(1000)), "log")
    assert [log.input for log in found] == [f"m{n}.tflite" for n in range(1000)]
    assert all(log.compiled and log.version == "16.0" for log in found)
    assert time.process_time() - started < 5


def test_a_log_of_too_many_models() -> None:
    with pytest.raises(UsageError, match=r"a log of more than 1,000 compilations"):
        parse("a\n" * 8000 + "Input model: x\n" * 2000, "log")
    with pytest.raises(UsageError, match=r"a log of more than 1,000 compilations"):
        parse("Edge TPU Compiler version 16.0\nInternal compiler error\n" * 1001, "log")


def test_operations_before_a_second_model_are_the_first_ones() -> None:
    text = "Edge TPU Compiler version 16.0\nCONV_2D 1 Mapped to Edge TPU\nInput model: a\nInput model: b\n"
    (log,) = parse(text, "log")
    assert (log.input, len(log.rows)) == ("a", 1)
