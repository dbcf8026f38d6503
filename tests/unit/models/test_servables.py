"""Definitions of servables: what is stored of a good one, and what is said of a wrong one, before anything is sent."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_models
import numpy as np
import pytest
import servable_definitions as definitions
import serve_place as place

from clusteradm.errors import UsageError
from clusteradm.models import servables
from clusteradm.node.spec.servables import tables
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.manifest import MANIFEST, Manifest
from clusteradm.node.spec.wire.repository import AddModel
from clusteradm.node.spec.wire.servables import Lookup

LOOKUP = "kind: lookup\ntable: t.csv\ninputs: [{name: a, datatype: BYTES}]\noutputs: [{name: b, datatype: INT64}]\n"
TRANSFORM = """
kind: transform
inputs: [{name: x, datatype: FP32, shape: [-1, 2]}, {name: t, datatype: BYTES, shape: [-1]}]
features: [FEATURE]
outputs: [y]
"""
PYTHON = "kind: python\nentry_point: e\ninputs: [{name: a, datatype: FP32}]\noutputs: [{name: b, datatype: FP32}]\n"


def write(folder: Path, text: str, **files: bytes) -> Path:
    for each, data in files.items():
        (folder / ".".join(each.rsplit("_", 1))).write_bytes(data)
    path = folder / "one.yml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str, **files: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        servables.prepare(write(folder, text, **files), "one")
    assert caught.value.where
    return str(caught.value.what)


def feature(text: str) -> str:
    return TRANSFORM.replace("FEATURE", "{" + text + ", output: y}")


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_definition_is_a_manifest_and_its_files(tmp_path: Path) -> None:
    upload = servables.prepare(write(tmp_path, definitions.WORDS, words_csv=definitions.WORDS_CSV), "words")
    about = upload.manifest
    assert upload.files == {"words.csv": definitions.WORDS_CSV}
    assert (about.bytes, about.tpu_operations, upload.warnings) == (len(definitions.WORDS_CSV), 0, ())
    again = Manifest.from_json(json.loads(json.dumps(about.to_json())))
    assert again == about
    assert again.servable is not None
    assert (again.servable.kind, again.servable.files) == ("lookup", ("words.csv",))
    assert (again.inputs[0].dtype, again.outputs[0].dtype, again.outputs[0].shape) == ("bytes", "int64", (-1,))
    other = servables.prepare(write(tmp_path, definitions.WORDS.replace("-1", "-2")), "words")
    assert other.manifest.sha256 != about.sha256


def test_the_outputs_of_a_transform_have_types_by_its_features(tmp_path: Path) -> None:
    made = servables.prepare(write(tmp_path, definitions.FEATURES, cities_npy=definitions.cities()), "features")
    assert [(each.name, each.dtype, each.shape) for each in made.manifest.outputs] == [
        ("all", "float32", (-1, 5)),
        ("quantised", "int8", (-1, 5)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "which kind of servable it is: lookup, transform, python, ensemble"),
        ("kind: model\n", "which kind of servable"),
        ("[", "no YAML document"),
        ("kind: lookup\nkind: python\n", "line 2: the key 'kind' is there twice"),
        ("kind: python\nentry_point: !!python/name:os.system\n", "no YAML document"),
        (LOOKUP + "tabel: 3\n", "a lookup has no 'tabel'; did you mean \"table\"?"),
        (LOOKUP.replace("t.csv", "../t.csv"), "table: '../t.csv' does not match"),
        (LOOKUP.replace("t.csv", "/etc/passwd"), "table: '/etc/passwd' does not match"),
        (LOOKUP.replace("t.csv", "t.pkl"), "table: 't.pkl' does not match"),
        (LOOKUP.replace("t.csv", "manifest.json"), "a version has another file that is called manifest.json"),
        (LOOKUP.replace("t.csv", "absent.csv"), "cannot read it: No such file"),
        (LOOKUP.replace("INT64", "INT46"), "'INT46' is no datatype"),
        (LOOKUP.replace("BYTES", "FP32"), "a lookup takes BYTES or whole numbers, not FP32"),
        (LOOKUP.replace("name: a,", "name: a, shape: [0],"), "input a: no shape: [0]"),
        (LOOKUP.replace("{name: a, datatype: BYTES}", "a"), "an entry of inputs is a mapping"),
        (LOOKUP + "default: x\n", "default: 'x' is no int64"),
        (LOOKUP + "key: word\n", "t.csv has no column 'word', but 'cat', '1'"),
        (PYTHON.replace("entry_point: e\n", ""), "entry_point: missing"),
        (PYTHON + "memory: 0\n", "memory: MiB, from 1 to"),
        (PYTHON + "seconds: 0\n", "seconds: seconds, from 0.05 to"),
        (PYTHON.replace("name: b", "name: a2, from: b"), None),
        (feature("op: standardise, input: x"), "feature y: standardise needs mean and std"),
        (feature("op: standardise, input: x, mean: [1, 2, 3], std: 1"), "3 numbers of mean or std for FP32 [-1, 2]"),
        (feature("op: standardise, input: x, mean: 1, std: 0"), "a std is above 0"),
        (feature("op: standardise, input: t, mean: 1, std: 1"), "takes numbers, not BYTES"),
        (feature("op: standardise, input: z, mean: 1, std: 1"), "its input 'z' is neither an input nor a feature"),
        (feature("op: one_hot, input: t"), "one_hot needs values"),
        (feature("op: one_hot, input: t, values: [a, a]"), "a value is there twice"),
        (feature("op: one_hot, input: t, values: [1]"), "value 0: 1 is no text"),
        (feature("op: embedding, input: x, table: n.npy"), "takes the numbers of rows, not FP32"),
        (feature("op: embedding, input: t, table: o.npy"), "o.npy: inputs are numbers; this has the type '|O'"),
        (feature("op: concatenate, inputs: [x, t]"), "x and t cannot be joined"),
        (feature("op: quantise, input: x, scale: 1"), "quantise needs scale and datatype"),
        (feature("op: hash, input: x"), "features[0].op: 'hash' is none of"),
        (TRANSFORM.replace("FEATURE", "{op: concatenate, inputs: [x, x], output: z}"), "output y: there is no 'y'"),
        (
            feature("op: concatenate, inputs: [x, x]").replace("[y]", "[{name: y, datatype: FP32, shape: [-1, 3]}]"),
            "output y is FP32 [-1, 4], not FP32 [-1, 3]",
        ),
    ],
)
def test_a_wrong_definition_says_what_and_where(tmp_path: Path, text: str, said: str | None) -> None:
    files = {"t_csv": b"cat,1\n", "n_npy": npy(np.zeros((2, 2))), "o_npy": npy(np.array([{}], object))}
    if said is None:
        servables.prepare(write(tmp_path, text, **files), "one")
    else:
        assert said in refused(tmp_path, text, **files)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t.csv", b"a,1\na,2\n", "t.csv, line 2: 'a' is there already"),
        ("t.csv", b"a\n", "line 1: it has 1 columns"),
        ("t.csv", b"a,x\n", "line 1: 'x' is no int8"),
        ("t.csv", b"a,300\n", "line 1: '300' is out of the range of int8"),
        ("t.csv", b'a,"1\n', "no CSV"),
        ("t.csv", b"\xff,1\n", "is no text in UTF-8: byte 0"),
        ("t.csv", b"", "has no entry"),
        ("t.csv", b"a," + b"9" * 200000, "no CSV"),
        ("t.json", b"3", "neither an object nor a list"),
        ("t.json", b"[" * 100000, "not a JSON document"),
        ("t.json", b'{"a": 1.5}', "key 'a': 1.5 is no int8"),
        ("t.json", b'{"a": true}', "key 'a': True is no int8"),
        ("t.json", b'["a", 3]', "entry 1: 3 is no text"),
        ("t.txt", b"a\nb\na\n", "line 3: 'a' is there already"),
    ],
)
def test_a_wrong_table_says_what_and_where(name: str, data: bytes, said: str) -> None:
    with pytest.raises(Problem) as caught:
        tables.read(Lookup(name), data, "bytes", "int8")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "key", "value", "found"),
    [
        ("t.txt", b"a\nb\n", "bytes", "int32", {b"a": 0, b"b": 1}),
        ("t.txt", b"a\nb\n", "int32", "bytes", {0: b"a", 1: b"b"}),
        ("t.json", b'{"1": 0.5}', "int32", "float32", {1: 0.5}),
        ("t.json", b'{"a": "b"}', "bytes", "bytes", {b"a": b"b"}),
        ("t.csv", b"\xef\xbb\xbfa,true\n\nb,0\n", "bytes", "bool", {b"a": True, b"b": False}),
    ],
)
def test_tables(name: str, data: bytes, key: str, value: str, found: dict[Any, Any]) -> None:
    assert tables.read(Lookup(name), data, key, value) == found


ENSEMBLE = """
kind: ensemble
inputs: [{name: picture, datatype: BYTES, shape: [1]}]
steps:
  - {name: one, model: shades, inputs: {in: picture}}
outputs: [{name: out, from: one.out}]
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("place") / "shared"
    path.mkdir()
    definitions.deploy_all(path, tmp_path_factory.mktemp("files"))
    return path


@pytest.fixture
def shared(stored: Path, tmp_path: Path) -> Path:
    shutil.copytree(stored, tmp_path / "shared")
    return tmp_path / "shared"


def changed(before: str, after: str) -> Callable[[str], str]:
    return lambda text: text.replace(before, after)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("model: shades", "model: absent"), "step one: there is no model absent"),
        (changed("model: shades", "model: one"), "step one: it would be a member of itself: one -> one"),
        (changed("{in: picture}", "{}"), "step one: the input in of shades gets nothing"),
        (changed("{in: picture}", "{'on': picture}"), "step one: shades has no input 'on'; it has in"),
        (changed("{in: picture}", "{on: picture}"), "line 5: the key 'on' is no text: put it in quotes"),
        (changed("in: picture", "in: other"), "step one: its input in comes from 'other', which is not there yet"),
        (changed("in: picture", "in: one.out"), "comes from 'one.out', which is not there yet"),
        (changed("one.out", "one.outs"), "output out: there is no 'one.outs'"),
        (
            changed("BYTES, shape: [1]", "INT32, shape: [1, 16, 16, 3]"),
            "its input in is UINT8 [1, 16, 16, 3], and gets INT32",
        ),
        (
            changed("BYTES, shape: [1]", "UINT8, shape: [1, 8, 16, 3]"),
            "its input in is UINT8 [1, 16, 16, 3], and gets UINT8",
        ),
        (
            changed("model: shades, inputs: {in: picture}", "op: crop, inputs: {picture: picture}"),
            "step one: crop needs size",
        ),
        (changed("model: shades, ", ""), "steps[0]: a step has either op or model"),
        (
            changed("from: one.out", "from: one.out, datatype: UINT8, shape: [1, 3]"),
            "output out is FP32 [1, 3], not UINT8 [1, 3]",
        ),
    ],
)
def test_a_wrong_ensemble_names_the_step(shared: Path, change: Callable[[str], str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        place.define(shared, "one", change(ENSEMBLE))
    assert said in str(caught.value)


def test_a_circle_of_ensembles_is_found(shared: Path) -> None:
    place.define(shared, "one", ENSEMBLE)
    two = ENSEMBLE.replace("model: shades", "model: one").replace("{in:", "{picture:")
    place.define(shared, "two", two)
    with pytest.raises(UsageError) as caught:
        place.define(shared, "one", two.replace("model: one", "model: two"), 2)
    assert "step one: it would be a member of itself: one -> two -> one" in str(caught.value)
    for number in range(3, 5):
        place.define(shared, f"n{number}", two.replace("model: one", f"model: {'two' if number == 3 else 'n3'}"))
    with pytest.raises(UsageError) as caught:
        place.define(shared, "n5", two.replace("model: one", "model: n4"))
    assert "more than 4 deep" in str(caught.value)


def test_the_outputs_of_an_ensemble_have_types_by_its_members(shared: Path) -> None:
    about = Manifest.from_json(json.loads((shared / "models" / "look" / "1" / MANIFEST).read_text()))
    assert {each.name: (each.dtype, each.shape) for each in about.outputs} == {
        "boxes": ("float32", (-1, 4)),
        "scores": ("float32", (-1,)),
        "shades": ("float32", (-1, 3)),
        "top": ("int32", (-1, 2)),
        "labels": ("bytes", (-1,)),
        "names": ("bytes", (-1,)),
    }


@pytest.mark.parametrize("name", ["../x.csv", ".x.csv", "x/y.csv", "x.py", "x.pkl", MANIFEST, "SHA256SUMS", "-x.csv\n"])
def test_no_file_of_a_version_leaves_its_folder(name: str) -> None:
    with pytest.raises(WireError):
        decode(AddModel, {"shared": "/s", "name": "x", "version": 1, "files": {name: "0"}, "manifest": _plain()})


def _plain() -> dict[str, Any]:
    python = {"kind": "python", "python": {"entry_point": "e"}}
    about = {"manifest_version": 1, "name": "x", "sha256": "", "bytes": 0, "labels": None, "labels_sha256": None}
    rest = {"tpu_operations": 0, "cpu_operations": {}, "min_runtime": None, "compiler": None, "cached_bytes": 0}
    return {**about, **rest, "streamed_bytes": 0, "description": "", "inputs": [], "outputs": [], "servable": python}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "python"},
        {"kind": "python", "python": {"entry_point": "e"}, "lookup": {"table": "t.csv"}},
        {"kind": "lookup", "python": {"entry_point": "e"}},
        {"kind": "lookup", "lookup": {"table": "../t.csv"}},
        {"kind": "python", "python": {"entry_point": "a b"}},
        {"kind": "ensemble", "steps": [{"name": "a", "inputs": {}, "model": "../x"}]},
        {"kind": "ensemble", "steps": [{"name": "a", "inputs": {}, "model": "x", "op": "crop"}]},
        {"kind": "ensemble", "steps": [{"name": "a", "inputs": {}, "op": "crop", "size": [1, 99999]}]},
        {"kind": "ensemble", "steps": [{"name": "a", "inputs": {}, "model": "x"}] * 33},
    ],
)
def test_a_manifest_that_was_not_made_by_deploy_model_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        Manifest.from_json({**_plain(), "servable": wrong})


def test_a_model_stays_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(made_models.colours())
    folder = place.deploy(tmp_path / "shared", "m", 1, tmp_path / "m.tflite")
    assert "servable" not in json.loads((folder / MANIFEST).read_text())
