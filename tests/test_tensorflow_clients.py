"""A board's gRPC asked by TensorFlow Serving's own stubs and TensorFlow, unmodified, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import serve_front
import serve_place as place
import tensorflow_environment

CLIENT = """
import json, sys
import grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1])
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
images = np.zeros((2, 28, 28, 1), np.uint8)
images[:, 5:23, 13:15] = 255
found = {}

asked = predict_pb2.PredictRequest()
asked.model_spec.name, asked.model_spec.version_label = "digits", "stable"
asked.inputs["keras_tensor_24"].CopyFrom(tf.make_tensor_proto(images))
answer = stub.Predict(asked, 60)
(output,) = answer.outputs.values()
found["predict"] = [tf.make_ndarray(output).argmax(1).tolist(), answer.model_spec.version.value]

asked.inputs["keras_tensor_24"].CopyFrom(tf.make_tensor_proto([tf.io.encode_png(each).numpy() for each in images]))
(output,) = stub.Predict(asked, 60).outputs.values()
found["pictures"] = tf.make_ndarray(output).argmax(1).tolist()

asked = classification_pb2.ClassificationRequest()
asked.model_spec.name = "digits"
feature = asked.input.example_list.examples.add().features.feature["image"]
feature.bytes_list.value.append(tf.io.encode_png(images[0]).numpy())
found["classify"] = stub.Classify(asked, 60).result.classifications[0].classes[0].label

asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
asked.model_spec.name = "digits"
signatures = get_model_metadata_pb2.SignatureDefMap()
assert stub.GetModelMetadata(asked, 60).metadata["signature_def"].Unpack(signatures)
found["inputs"] = list(signatures.signature_def["serving_default"].inputs)

asked = get_model_status_pb2.GetModelStatusRequest()
asked.model_spec.name = "digits"
states = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked, 60).model_version_status
found["states"] = [[each.version, get_model_status_pb2.ModelVersionStatus.State.Name(each.state)] for each in states]

asked.model_spec.name = "other"
try:
    model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked, 60)
except grpc.RpcError as error:
    found["other"] = error.code().name
print(json.dumps(found))
"""


def test_tensorflow_serving_api(tmp_path: Path) -> None:
    python = tensorflow_environment.python()
    # It depends on the package `tensorflow`, and here is tensorflow-cpu.
    install = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    install += ["-c", str(tensorflow_environment.CONSTRAINTS), "--target", str(tmp_path / "api")]
    install.append("tensorflow-serving-api")
    subprocess.run(install, check=True)
    shared = tmp_path / "shared"
    for version in (1, 2):
        place.deploy(shared, version=version)
    with serve_front.serving(place.plane(shared, {"digits": [1, 2]}, digits={"stable": 1}), tmp_path) as server:
        done = subprocess.run(
            [str(python), "-c", CLIENT, server.rpc],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "api"), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "predict": [[1, 1], 1],
        "pictures": [1, 1],
        "classify": "1",
        "inputs": [place.INPUT],
        "states": [[2, "AVAILABLE"], [1, "AVAILABLE"]],
        "other": "NOT_FOUND",
    }
