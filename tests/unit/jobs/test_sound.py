"""WAV files: the samples of each window as the model takes them, and every other file as one error."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.errors import UsageError
from clusteradm.models import advice
from clusteradm.node.edgetpu.tensors import Preprocessor
from clusteradm.node.job import pack
from clusteradm.node.job.pack import Entry
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import Feed

WINDOW = 200


def wav(samples: Any, rate: int = 16000, width: int = 2) -> bytes:
    """A WAV file of (frames, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def lines(tmp_path: Path, data: bytes, form: InputForm) -> list[dict[str, Any]]:
    (tmp_path / "pack").write_bytes(data)
    return list(pack.index(str(tmp_path / "pack"), [Entry("a.WAV", 0, len(data))], pack.wanted(form)))


def tensors(tmp_path: Path, data: bytes, form: InputForm) -> list[Any]:
    details = {"shape": form.shape, "dtype": form.dtype, "quantization": (form.scale or 0.0, form.zero_point)}
    feed = Preprocessor(details, form.feed)
    return [
        feed.tensor(data[line["offset"] : line["offset"] + line["size"]], line["form"])
        for line in lines(tmp_path, data, form)
    ]


def error(tmp_path: Path, data: bytes, form: InputForm) -> str:
    (line,) = lines(tmp_path, data, form)
    return str(line["form"]["error"])


FLOAT = InputForm("float32", (1, WINDOW))
RAMP = np.arange(-1000, -1000 + 2 * WINDOW + 50, dtype="<i2")


def test_a_sound_is_as_many_windows_as_it_fills(tmp_path: Path) -> None:
    data = wav(RAMP[:, None])
    assert [line["input"] for line in lines(tmp_path, data, FLOAT)] == ["a.WAV[0]", "a.WAV[1]", "a.WAV[2]"]
    first, second, third = tensors(tmp_path, data, FLOAT)
    assert first.dtype == np.float32 and first.shape == (1, WINDOW)
    assert np.array_equal(first[0], RAMP[:WINDOW] / np.float32(32768))
    assert np.array_equal(second[0], RAMP[WINDOW : 2 * WINDOW] / np.float32(32768))
    assert np.array_equal(third[0, :50], RAMP[-50:] / np.float32(32768)) and not third[0, 50:].any()
    assert [line["input"] for line in lines(tmp_path, wav(RAMP[:WINDOW, None]), FLOAT)] == ["a.WAV"]


def test_channels_are_mixed_to_one(tmp_path: Path) -> None:
    both = np.stack([np.full(WINDOW, 32767), np.full(WINDOW, -32767)], 1).astype("<i2")
    both[0] = [100, 50]
    (found,) = tensors(tmp_path, wav(both), FLOAT)
    assert found[0, 0] == np.float32(75 / 32768) and not found[0, 1:].any()


def test_inputs_of_other_types(tmp_path: Path) -> None:
    data = wav(np.full((WINDOW, 1), 16384, "<i2"))
    (whole,) = tensors(tmp_path, data, InputForm("int16", (WINDOW,)))
    assert whole.dtype == np.int16 and (whole == 16384).all() and whole.shape == (WINDOW,)
    (quantised,) = tensors(tmp_path, data, InputForm("int8", (1, WINDOW, 1), 1 / 128, 0))
    assert (quantised == 64).all() and quantised.shape == (1, WINDOW, 1)


def test_another_rate_is_an_error_unless_it_is_the_models(tmp_path: Path) -> None:
    data = wav(RAMP[:, None], 44100)
    assert "it has 44100 samples/s and the model takes 16000: resample it" in error(tmp_path, data, FLOAT)
    assert len(lines(tmp_path, data, InputForm("float32", (1, WINDOW), feed=Feed(rate=44100)))) == 3


@pytest.mark.parametrize("shape", [(1, 49, 40, 1), (1, 4), (1, 224, 224, 3), ()])
def test_a_model_that_takes_no_sound_says_so(shape: tuple[int, ...], tmp_path: Path) -> None:
    form = InputForm("float32", shape)
    assert "no samples of sound" in error(tmp_path, wav(RAMP[:, None]), form)
    with pytest.raises(UsageError, match=r"--sample-rate: the model takes float32 .*, no samples of sound"):
        advice.check_rate(InputForm("float32", shape, feed=Feed(rate=8000)))


WHOLE = wav(RAMP[:, None])
EXTENSIBLE = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16000, 32000, 2, 16, 22, 16, 4, 1) + bytes(14)


def chunk(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(data) if size is None else size) + data + bytes(len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


PLAIN = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)


@pytest.mark.parametrize("size", [None, 0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_other_chunks_and_what_was_written_to_a_pipe(tmp_path: Path, size: int | None) -> None:
    for about in (PLAIN, EXTENSIBLE):
        samples = chunk(b"data", RAMP[:WINDOW].tobytes(), size)
        data = riff(chunk(b"LIST", b"odd"), chunk(b"fmt ", about), samples)
        (found,) = tensors(tmp_path, data, FLOAT)
        assert np.array_equal(found[0], RAMP[:WINDOW] / np.float32(32768))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it has not the header of a WAV file"),
        (b"RIFF", "it has not the header of a WAV file"),
        (WHOLE[:40], "it has no samples, or is cut short"),
        (WHOLE[:-2], "it is cut short"),
        (riff(chunk(b"data", b"")), "its samples come before their format"),
        (riff(chunk(b"fmt ", PLAIN[:10])), "it has no samples"),
        (riff(chunk(b"fmt ", PLAIN), chunk(b"data", b"")), "it holds no sample"),
        (riff(*[chunk(b"junk", b"")] * 2000), "it has no samples"),
        (riff(chunk(b"junk", b"", 0xFFFFFFFE)), "it has no samples"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 0, 16000, 0, 0, 16)), chunk(b"data", b"xx")), "0 channels"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 65535, 1, 0, 0, 16)), chunk(b"data", b"xx")), "65535 channels"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, 16000, 0, 0, 32)), chunk(b"data", b"xx")), "16-bit PCM"),
        (wav(np.zeros((9, 1), np.uint8), width=1), "convert it to 16-bit PCM"),
    ],
)
def test_what_is_no_sound_is_one_error(data: bytes, said: str, tmp_path: Path) -> None:
    assert said in error(tmp_path, data, FLOAT)
