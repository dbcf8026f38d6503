"""Readers of foreign bytes: one function each, which raises nothing but the errors that its reader declares."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from clusteradm import inventory
from clusteradm.errors import ClusteradmError
from clusteradm.fetch import deb, lock
from clusteradm.health import saved
from clusteradm.jobs import inputs, truth
from clusteradm.jobs.results import Results
from clusteradm.lab.compiler import compile_model
from clusteradm.models import compiler_log, labels, servables
from clusteradm.models.inspection.report import report
from clusteradm.models.reference import Reference
from clusteradm.models.tflite.inspect import inspect
from clusteradm.models.upload import prepare
from clusteradm.node.edgetpu.tensors import BadInput, Preprocessor
from clusteradm.node.job import allocation, granted, pack
from clusteradm.node.models import store
from clusteradm.node.slurm import nodes
from clusteradm.node.slurm.programs import SlurmError
from clusteradm.node.spec.servables import tables
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire import job, job_requests, manifest, node, repository, versions
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.servables import Lookup
from clusteradm.playbook.read import reader as playbooks
from clusteradm.transport.stream import Lines
from tests.fuzz import serving

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = b"""all:
  children:
    head:
      hosts:
        head: {ansible_host: 10.0.0.1, cluster_ip: 192.168.7.1}
    compute:
      hosts:
        w1: {ansible_host: 10.0.0.2, cluster_ip: 192.168.7.2}
  vars:
    cluster_interface: eth0
    cluster_subnet: 192.168.7.0/24
"""
_INPUT = {"shape": (1, 2, 2, 1), "dtype": "uint8", "quantization": (0.0, 0)}
_WIRE = (
    job.StoredSpec,
    job.Status,
    job.Progress,
    manifest.Manifest,
    job_requests.AddPart,
    repository.ModelList,
    versions.VersionsFile,
)


@contextmanager
def _file(data: bytes, name: str = "file") -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


def model(data: bytes) -> None:
    """A model's file, its labels, its manifest, the report on it."""
    with suppress(ClusteradmError):
        inspect(data, "m")
    with suppress(ClusteradmError):
        json.dumps(report(data, "m").to_json())
    with _file(data) as path, suppress(ClusteradmError):
        prepare(path, "m")
    with suppress(ClusteradmError):
        compile_model(data, "m")


def label_file(data: bytes) -> None:
    """A label file."""
    text = data.decode("utf-8", "replace")
    for classes, name in ((None, "l.txt"), (3, "l.txt"), (3, "l.json"), (3, "l.yaml"), (3, "l.csv"), (3, "l.pbtxt")):
        with suppress(ClusteradmError):
            labels.render(labels.parse(text, classes, name))


def table(data: bytes) -> None:
    """A table of a lookup."""
    for kind in ("csv", "json", "txt"):
        for key, value in (("bytes", "int8"), ("int64", "bytes"), ("bytes", "float32")):
            with suppress(Problem):
                tables.read(Lookup(f"t.{kind}"), data, key, value)


def servable(data: bytes) -> None:
    """A definition of a servable; what is stored of it is read again as it was."""
    with tempfile.TemporaryDirectory() as folder, suppress(ClusteradmError):
        (Path(folder) / "words.csv").write_bytes(b"number,word\n7,cat\n")
        path = Path(folder) / "one.yml"
        path.write_bytes(data)
        found = servables.prepare(path, "one").manifest
        assert manifest.Manifest.from_json(json.loads(json.dumps(found.to_json()))) == found


def log(data: bytes) -> None:
    """A log of edgetpu_compiler."""
    with suppress(ClusteradmError):
        json.dumps([one.to_json() for one in compiler_log.parse(data.decode("utf-8", "replace"), "log")])


def model_zip(data: bytes) -> None:
    """The zip at a model's end."""
    labels.embedded(data)


def _array(data: bytes, name: str) -> None:
    with _file(data, "inputs.pack") as path, suppress(pack.PackError):
        for line in pack.index(
            str(path),
            [pack.Entry(name, 0, len(data))],
            pack.Wanted("uint8", _INPUT["shape"]),  # type: ignore[arg-type]
        ):
            whole = path.read_bytes()
            start, size = line["offset"], line["size"]
            if start + size > len(whole):
                raise AssertionError(f"{line} lies outside the pack of {len(whole)} bytes")
            with suppress(BadInput):
                Preprocessor(_INPUT).tensor(whole[start : start + size], line["form"])


def npy(data: bytes) -> None:
    """A .npy file."""
    _array(data, "a.npy")


def npz(data: bytes) -> None:
    """A .npz file."""
    _array(data, "a.npz")


def wav(data: bytes) -> None:
    """A WAV file."""
    with _file(data, "inputs.pack") as path:
        wanted = pack.Wanted("float32", (1, 200), window=200)
        feed = Preprocessor({"shape": (1, 200), "dtype": "float32", "quantization": (0.0, 0)})
        for line in pack.index(str(path), [pack.Entry("a.wav", 0, len(data))], wanted):
            if line["offset"] + line["size"] > len(data):
                raise AssertionError(f"{line} lies outside the pack of {len(data)} bytes")
            with suppress(BadInput):
                feed.tensor(data[line["offset"] : line["offset"] + line["size"]], line["form"])


def tar(data: bytes) -> None:
    """A tar file of inputs."""
    with _file(data, "a.tar") as path, suppress(ClusteradmError):
        for file in inputs.resolve([str(path)]).files:  # type: ignore[union-attr]
            with suppress(ClusteradmError):
                file.read(1 << 20)


def picture(data: bytes) -> None:
    """A picture."""
    with suppress(BadInput):
        Preprocessor(_INPUT).tensor(data, None)


def truth_file(data: bytes) -> None:
    """A file of right answers."""
    with _file(data) as path, suppress(ClusteradmError):
        truth.read(path)


def inventory_file(data: bytes) -> None:
    """An inventory."""
    with _file(data, "inventory.yml") as path, suppress(ClusteradmError):
        inventory.load(path)


def playbook(data: bytes) -> None:
    """A playbook."""
    with _file(INVENTORY, "inventory.yml") as path:
        cluster = inventory.load(path)
        book = path.with_name("playbook.yml")
        book.write_bytes(data)
        with suppress(ClusteradmError):
            playbooks.load(book, cluster)


def survey(data: bytes) -> None:
    """A saved survey."""
    with _file(data) as path, suppress(ClusteradmError):
        saved.read(path)


def results(data: bytes) -> None:
    """The results of a job."""
    found = Results("20260101-000000-abcdef", "head", io.BytesIO(data))
    for read in (lambda: list(found.lines()), found.tensor_files):
        with suppress(ClusteradmError):
            read()


def package(data: bytes) -> None:
    """A Debian package."""
    with suppress(ClusteradmError):
        deb.parse(io.BytesIO(data))


def lock_file(data: bytes) -> None:
    """clusteradm.lock."""
    with _file(data) as path, suppress(ClusteradmError):
        lock.Lock(path).read()


def wire(data: bytes) -> None:
    """A document of the border: the spec of a job, an answer, a manifest."""
    for kind in _WIRE:
        with suppress(WireError):
            decode(kind, loads(data))


def sums_file(data: bytes) -> None:
    """SHA256SUMS of a version."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, manifest.SUMS).write_bytes(data)
        found = store.sums(folder)
    assert not found or manifest.sums_text(found).encode() == data


def reference(data: bytes) -> None:
    """A version as a person writes it."""
    with suppress(ClusteradmError):
        found = Reference.parse(data.decode("utf-8", "replace"))
        assert Reference.parse(str(found)) == found


class _Stream:
    """A host that sends these bytes."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def read(self, timeout: float | None) -> bytes:
        data, self._rest = self._rest[:7], self._rest[7:]
        return data

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def stderr_tail(self) -> str:
        return ""

    def exit_status(self) -> int | None:
        return None


def node_lines(data: bytes) -> None:
    """The lines that a node sends."""
    lines = Lines(_Stream(data))
    with suppress(ClusteradmError, OSError):
        while line := lines.read(1):
            with suppress(WireError):
                decode(node.Empty, loads(line))


def slurm(data: bytes) -> None:
    """What sinfo, scontrol and the hosts of an allocation say: each is read as all of them."""
    text = data.decode("utf-8", "replace")
    found = nodes.read(text)
    assert len(found) <= len(data) and all(len(node.reason) <= 300 for node in found)
    granted.tpus_of(text, (0, 1))
    with suppress(SlurmError):
        allocation.read(text)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "inventory": inventory_file,
    "labels": label_file,
    "lock": lock_file,
    "log": log,
    "model": model,
    "model_zip": model_zip,
    "node_lines": node_lines,
    "npy": npy,
    "npz": npz,
    "package": package,
    "picture": picture,
    "playbook": playbook,
    "reference": reference,
    "results": results,
    "slurm": slurm,
    "sums": sums_file,
    "survey": survey,
    "table": table,
    "tar": tar,
    "truth": truth_file,
    "servable": servable,
    "serve_camera": serving.camera,
    "serve_form": serving.form_body,
    "serve_http": serving.http,
    "serve_rpc": serving.rpc,
    "wav": wav,
    "wire": wire,
}


def made_seeds(target: str) -> list[bytes]:
    """Seeds that the repository has anyway, besides those of the corpus."""
    lab = ROOT / "clusteradm" / "lab" / "digits"
    paths = {
        "model": [*sorted((ROOT / "tests/fixtures/models").glob("*.tflite")), *sorted(lab.glob("*.tflite"))],
        "model_zip": sorted((ROOT / "tests/fixtures/models").glob("zip*")),
        "inventory": sorted((ROOT / "inventory").glob("*.yml")),
        "playbook": sorted((ROOT / "playbooks").glob("*.yml")),
        "survey": [ROOT / "tests/fixtures/health/survey.json"],
        "labels": sorted(lab.glob("*.txt")),
    }.get(target, [])
    more = {
        "inventory": [INVENTORY],
        "lock": [
            b'{"version": 1, "packages": {"https://a.example/a.deb": {"sha256": "%s", "size": 5, "origin": "x", '
            b'"package": "ab", "version": "1.0", "architecture": "all"}}}' % (b"a" * 64)
        ],
        "slurm": [
            b"w1|4|tpu:2(S:0-1)|drained|root|2026-11-27T03:23:42|a | b [c]\nw2|2|(null)|idle*|Unknown|Unknown|none\n",
            b"JobId=7 JobState=RUNNING Reason=None Restarts=1   Nodes=w1 CPU_IDs=0 Mem=0 GRES=tpu:2(IDX:0-1,3) X=1\n",
            b"device apex_0 0000:05:00.0\nslurmd: Gres Name=tpu Type=(null) Count=1 Index=0 ID=7 File=/dev/apex_0 x\n",
        ],
        "log": [
            b"Edge TPU Compiler version 16.0.384591198\nModel compiled successfully in 17 ms.\nInput model: m.tflite\n"
            b"Input size: 7.37MiB\nOff-chip memory used for streaming uncached model parameters: 1.70MiB\n"
            b"Number of operations that will run on CPU: 5\nCONV_2D   3   Mapped to Edge TPU\n"
            b"CAST   1   Operation is working on an unsupported data type\nCompilation failed: no\n"
        ],
        "servable": [
            b"kind: lookup\ntable: words.csv\nkey: word\nvalue: number\ndefault: -1\n"
            b"inputs: [{name: word, datatype: BYTES}]\noutputs: [{name: number, datatype: INT64}]\n",
            b"kind: transform\ninputs: [{name: x, datatype: FP32, shape: [-1, 2]}]\nfeatures:\n"
            b"  - {op: standardise, input: x, output: y, mean: [1, 2], std: 3}\n"
            b"  - {op: quantise, input: y, output: z, scale: 0.5, zero_point: 1, datatype: INT8}\noutputs: [z]\n",
            b"kind: ensemble\ninputs: [{name: p, datatype: BYTES, shape: [1]}]\nsteps:\n"
            b"  - {name: a, op: decode, inputs: {data: p}}\n  - {name: b, model: m@s, inputs: {i: a.picture}}\n"
            b"outputs: [{name: o, from: b.o}]\n",
            b"kind: python\nentry_point: e\nparameters: {a: [1, null]}\ninputs: [{name: a, datatype: FP32}]\n"
            b"outputs: [{name: b, datatype: FP32, shape: []}]\n",
        ],
        "table": [b"a,1\nb,2\n", b'{"a": 1, "b": 2}', b'["a", "b"]', b"1,a\n2,b\n"],
        "labels": [b"0 cat\n2: dog\n", b"cat\ndog\n"],
        "truth": [b"input,label\na.png,cat\n", b'{"input": "a", "label": 7}\n'],
        "results": [
            b'{"input": "a", "index": 0, "top": [{"class": 1, "label": "x", "score": 0.5}]}\n'
            b'{"input": "b", "index": 1, "outputs": [{"name": "o", "file": '
            b'"outputs-20260101-000000-abcdef/000001-0.npy"}]}\n{"input": "c", "index": 2, "error": "e"}\n',
            b'{"input": "a", "index": 0, "size": [4, 3], "objects": [{"class": 1, "score": 0, "box": [0, 1, 2, 3]}]}\n'
            b'{"input": "b", "index": 1, "segments": [{"class": 1, "share": 1.0}], "map": {"name": "m", "file": '
            b'"outputs-20260101-000000-abcdef/000001-map.png"}}\n{"input": "c", "index": 2, "embedding": [0, null]}\n',
        ],
        "node_lines": [b'{"event": "result", "changed": true}\n{"ok": {}}\n', b'{"a": [1, 2.5e3, null, "\\u00e9"]}\n'],
        "playbook": [
            b"- hosts: all\n  become: true\n  tasks:\n    - ansible.builtin.command: 'true'\n      when: x == 1\n"
        ],
        "wire": [_spec(), b'{"format": 1, "last": 3, "labels": {"stable": {"version": 2, "before": [1]}}, "sum": ""}'],
        "sums": [b"%s  manifest.json\n%s  model.tflite\n" % (b"a" * 64, b"0" * 64)],
        "serve_camera": [
            b'{"shape": [1, 2, 2, 1], "dtype": "uint8", "model_type": "ssd"}\nabcd',
            b'{"model_request": true, "model_name": "m.tflite"}',
        ],
        "serve_form": [serving.HTTP_SEEDS[11][4]],
        "serve_http": serving.http_seeds(),
        "serve_rpc": serving.rpc_seeds(),
        "reference": [b"digits@stable", b"digits:12", b"digits"],
    }.get(target, [])
    return [path.read_bytes() for path in paths] + more + _arrays(target)


def _spec() -> bytes:
    form = job.InputForm("uint8", (1, 2, 2, 1))
    spec = job.StoredSpec(
        job.ModelFile("m", 1, "/m", "0", form),
        "head",
        (job.Slot("w1", ("0000:01:00.0", None)),),
        None,
        5,
        "/usr/bin/python3",
        job="20260101-000000-abcdef",
        inputs=3,
        folder="/srv/cluster/jobs/20260101-000000-abcdef",
    )
    return json.dumps(spec, default=vars).encode()


def _arrays(target: str) -> list[bytes]:
    import numpy
    from PIL import Image

    values = numpy.arange(8, dtype=numpy.uint8).reshape(2, 2, 2)
    found = []
    if target == "npy":
        for array in (values, values.astype("<f4")):
            numpy.save(file := io.BytesIO(), array)
            found.append(file.getvalue())
    elif target == "npz":
        for save in (numpy.savez, numpy.savez_compressed):
            save(file := io.BytesIO(), a=values, b=values[0])
            found.append(file.getvalue())
    elif target == "wav":
        with wave.open(file := io.BytesIO(), "wb") as sound:
            sound.setparams((2, 2, 16000, 0, "NONE", ""))
            sound.writeframes(bytes(2000))
        found.append(file.getvalue())
    elif target == "tar":
        with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
            for name in ("a.png", "n" * 200 + ".png"):
                info = tarfile.TarInfo(name)
                info.size = 7
                archive.addfile(info, io.BytesIO(b"picture"))
        found.append(file.getvalue())
    elif target == "picture":
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP"):
            Image.fromarray(values[0]).save(file := io.BytesIO(), kind)
            found.append(file.getvalue())
    return found
