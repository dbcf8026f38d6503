"""Splits of real models of several architectures: K segments in turn give what the whole gives, bit by bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clusteradm.lab import digits
from clusteradm.models.split.split import split

DATA = os.environ.get("CLUSTERADM_TEST_DATA")
NAMES = (
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v2_1.0_224_quant",
    "keras_lstm_mnist_ptq",
    "deeplabv3_mnv2_dm05_pascal_quant",
    "movenet_single_pose_lightning_ptq",
)


# A detector of several outputs, which its last segments give together.
FOLDERS = {
    "digits": Path(digits.__file__).parent,
    "digits_float": Path(digits.__file__).parent,
    "detector": Path(__file__).parent / "fixtures" / "tflite",
}


@pytest.mark.parametrize("name", [*FOLDERS, *NAMES])
def test_segments_give_what_the_model_gives(name: str, tmp_path: Path) -> None:
    if not DATA and name in NAMES:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    source = FOLDERS.get(name, Path(DATA or "")) / f"{name}.tflite"
    for count, balance in ((2, "size"), (3, "latency"), (4, "operations")):
        done = split(source, count, balance, tmp_path)
        # The child compares whole and segments itself, and an output that differs is an error.
        assert (done.compared, done.problem, len(done.pieces)) == (3, "", count)
        assert [one.path.name for one in done.pieces] == [f"{name}_segment_{n}_of_{count}.tflite" for n in range(count)]
        if balance == "size":
            whole = source.stat().st_size
            assert sum(one.bytes for one in done.pieces) < 1.2 * whole + 40_000
