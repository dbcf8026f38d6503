"""TensorFlow Serving's protocol, over HTTP and gRPC: there by the messages of tests/unit/tensorflow_messages.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import serve_place as place
import tensorflow_messages as tf
from serve_front import Got, Server

from .test_rest_v2 import png

PREDICT = "/v1/models/digits:predict"


def ask(server: Server, document: Any, path: str = PREDICT) -> Got:
    return server.ask("POST", path, document)


def rows(count: int) -> Any:
    return np.repeat(place.drawn(), count, 0).tolist()


def test_rows(server: Server) -> None:
    for document in (
        {"instances": rows(3)},
        {"instances": [{place.INPUT: each} for each in rows(3)]},
        {"instances": [{"keras_tensor_24": each} for each in rows(3)], "signature_name": "serving_default"},
    ):
        got = ask(server, document)
        assert got.status == 200, got
        assert [int(np.argmax(each)) for each in got.json["predictions"]] == [1, 1, 1]
        assert got.headers["clusteradm-board"] == "board-1" and got.headers["clusteradm-model-version"] == "2"


def test_columns(server: Server) -> None:
    for inputs in (rows(2), {place.INPUT: rows(2)}, {"keras_tensor_24": rows(2)}):
        got = ask(server, {"inputs": inputs})
        assert got.status == 200, got
        assert [int(np.argmax(each)) for each in got.json["outputs"]] == [1, 1]


def test_pictures(server: Server) -> None:
    picture = {"b64": base64.b64encode(png(place.drawn())).decode()}
    for document, key in (
        ({"instances": [picture, picture]}, "predictions"),
        ({"instances": [{"image": picture}, {"image": picture}]}, "predictions"),
        ({"inputs": [picture, picture]}, "outputs"),
        ({"inputs": {"image": [picture, picture]}}, "outputs"),
    ):
        got = ask(server, document)
        assert got.status == 200, got
        assert [int(np.argmax(each)) for each in got.json[key]] == [1, 1]
        assert [each["top"][0]["label"] for each in got.json["results"]] == ["1", "1"]


def test_classes(server: Server) -> None:
    picture = {"b64": base64.b64encode(png(place.drawn())).decode()}
    got = ask(server, {"examples": [{"image": picture}] * 2}, "/v1/models/digits:classify")
    assert got.status == 200, got
    assert [each[0][0] for each in got.json["results"]] == ["1", "1"] and got.json["results"][0][0][1] > 0.9
    flat = place.drawn().reshape(-1).tolist()
    got = ask(server, {"examples": [{"keras_tensor_24": flat}]}, "/v1/models/digits/labels/stable:classify")
    assert got.status == 200, got
    assert got.json["results"][0][0] == ["1", 255] and len(got.json["results"][0]) == 10


def test_versions_and_labels(server: Server) -> None:
    for path, version in (
        ("/v1/models/digits:predict", "2"),
        ("/v1/models/digits/versions/1:predict", "1"),
        ("/v1/models/digits/labels/stable:predict", "1"),
    ):
        assert ask(server, {"instances": rows(1)}, path).headers["clusteradm-model-version"] == version


def test_states_and_metadata(server: Server) -> None:
    states = server.ask("GET", "/v1/models/digits").json["model_version_status"]
    assert [(each["version"], each["state"], each["status"]["error_code"]) for each in states] == [
        ("2", "AVAILABLE", "OK"),
        ("1", "AVAILABLE", "OK"),
    ]
    for path in ("/v1/models/digits/versions/1", "/v1/models/digits/labels/stable"):
        (state,) = server.ask("GET", path).json["model_version_status"]
        assert state["version"] == "1"
    metadata = server.ask("GET", "/v1/models/digits/metadata").json
    assert metadata["model_spec"]["version"] == "2"
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"][place.INPUT]["dtype"] == "DT_UINT8"
    assert [each["size"] for each in signature["inputs"][place.INPUT]["tensor_shape"]["dim"]] == ["1", "28", "28", "1"]


BAD: dict[str, tuple[str, Any, int, str]] = {
    "another model": ("/v1/models/other:predict", {"instances": [1]}, 404, "no model other"),
    "another version": ("/v1/models/digits/versions/9:predict", {"instances": [1]}, 404, "no version 9"),
    "a version that is none": ("/v1/models/digits/versions/99999999999:predict", {"instances": [1]}, 404, "no version"),
    "another label": ("/v1/models/digits/labels/old:predict", {"instances": [1]}, 404, "no label old"),
    "a label as a version": ("/v1/models/digits/versions/stable:predict", {"instances": [1]}, 400, "labels/stable"),
    "a version as a label": ("/v1/models/digits/labels/1:predict", {"instances": [1]}, 400, "versions/1"),
    "another verb": ("/v1/models/digits:explain", {}, 404, ":predict"),
    "no object": (PREDICT, [1], 400, "JSON object"),
    "neither": (PREDICT, {}, 400, "either instances"),
    "both": (PREDICT, {"instances": [1], "inputs": [1]}, 400, "either instances"),
    "no list": (PREDICT, {"instances": 5}, 400, "no list"),
    "no rows": (PREDICT, {"instances": []}, 400, "no list"),
    "another signature": (PREDICT, {"instances": [1], "signature_name": "x"}, 400, "serving_default"),
    "another signature of classes": (
        "/v1/models/digits:classify",
        {"examples": [{"keras_tensor_24": [0] * 784}], "signature_name": "x"},
        400,
        "serving_default",
    ),
    "another shape": (PREDICT, {"instances": [1.0, 2.0]}, 400, "has the shape"),
    "no numbers": (PREDICT, {"instances": ["a"]}, 400, "no number"),
    "a picture that is none": (PREDICT, {"instances": [{"b64": "AAAA"}]}, 400, "not a picture"),
    "no base64": (PREDICT, {"instances": [{"b64": "%"}]}, 400, "not base64"),
    "pictures and numbers": (PREDICT, {"instances": [{"b64": "AAAA"}, [1]]}, 400, "either all"),
    "other names": (PREDICT, {"instances": [{"x": 1}]}, 400, "no tensor 'x'"),
    "other names in a row": (PREDICT, {"instances": [{place.INPUT: 1}, {"x": 1}]}, 400, "same names"),
    "too many pictures": (PREDICT, {"instances": [{"b64": "AAAA"}] * 65}, 400, "1 to 64"),
    "no examples": ("/v1/models/digits:classify", {}, 400, "examples"),
    "a feature of text": ("/v1/models/digits:classify", {"examples": [{"keras_tensor_24": "a"}]}, 400, "neither"),
    "a feature is missing": ("/v1/models/digits:classify", {"examples": [{}]}, 400, "no feature"),
    "a short feature": ("/v1/models/digits:classify", {"examples": [{"keras_tensor_24": [1]}]}, 400, "1 values"),
    "no regression": ("/v1/models/digits:regress", {"examples": [{"keras_tensor_24": [0] * 784}]}, 400, "regression"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_malformed_is_refused_with_the_reason(server: Server, name: str) -> None:
    path, body, status, text = BAD[name]
    got = ask(server, body, path)
    assert got.status == status and text in got.json["error"], got


def test_states_of_what_is_not_there(server: Server) -> None:
    assert server.ask("GET", "/v1/models/other").status == 404
    assert server.ask("GET", "/v1/models/digits/versions/9").status == 404
    assert server.ask("GET", PREDICT).status == 405


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.rpc) as found:
        yield found


def predict(channel: grpc.Channel, tensor: Any, name: str = place.INPUT, **spec: Any) -> Any:
    asked = tf.PredictRequest(model_spec=tf.ModelSpec(name="digits"))
    if "version" in spec:
        asked.model_spec.version.value = spec["version"]
    if "label" in spec:
        asked.model_spec.version_label = spec["label"]
    asked.inputs[name].CopyFrom(tensor)
    return tf.call(channel, "PredictionService/Predict", asked, tf.PredictResponse)


def test_predict_over_grpc(channel: grpc.Channel) -> None:
    two = np.repeat(place.drawn(), 2, 0)
    for tensor in (
        tf.tensor(4, two.shape, tensor_content=two.tobytes()),
        tf.tensor(4, two.shape, int_val=two.reshape(-1).tolist()),
    ):
        answer = predict(channel, tensor)
        output = answer.outputs[place.OUTPUT]
        assert [each.size for each in output.tensor_shape.dim] == [2, 10] and output.dtype == 4
        assert np.frombuffer(output.tensor_content, np.uint8).reshape(2, 10).argmax(1).tolist() == [1, 1]
        assert answer.model_spec.version.value == 2
    one = tf.tensor(4, (1, 28, 28, 1), int_val=[0])  # the last value stands for all that follow
    assert predict(channel, one, "keras_tensor_24", version=1).model_spec.version.value == 1
    # By whatever names it is asked for.
    short = place.OUTPUT.partition(":")[0]
    asked = tf.PredictRequest(model_spec=tf.ModelSpec(name="digits"), output_filter=[short, place.OUTPUT])
    asked.inputs[place.INPUT].CopyFrom(one)
    answer = tf.call(channel, "PredictionService/Predict", asked, tf.PredictResponse)
    assert {name: len(each.tensor_shape.dim) for name, each in answer.outputs.items()} == {short: 2, place.OUTPUT: 2}
    for version in (-1, 99, 1 << 62):
        with pytest.raises(grpc.RpcError) as caught:
            predict(channel, one, version=version)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    picture = tf.tensor(7, (2,), string_val=[png(place.drawn())] * 2)
    answer = predict(channel, picture, label="stable")
    assert answer.model_spec.version.value == 1
    values = np.frombuffer(answer.outputs[place.OUTPUT].tensor_content, np.uint8).reshape(2, 10)
    assert values.argmax(1).tolist() == [1, 1]


def test_classify_over_grpc(channel: grpc.Channel) -> None:
    asked = tf.ClassificationRequest(model_spec=tf.ModelSpec(name="digits"))
    example = asked.input.example_list.examples.add()
    example.features.feature["image"].bytes_list.value.append(png(place.drawn()))
    answer = tf.call(channel, "PredictionService/Classify", asked, tf.ClassificationResponse)
    (found,) = answer.result.classifications
    assert found.classes[0].label == "1" and found.classes[0].score > 0.9
    example.features.feature["image"].int64_list.value.extend(place.drawn().reshape(-1).tolist())
    with pytest.raises(grpc.RpcError) as caught:
        tf.call(channel, "PredictionService/Classify", asked, tf.ClassificationResponse)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_and_states_over_grpc(channel: grpc.Channel) -> None:
    asked = tf.GetModelMetadataRequest(model_spec=tf.ModelSpec(name="digits"), metadata_field=["signature_def"])
    answer = tf.call(channel, "PredictionService/GetModelMetadata", asked, tf.GetModelMetadataResponse)
    signatures = tf.SignatureDefMap()
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures.ParseFromString(packed.value)
    signature = signatures.signature_def["serving_default"]
    assert signature.inputs[place.INPUT].dtype == 4 and signature.method_name == "tensorflow/serving/predict"
    status = tf.GetModelStatusRequest(model_spec=tf.ModelSpec(name="digits"))
    states = tf.call(channel, "ModelService/GetModelStatus", status, tf.GetModelStatusResponse).model_version_status
    assert [(each.version, each.state, each.status.error_code) for each in states] == [(2, 30, 0), (1, 30, 0)]
    status.model_spec.name = "other"
    with pytest.raises(grpc.RpcError) as caught:
        tf.call(channel, "ModelService/GetModelStatus", status, tf.GetModelStatusResponse)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_there_is_not_over_grpc(channel: grpc.Channel) -> None:
    """As TensorFlow Serving says it: no name, another signature; and what is there and not here."""
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    asked = tf.PredictRequest(model_spec=tf.ModelSpec(name="digits", signature_name="x"))
    twice = tf.PredictRequest(model_spec=tf.ModelSpec(name="digits"), output_filter=["y", "y"])
    for method, request, code in (
        ("PredictionService/Predict", tf.PredictRequest(), invalid),
        ("PredictionService/Predict", asked, invalid),
        ("PredictionService/Predict", twice, invalid),
        ("PredictionService/Classify", asked, invalid),
        ("PredictionService/Regress", asked, invalid),
        ("ModelService/GetModelStatus", tf.GetModelStatusRequest(), invalid),
        ("PredictionService/MultiInference", asked, grpc.StatusCode.UNIMPLEMENTED),
        ("ModelService/HandleReloadConfigRequest", asked, grpc.StatusCode.UNIMPLEMENTED),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            tf.call(channel, method, request, tf.PredictResponse)
        assert caught.value.code() is code, method


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (tf.tensor(8, (1,)), "none that is served"),
        (tf.tensor(1, (1, 28, 28, 1), float_val=[0.0]), "UINT8, not FP32"),
        (tf.tensor(4, (1, 28, 28, 1), tensor_content=b"1"), "1 bytes, and 784"),
        (tf.tensor(4, (1, 28, 28, 1), int_val=[300]), "from 0 to 255"),
        (tf.tensor(4, (1, 28, 28, 1), int_val=[0] * 785), "785 values"),
        (tf.tensor(4, (1, 28, 28, 1)), "0 values"),
        (tf.tensor(4, (-1, 28, 28, 1), int_val=[0]), "its shape"),
        (tf.tensor(4, (1 << 25, 1 << 25), int_val=[0]), "elements"),
        (tf.tensor(7, (2,), string_val=[b"a"]), "1 strings"),
        (tf.tensor(7, (1,), string_val=[b"a"]), "not a picture"),
    ],
)
def test_malformed_tensors_over_grpc(channel: grpc.Channel, tensor: Any, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, tensor)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and text in caught.value.details()


def test_the_answers_are_json(server: Server) -> None:
    """No NaN in them, which many readers refuse: null stands for it."""
    from clusteradm.node.serve.fronts.exchange import dumps

    assert json.loads(dumps({"a": np.array([1.5, np.nan, np.inf], np.float32)})) == {"a": [1.5, None, None]}
