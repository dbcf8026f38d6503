"""Place of a server in tests: a repository with the digits model, the data plane over an engine in this process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from clusteradm.errors import UsageError
from clusteradm.lab import digits
from clusteradm.models import members, servables
from clusteradm.models.reference import Reference
from clusteradm.models.upload import Upload, prepare
from clusteradm.node.edgetpu.engine import InferenceError
from clusteradm.node.models import store as store_of_versions
from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.holding import Holding
from clusteradm.node.serve.link import Bytes, Done, Link, Reply
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import INVALID, Refusal, Tensor
from clusteradm.node.serve.routing import Entry, Model, Routing
from clusteradm.node.serve.servables import loading
from clusteradm.node.serve.servables.link import Given, ServableLink
from clusteradm.node.serve.servables.signature import ServableSignature
from clusteradm.node.serve.servables.work import Arrays, BadInput, Work
from clusteradm.node.serve.signature import Signature
from clusteradm.node.spec.wire.manifest import MANIFEST, SUMS, Manifest, sums_text
from clusteradm.node.spec.wire.serving import AVAILABLE, DESIRED, SERVING, BoardState, VersionState
from clusteradm.node.spec.wire.versions import VERSIONS, Label, VersionsFile

DIGITS = Path(digits.__file__).parent
INPUT, OUTPUT = "serving_default_keras_tensor_24:0", "StatefulPartitionedCall_1:0"


def deploy(
    shared: Path, name: str = "digits", version: int = 1, path: Path | None = None, labels: Path | None = None
) -> Path:
    """Put a model into the repository, as deploy-model does; the version's folder."""
    if path is None:
        path, labels = DIGITS / "digits.tflite", DIGITS / "labels.txt"
    return store(shared, prepare(path, name, labels), version)


def define(shared: Path, name: str, text: str, version: int = 1, **files: bytes) -> Path:
    """Put a servable into the repository, of the text of its definition and its files (NAME_csv for NAME.csv)."""
    folder = shared.parent / "definitions" / f"{name}-{version}"
    folder.mkdir(parents=True)
    (folder / "servable.yml").write_text(text)
    for each, data in files.items():
        (folder / ".".join(each.rsplit("_", 1))).write_bytes(data)
    upload = servables.prepare(folder / "servable.yml", name)
    return store(shared, members.complete(Stored(shared), upload), version)  # type: ignore[arg-type]


class Stored:
    """The models that are there, for the ensembles that are of them."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared

    def find(self, wanted: Reference) -> tuple[Path, Manifest]:
        folder = self._shared / "models" / wanted.name
        numbers = sorted(int(each.name) for each in folder.glob("[0-9]*"))
        if not numbers:
            raise UsageError(f"there is no model {wanted.name} here")
        found = folder / str(wanted.version or numbers[-1])
        return found, Manifest.from_json(json.loads((found / MANIFEST).read_text()))


def store(shared: Path, upload: Upload, version: int) -> Path:
    """The files of a version, and its folder."""
    name = upload.manifest.name
    files = {**upload.files, MANIFEST: json.dumps({**upload.manifest.to_json(), "version": version}).encode()}
    folder = shared / "models" / name / str(version)
    folder.mkdir(parents=True)
    for each, data in files.items():
        (folder / each).write_bytes(data)
    (folder / SUMS).write_text(sums_text({each: hashlib.sha256(data).hexdigest() for each, data in files.items()}))
    return folder


def label(shared: Path, name: str, labels: dict[str, int]) -> None:
    """Set all labels of a model."""
    state = VersionsFile(labels={each: Label(number) for each, number in labels.items()})
    state.sum = state.right_sum()
    (shared / "models" / name / VERSIONS).write_text(json.dumps(state, default=vars))


def desire(shared: Path, models: Sequence[dict[str, Any]], revision: int = 1, **others: Any) -> None:
    """Write desired.json as the head does. A model: {"name": ..., "policy": {"kind": "latest", "latest": 1}}."""
    (shared / SERVING).mkdir(exist_ok=True)
    document = {"format": 1, "revision": revision, "models": list(models), **others}
    temporary = shared / SERVING / ".new"
    temporary.write_text(json.dumps(document))
    temporary.rename(shared / SERVING / DESIRED)


def drawn() -> Any:
    """A handwritten one, nearly: a stroke, as the model takes it, (1, 28, 28, 1)."""
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 5:23, 13:15, 0] = 255
    return image


class Near(ServableLink):
    """A process of servables in a thread of this one."""

    number, device = 1, "cpu"

    def __init__(self) -> None:
        self.works: dict[int, Work] = {}
        self.asked: list[tuple[int, float | None, int]] = []
        self._thread = ThreadPoolExecutor(1)

    @property
    def ready(self) -> bool:
        return True

    async def ask(
        self, version: Loaded, step: int | None, inputs: Arrays, deadline: float | None, priority: int
    ) -> Given:
        self.asked.append((version.key, deadline, priority))
        work = self.works[version.key]
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, work.run, step, inputs)
        except BadInput as error:
            raise Refusal(INVALID, str(error)) from None
        return Given(found, 0.0, 0.0)


class Here(Link):
    """An engine in a thread of this process."""

    number, simulated, device = 0, False, "cpu"

    def __init__(self, holding: Holding) -> None:
        self._holding, self._thread = holding, ThreadPoolExecutor(1)

    @property
    def ready(self) -> bool:
        return True

    def load(self, key: int) -> float:
        return 0.0

    async def call(self, version: Loaded, inputs: Sequence[Any], deadline: float | None, priority: int) -> Reply:
        came = time.monotonic()

        def work() -> Reply:
            began = time.monotonic()
            outputs = self._holding.run(version.key, inputs)
            return Reply(outputs, began - came, time.monotonic() - began)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except InferenceError as error:
            raise Refusal(INVALID, str(error)) from None

    def begin(
        self, version: Loaded, rows: int, inputs: Sequence[Sequence[Bytes]], priority: int, done: Done
    ) -> Callable[[], None]:
        whole = [b"".join(pieces) for pieces in inputs]
        tensors = [
            np.frombuffer(data, each.dtype).reshape(rows or each.shape[0], *each.shape[1:])
            for data, each in zip(whole, version.inputs, strict=True)
        ]

        async def work() -> None:
            found = await self.call(version, tensors, None, priority)
            done(found._replace(outputs=[output.tobytes() for output in found.outputs]))

        return asyncio.ensure_future(work()).cancel


def plane(
    shared: Path,
    models: dict[str, list[int]],
    board: str = "board-1",
    packages: Path | None = None,
    **labels: dict[str, int],
) -> Dispatch:
    """A data plane that serves these versions of models in the repository, on the CPU of this process."""
    holding, near = Holding(None), Near()
    routes, states, key = {}, [], 0
    for name, versions in models.items():
        entries = {}
        for version in versions:
            key += 1
            folder = str(shared / "models" / name / str(version))
            about = store_of_versions.manifest(folder)
            if about is not None and about.servable is not None:
                near.works[key], loaded = loading.load(key, name, version, folder, packages and str(packages))
                entries[version] = Entry(ServableSignature(loaded), (1,))
            else:
                loaded = holding.load(key, name, version, folder)
                entries[version] = Entry(Signature(loaded), (0,))
            states.append(VersionState(name, version, AVAILABLE, tpus=("cpu",), load_seconds=loaded.load_seconds))
        routes[name] = Model(entries, labels.get(name, {}), None, None)
    found = Dispatch(board, lambda: BoardState(board, 1, True, tuple(states)))
    found.routing = Routing(routes, states)
    found.links = {0: Here(holding), 1: near}
    return found


def tensor(values: Any, name: str = INPUT) -> Tensor:
    """A uint8 tensor of a request."""
    array = np.asarray(values, np.uint8)
    return Tensor(name, "UINT8", array.shape, array)
