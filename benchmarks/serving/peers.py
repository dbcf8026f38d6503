"""Servers of others around the runtime's own loop (raw.py), each as its own documentation has it.

    python peers.py NAME MODEL FOLDER HTTP_PORT GRPC_PORT      (of the virtual environment that has it)

The model is `m`, its tensors `input` and `output`, as in benchmarks/serve.py.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from raw import Loop


def mlserver(model: str, folder: Path, http: int, grpc: int) -> None:
    """MLServer, with its usual process for inference beside the one that serves."""
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": 0, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 1}))
    of_model = {"name": "m", "implementation": "mlserver_model.Model", "parameters": {"uri": model}}
    (folder / "model-settings.json").write_text(json.dumps(of_model))
    (folder / "mlserver_model.py").write_text(_MLSERVER)
    paths = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", str(folder)])  # noqa: S606


_MLSERVER = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

from raw import Loop


class Model(MLModel):
    async def load(self):
        self.loop = Loop(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        tensor = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("output", self.loop(tensor))
        return InferenceResponse(model_name=self.name, outputs=[output])
"""


def kserve(model: str, folder: Path, http: int, grpc: int) -> None:
    """KServe's own server for Python."""
    import kserve as library

    class Model(library.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("m")
            self.loop = Loop(model)
            self.ready = True

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            found = self.loop(payload.inputs[0].as_numpy())
            output = library.InferOutput("output", list(found.shape), "UINT8")
            output.set_data_from_numpy(found, binary_data=True)
            return library.InferResponse(payload.id or "", "m", [output])

    library.ModelServer(http_port=http, grpc_port=grpc, enable_latency_logging=False).start([Model()])


def pytriton(model: str, folder: Path, http: int, grpc: int) -> None:
    """Triton, by PyTriton: the loop is in this process, and Triton's server beside."""
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    # Its process takes the first libpython of this version that it finds, which may be another one's.
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    loop = Loop(model)

    def infer(requests: Any) -> Any:
        return [{"output": loop(each.data["input"])} for each in requests]

    address = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1"}
    config = TritonConfig(http_port=http, grpc_port=grpc, allow_metrics=False, **address)
    with Triton(config=config, workspace=str(folder / "workspace")) as server:
        server.bind(
            model_name="m",
            infer_func=infer,
            inputs=[Tensor(name="input", dtype=np.uint8, shape=(1, 224, 224, 3))],
            outputs=[Tensor(name="output", dtype=np.uint8, shape=(1, 768))],
            config=ModelConfig(batching=False),
        )
        server.serve()


PEERS: dict[str, Callable[[str, Path, int, int], None]] = {
    "mlserver": mlserver,
    "kserve": kserve,
    "pytriton": pytriton,
}


if __name__ == "__main__":
    PEERS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
