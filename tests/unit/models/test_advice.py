"""What is said of a model when it is deployed: what no node can run, what infer does with it, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import End, Step, build, metadata, picture_model

from clusteradm.cli.deploy_model import describe
from clusteradm.errors import UsageError
from clusteradm.models import advice
from clusteradm.models.upload import Upload, prepare
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.manifest import Feed


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    def prepare_bytes(data: bytes, name: str = "m.tflite", **options: Any) -> Upload:
        (tmp_path / name).write_bytes(data)
        return prepare(tmp_path / name, "m", **options)

    return prepare_bytes


def one(code: str, **more: Any) -> bytes:
    return build([End((1, 4), "uint8", 1.0), End((1, 4), "uint8", 1.0)], [Step(code, (0,), (1,), **more)])


def identity(first: End, last: End | None = None) -> bytes:
    return build([first, last or first], [Step("RESHAPE", (0,), (1,))])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (one("FlexErf"), "no node can run it: its operation FlexErf is TensorFlow's (Flex)"),
        (one("ethos-u"), "it is compiled for an Arm Ethos-U, not for the Edge TPU"),
        (one("MaxPoolingWithArgmax2D"), "its custom operation 'MaxPoolingWithArgmax2D' is not in the nodes' runtimes"),
        (identity(End((1, 4), "string")), "its input 't' is of the type string"),
        (identity(End((1, 4), "complex64")), "its input 't' is of the type complex64"),
        (identity(End((1,), "resource")), "is of the type resource"),
        (identity(End((1, 4)), End((1, 4), "variant")), "results cannot hold its output 't', of the type variant"),
        (identity(End((1, 1, 1, 3), signature=(-1, -1, -1, 3))), "no fixed size (?x?x?x3): which one?"),
        (identity(End((1, 1, 3), signature=(1, -1, 3))), "no fixed size (1x?x3)"),
        (identity(End((1, 0, 3))), "no fixed size (1x0x3)"),
    ],
)
def test_what_no_node_can_run_is_refused_before_any_connection(prepared: Any, data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        prepared(data)
    assert said in str(refused.value)
    assert refused.value.next_step


def text(upload: Upload) -> str:
    return " | ".join(upload.warnings)


def weights(dtype: str) -> bytes:
    tensors = [
        End((1, 4)),
        End((2, 4), dtype, 0.1 if dtype == "int8" else None, data=np.zeros((2, 4), dtype)),
        End((1, 2)),
    ]
    return build(tensors, [Step("FULLY_CONNECTED", (0, 1, -1), (2,))])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (picture_model(), "it was not compiled (edgetpu_compiler MODEL.tflite)"),
        (weights("float32"), "it is not quantised: quantise it fully to 8 bits, then compile it"),
        (weights("int8"), "only its weights are quantised: quantise it fully to 8 bits, then compile it"),
        (picture_model("int16", 1 / 32768), "it is quantised to 16 bits: quantise it fully to 8 bits"),
        (identity(End((1, 4), "int32")), "its operations are on int32, and the Edge TPU takes 8-bit numbers"),
        (
            identity(End((1, 8, 8, 3), "uint8", 1.0, signature=(-1, 8, 8, 3))),
            "its input has no fixed shape: convert it with a batch size of 1, then compile it",
        ),
        (
            build([End((1, 4)), End((1, 4))], [Step("WHILE", (0,), (1,))], more_graphs=2),
            "it has control flow, which the Edge TPU cannot run",
        ),
    ],
)
def test_what_is_missing_before_the_edge_tpu_could_run_it(prepared: Any, data: bytes, said: str) -> None:
    warnings = prepared(data).warnings
    assert f"nothing in it runs on the Edge TPU: {said}" in warnings[0]
    assert ("MODEL.tflite" in warnings[0]) == ("compile" in said and "16 bits" not in said)


def test_a_batch_is_one_of_pictures(prepared: Any) -> None:
    assert "batch" not in text(prepared(identity(End((15600,)))))
    assert "batch" not in text(prepared(identity(End((49, 40)))))
    assert "its batch size is 4" in text(prepared(identity(End((4, 8, 8, 3), "uint8", 1.0))))


def test_classes_are_what_something_calls_classes(prepared: Any, tmp_path: Path) -> None:
    row = End((1, 140))
    assert "output float32 1x140" in describe(prepared(identity(row)))
    assert "classes" not in describe(prepared(identity(row)))
    softmax = build([row, row], [Step("SOFTMAX", (0,), (1,))])
    assert "140 classes" in describe(prepared(softmax))
    scores = build([End((1, 3), "int8", 1 / 256, -128)] * 2, [Step("RELU", (0,), (1,))])
    assert "3 classes" in describe(prepared(scores))
    labels = tmp_path / "l.txt"
    labels.write_text("".join(f"beat {n}\n" for n in range(140)))
    assert "140 classes" in describe(prepared(identity(row), labels=labels))


def test_what_infer_does_not_feed(prepared: Any) -> None:
    two = build([End((1, 4))] * 3, [Step("ADD", (0, 1), (2,))], inputs=(0, 1))
    assert "it has 2 inputs: infer takes .npz files with an array for each of" in text(prepared(two))
    part = prepared(picture_model(), "m_segment_1_of_3_edgetpu.tflite")
    assert "it is segment 1 of 3 of a pipeline" in text(part)
    newer = prepared(build([End((1, 4))] * 2, [Step("STABLEHLO_CASE", (0,), (1,))]))
    assert "newer" not in text(newer)


def test_how_pictures_are_fed_is_said(prepared: Any) -> None:
    assert "pictures of 2x2 RGB, black to white is its whole range" in describe(prepared(picture_model()))
    assert "black to white is -1 to 1" in describe(prepared(picture_model("float32", None)))
    assert "black to white is 0 to 255" in describe(prepared(picture_model("int32", None)))
    assert "no pictures" in describe(prepared(weights("float32")))
    first = picture_model(shape=(1, 3, 8, 8))
    assert "pictures of 8x8 RGB, black to white is its whole range, channels first" in describe(prepared(first))
    upload = prepared(picture_model("int16", 0.01))
    assert "nothing says which of these black and white are; say it by --mean and --std" in text(upload)


def test_the_files_own_metadata_is_read(prepared: Any) -> None:
    imagenet = metadata((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    upload = prepared(picture_model("float32", None, metadata=imagenet))
    feed = upload.manifest.feed
    assert feed is not None
    assert (feed.mean, feed.std) == (pytest.approx((123.675, 116.28, 103.53)), pytest.approx((58.395, 57.12, 57.375)))
    assert "(pixel - 123.675,116.28,103.53) / 58.395,57.12,57.375, by its metadata" in describe(upload)
    # What does not fit the input is not used: nothing, or with a word.
    for wrong in (
        metadata((1.0, 2.0), (1.0, 2.0)),
        metadata((1.0,), (0.0,)),
        metadata((1.0,), (float("nan"),)),
        b"M0",
        b"",
    ):
        assert prepared(picture_model("float32", None, metadata=wrong)).manifest.feed in (None, Feed(pictures=True))
    contradicts = prepared(picture_model(metadata=metadata((0.0,), (1.0,))))
    assert "its metadata (mean 0, std 1) does not fit its input's scale" in text(contradicts)
    # What the user says comes first.
    said = prepared(picture_model("float32", None, metadata=imagenet), mean=(0.0,), std=(255.0,)).manifest.feed
    assert (said.mean, said.std, said.source) == ((0.0,), (255.0,), "user")


def test_an_input_of_sound_takes_no_pictures(prepared: Any) -> None:
    upload = prepared(picture_model("float32", None, metadata=metadata(content=4)))
    assert upload.manifest.feed == Feed(pictures=False)
    assert "no pictures" in describe(upload)
    assert (
        prepared(picture_model("float32", None, metadata=metadata(content=4)), layout="nhwc").manifest.feed.pictures
        is None
    )


@pytest.mark.parametrize(
    ("options", "shape", "said"),
    [
        (
            {"mean": (1.0, 2.0, 3.0), "std": (1.0,)},
            (1, 2, 2, 1),
            "a mean and a deviation for 3 channels; its pictures have 1",
        ),
        ({"layout": "nchw"}, (1, 8, 8, 3), "takes 1x8x8x3, no pictures"),
        ({"mean": (1.0,), "std": (1.0,)}, (1, 4), "takes 1x4, no pictures"),
    ],
)
def test_options_that_do_not_fit_are_refused(prepared: Any, options: Any, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError, match=f"--mean, --std, --layout and --fit do not fit the model: .*{said}"):
        prepared(picture_model("float32", None, shape=shape), **options)


def test_numbers_that_are_of_no_picture_are_refused(prepared: Any) -> None:
    for mean, std in (((1.0,), ()), ((), (1.0,)), ((1.0,), (0.0,)), ((float("nan"),), (1.0,)), ((1.0,) * 5, (1.0,))):
        with pytest.raises(UsageError, match=r"--mean|--std"):
            prepared(picture_model(), mean=mean, std=std)


def test_a_job_may_feed_them_in_another_way() -> None:
    deployed = Feed((1.0,), (2.0,), None, "metadata", True)
    assert advice.overridden(deployed, Feed(layout="nchw")) == Feed((1.0,), (2.0,), "nchw", "metadata")
    assert advice.overridden(deployed, Feed((3.0,), (4.0,))) == Feed((3.0,), (4.0,), None, "")
    assert advice.overridden(None, Feed((3.0,), (4.0,), "nhwc", "user")) == Feed((3.0,), (4.0,), "nhwc", "user")


LABELS = (("l.txt", 2, ""),)


def labels(upload: Upload) -> list[str]:
    return upload.files.get("labels.txt", b"").decode().split("\n")[:-1]


@pytest.mark.parametrize(
    ("about", "files", "expected"),
    [
        (metadata(files=LABELS), {"l.txt": "a\nb\n", "vocab.txt": "x\ny\n"}, ["a", "b"]),
        (metadata(files=(("l.txt", 3, ""),)), {"l.txt": "a\nb\n"}, ["a", "b"]),
        (metadata(files=(("de.txt", 2, "de"), ("l.txt", 2, ""))), {"de.txt": "x\ny\n", "l.txt": "a\nb\n"}, ["a", "b"]),
        (metadata(files=(("vocab.txt", 5, ""),)), {"vocab.txt": "a\nb\n"}, []),
        (metadata(files=(("notes.txt", 1, ""),)), {"notes.txt": "a\nb\n"}, []),
        (metadata(files=LABELS), {"other.txt": "a\nb\n"}, []),
        (metadata(), {"labels.txt": "a\nb\n"}, []),
        (metadata(files=(("meta.txt", 0, ""),)), {"meta.txt": "{'stride': 32, 'names': {0: 'a', 1: 'b'}}"}, ["a", "b"]),
        (None, {"licence.txt": "a\nb\n"}, []),
        (None, {"labels.txt": "a\nb\n"}, ["a", "b"]),
        (None, {"labels.txt": ""}, []),
        (None, {"labels.txt": "\n\n"}, []),
        (None, {"temp_meta.txt": "{'stride': 32, 'names': {0: 'a', 1: 'b'}}"}, ["a", "b"]),
        (None, {"metadata.json": '{"stride": 32, "names": {"0": "a", "1": "b"}}'}, ["a", "b"]),
        (None, {"metadata.yaml": "stride: 32\nnames:\n  0: a\n  1: b\n"}, ["a", "b"]),
        (None, {"metadata.json": '{"stride": 32}'}, []),
    ],
)
def test_the_labels_inside_a_model(
    prepared: Any, about: bytes | None, files: dict[str, str], expected: list[str]
) -> None:
    upload = prepared(picture_model("uint8", shape=(1, 1, 2, 1), metadata=about, files=files))
    assert labels(upload) == expected
    assert len(upload.warnings) == 1


def test_labels_inside_that_cannot_be_its_own_are_left_out_with_a_word(prepared: Any) -> None:
    for inside, said in (
        ("a\nb\nc\n", "3 labels, but the model has 2 classes"),
        ("0 a\n0 b\n", "it has two labels of class 0"),
    ):
        upload = prepared(
            picture_model("uint8", shape=(1, 1, 2, 1), metadata=metadata(files=LABELS), files={"l.txt": inside})
        )
        assert labels(upload) == []
        assert f"the labels inside it are left out: {said}" in text(upload)


def test_a_type_of_the_rule_is_one_that_models_may_have() -> None:
    assert set(feeding.TYPES) == {*feeding.INTEGERS, *feeding.FLOATS, "bool"}
