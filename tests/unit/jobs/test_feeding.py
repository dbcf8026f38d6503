"""One rule for every type of input: what a model is fed for a picture and for an array, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusteradm.node.edgetpu.tensors import BadInput, Preprocessor
from clusteradm.node.job import pack
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import METADATA, Feed

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.dstack([RAMP, RAMP[::-1], RAMP.T])
SHAPE = (1, 16, 16, 1)


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def preprocessor(
    dtype: Any, quantization: tuple[float, int] = (0.0, 0), shape: tuple[int, ...] = SHAPE, feed: Feed | None = None
) -> Preprocessor:
    return Preprocessor({"shape": np.array(shape), "dtype": dtype, "quantization": quantization, "name": "t"}, feed)


def fed(*args: Any, **kwargs: Any) -> Any:
    """What the model gets for a picture that has every grey once, in their order."""
    tensor = preprocessor(*args, **kwargs).tensor(png(RAMP), None)
    assert tensor.dtype == np.dtype(args[0])
    return tensor.reshape(-1)


GREYS = np.arange(256)
SCALE = 1 / 32768


@pytest.mark.parametrize(
    ("dtype", "quantization", "expected"),
    [
        (np.uint8, (1 / 255, 0), GREYS),
        (np.uint8, (0.0186, 114), GREYS),  # an odd zero point: still the whole range
        (np.uint8, (0.0, 0), GREYS),
        (np.int8, (1 / 255, -128), GREYS - 128),
        (np.int8, (0.0078, -1), GREYS - 128),
        (np.int16, (SCALE, 0), GREYS * 257 - 32768),
        (np.int16, (1 / 32767, 0), GREYS * 257 - 32768),
        (np.uint16, (1 / 65535, 0), GREYS * 257),
        (np.int16, (0.0, 0), GREYS),
        (np.uint16, (0.0, 0), GREYS),
        (np.int32, (0.0, 0), GREYS),
        (np.int64, (0.0, 0), GREYS),
        (np.uint32, (0.0, 0), GREYS),
    ],
)
def test_whole_numbers(dtype: Any, quantization: tuple[float, int], expected: Any) -> None:
    assert np.array_equal(fed(dtype, quantization), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_numbers(dtype: Any) -> None:
    assert np.allclose(fed(dtype), GREYS / 127.5 - 1, atol=1e-3)
    assert np.allclose(fed(dtype, feed=Feed((0.0,), (255.0,))), GREYS / 255, atol=1e-3)
    assert np.allclose(fed(dtype, feed=Feed((0.0,), (1.0,))), GREYS)


@pytest.mark.parametrize(
    ("dtype", "quantization", "said"),
    [
        (np.int16, (0.01, 0), "nothing says which of these black and white are; say it by --mean and --std"),
        (np.int32, (1e-3, 0), "nothing says which of these black and white are"),
        (np.bool_, (0.0, 0), "an input of the type bool takes no pictures"),
        (np.complex64, (0.0, 0), "takes no pictures"),
    ],
)
def test_where_no_rule_holds_a_picture_is_refused(dtype: Any, quantization: tuple[float, int], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        preprocessor(dtype, quantization).tensor(png(RAMP), None)


def test_mean_and_deviation_are_the_models_own() -> None:
    imagenet = Feed((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), source=METADATA)
    colours = png(COLOURS)
    real = preprocessor(np.float32, shape=(1, 16, 16, 3), feed=imagenet).tensor(colours, None)
    expected = (COLOURS.astype(float) - imagenet.mean) / imagenet.std
    assert np.allclose(real[0], expected, atol=1e-5)
    quantised = preprocessor(np.uint8, (0.0186584, 114), (1, 16, 16, 3), imagenet).tensor(colours, None)
    assert np.abs(quantised[0] - (np.round(expected / 0.0186584) + 114).clip(0, 255)).max() == 0
    wide = preprocessor(np.int16, (0.01, 0), (1, 16, 16, 3), imagenet).tensor(colours, None)
    assert np.abs(wide[0] - np.round(expected / 0.01)).max() == 0
    # In an array of the model's shape too, which is pixels.
    array = preprocessor(np.float32, shape=(1, 16, 16, 3), feed=imagenet)
    assert np.array_equal(array.tensor(COLOURS.tobytes(), ["uint8", [1, 16, 16, 3]]), real)


def test_a_quantised_input_whose_rounding_is_pixels_gets_the_pixels() -> None:
    """tf2_mobilenet_v2_1.0_224_ptq: zero point 127 and mean 127.5 are half a step apart."""
    half = Feed((127.5,), (127.5,), source=METADATA)
    assert np.array_equal(fed(np.uint8, (0.00784314, 127), feed=half), GREYS)
    assert np.array_equal(fed(np.int8, (0.0078125, 0), feed=half), GREYS - 128)


def test_metadata_that_contradicts_the_scale_is_not_believed_but_the_user_is() -> None:
    wrong = Feed((0.0,), (1.0,), source=METADATA)
    form = InputForm("uint8", SHAPE, 1 / 255, 0, wrong)
    assert "does not fit its input's scale" in str(feeding.rule(form).warning)
    assert np.array_equal(fed(np.uint8, (1 / 255, 0), feed=wrong), GREYS)
    assert fed(np.uint8, (1 / 255, 0), feed=Feed((0.0,), (1.0,), source="user"))[1] == 255


def test_metadata_that_would_leave_no_picture_is_not_believed() -> None:
    """Pixels that the model normalises inside: (pixel - 127.5) / 127.5 in whole numbers is -1, 0 and 1."""
    inside = Feed((127.5,), (127.5,), source=METADATA)
    for dtype, quantization in ((np.uint8, (0.0, 0)), (np.uint8, (1.0, 0)), (np.int32, (0.0, 0))):
        assert np.array_equal(fed(dtype, quantization, feed=inside), GREYS)
    with pytest.raises(BadInput, match="nothing says which"):
        preprocessor(np.int16, (1.0, 0), feed=inside).tensor(png(RAMP), None)
    assert np.array_equal(fed(np.int8, (0.0, 0), feed=Feed((128.0,), (1.0,), source="user")), GREYS - 128)
    with pytest.raises(
        BadInput, match=r"whole numbers .uint8. without a scale, which cannot be .pixel - 127.5. / 127.5"
    ):
        preprocessor(np.uint8, feed=Feed((127.5,), (127.5,), source="user")).tensor(png(RAMP), None)


def test_channels_first() -> None:
    feed = Feed((0.0, 10.0, 20.0), (1.0, 2.0, 4.0))
    for shape in ((1, 3, 16, 16), (1, 1, 16, 16), (1, 4, 16, 16)):
        tensor = preprocessor(np.uint8, shape=shape).tensor(png(COLOURS), None)
        assert tensor.shape == shape
        if shape[1] == 3:
            assert np.array_equal(tensor[0].transpose(1, 2, 0), COLOURS)
    real = preprocessor(np.float32, shape=(1, 3, 16, 16), feed=feed)
    expected = ((COLOURS - np.array([0.0, 10, 20])) / [1, 2, 4]).transpose(2, 0, 1)
    assert np.allclose(real.tensor(png(COLOURS), None)[0], expected)
    planes = np.ascontiguousarray(COLOURS.transpose(2, 0, 1))
    assert np.allclose(real.tensor(planes.tobytes(), ["uint8", [1, 3, 16, 16]])[0], expected)
    # Where the shape leaves it open, channels are last, unless it is said.
    odd = np.dstack([RAMP[:3, :3]] * 3)
    assert feeding.picture_of((1, 3, 8, 3), Feed()).layout == feeding.NHWC
    assert feeding.picture_of((1, 3, 8, 3), Feed(layout="nchw")) == (8, 3, 3, feeding.NCHW)
    assert preprocessor(np.uint8, shape=(1, 3, 3, 3), feed=Feed(layout="nchw")).tensor(png(odd), None).shape == (
        1,
        3,
        3,
        3,
    )


@pytest.mark.parametrize("shape", [(1, 4), (4, 8, 8, 3), (1, 8, 8, 2), (1, 2, 3, 4, 5), (15600,), (), (1, 0, 8, 3)])
def test_what_takes_no_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(feeding.NoRule, match="no pictures"):
        feeding.rule(InputForm("uint8", shape))
    with pytest.raises(feeding.NoRule, match="no pictures"):
        feeding.rule(InputForm("float32", (1, 8, 8, 3), feed=Feed(pictures=False)))


def real(values: list[float], dtype: str = "<f4") -> tuple[bytes, list[Any]]:
    return np.array(values, dtype).tobytes(), [np.dtype(dtype).name, [1, 4]]


def test_real_numbers_out_of_range_are_counted() -> None:
    feed = preprocessor(np.uint8, (1 / 255, 0), (1, 4))
    assert feed.feed(*real([0, 0.5, 1, 1.003]))[1] == 0
    fed = feed.feed(*real([0, 127, 255, -3]))
    assert (fed.tensor.tolist(), fed.clipped) == ([[0, 255, 255, 0]], 0.75)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_nan_has_no_number_in_whole_ones(value: float, dtype: Any) -> None:
    with pytest.raises(BadInput, match="NaN or infinity"):
        preprocessor(dtype, (0.5, 0) if dtype != np.int32 else (0.0, 0), (1, 4)).tensor(*real([value, 0, 0, 0]))


def test_nan_is_a_real_number() -> None:
    assert np.isnan(preprocessor(np.float32, shape=(1, 4)).tensor(*real([np.nan, 0, 0, 0], "<f8"))[0, 0])


def test_numbers_that_the_type_does_not_hold_are_refused_and_never_cut() -> None:
    ids = preprocessor(np.int32, shape=(1, 4))
    assert ids.tensor(*real([3, 2, 1, 0])).tolist() == [[3, 2, 1, 0]]
    assert ids.tensor(*real([3, 2, 1, 0], "<i8")).tolist() == [[3, 2, 1, 0]]
    for values, dtype in (([3.7, 0, 0, 0], "<f4"), ([2**40, 0, 0, 0], "<i8"), ([1e30, 0, 0, 0], "<f8")):
        with pytest.raises(BadInput, match="the model takes whole numbers from -2147483648 to 2147483647"):
            ids.tensor(*real(values, dtype))
    with pytest.raises(BadInput, match="too large for the model's input, which is float16"):
        preprocessor(np.float16, shape=(1, 4)).tensor(*real([1e6, 0, 0, 0]))


@pytest.mark.parametrize(
    ("form", "taken", "refused"),
    [
        (InputForm("float32", (1, 4)), ["float16", "float32", "float64"], ["uint8", "int8", "int16", "int64", "bool"]),
        (InputForm("int8", (1, 4), 0.5, 3), ["int8", "float32"], ["uint8", "int32", "bool"]),
        (InputForm("int32", (1, 4)), ["int32", "int64", "uint8", "float32"], ["bool"]),
        (InputForm("bool", (1, 4)), ["bool"], ["uint8", "float32"]),
        (InputForm("float32", (1, 2, 2, 1)), ["float32", "uint8"], ["int16", "int64"]),
        (InputForm("uint8", (1, 2, 2, 1)), ["float32", "uint8"], ["int64", "int8"]),
        # 1x2x2 may be of anything, unless its metadata says that it is a picture.
        (InputForm("float32", (1, 2, 2)), ["float32"], ["uint8"]),
        (InputForm("float32", (1, 2, 2), feed=Feed(pictures=True)), ["float32", "uint8"], []),
        (InputForm("int16", (1, 2, 2, 1), 0.01), ["int16", "float32"], ["uint8"]),
    ],
)
def test_types_of_arrays(form: InputForm, taken: list[str], refused: list[str], tmp_path: Any) -> None:
    for dtype in (*taken, *refused):
        file = io.BytesIO()
        np.save(file, np.zeros(form.shape, dtype))
        path = tmp_path / dtype
        path.write_bytes(file.getvalue())
        entries = [pack.Entry("a.npy", 0, len(file.getvalue()))]
        (line,) = pack.index(str(path), entries, pack.wanted(form))
        if dtype in taken:
            data = path.read_bytes()[line["offset"] : line["offset"] + line["size"]]
            tensor = preprocessor(form.dtype, (form.scale or 0.0, form.zero_point), form.shape, form.feed)
            assert tensor.tensor(data, line["form"]).shape == form.shape
        else:
            assert f"has {dtype} numbers; the model takes {form.dtype}" in line["form"]["error"]


def test_a_picture_for_a_model_that_takes_none_is_refused_on_the_head(tmp_path: Any) -> None:
    path = tmp_path / "pack"
    path.write_bytes(png(RAMP))
    entries = [pack.Entry("a.png", 0, path.stat().st_size)]
    for form, said in (
        (InputForm("uint8", (1, 4)), "no pictures"),
        (InputForm("int16", SHAPE, 0.01), "--mean and --std"),
    ):
        (line,) = pack.index(str(path), entries, pack.wanted(form))
        assert said in line["form"]["error"]
