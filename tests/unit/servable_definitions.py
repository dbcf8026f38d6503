"""Definitions of servables for tests, and a package with entry points."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import made_models
import numpy as np
import serve_place as place
from ai_edge_litert import schema_py_generated as schema
from graphs import End, Step, build
from PIL import Image

from clusteradm.node.spec.wire.manifest import MANIFEST

WORDS = """
kind: lookup
table: words.csv
key: word
value: number
default: -1
inputs: [{name: word, datatype: BYTES}]
outputs: [{name: number, datatype: INT64}]
"""
WORDS_CSV = b"number,word\n7,cat\n9,dog\n"
NAMES = """
kind: lookup
table: names.json
inputs: [{name: class, datatype: INT32, shape: [-1]}]
outputs: [{name: name, datatype: BYTES, shape: [-1]}]
"""
NAMES_JSON = b'["red one", "green one", "blue one"]'
FEATURES = """
kind: transform
inputs:
  - {name: age, datatype: FP32, shape: [-1, 1]}
  - {name: colour, datatype: BYTES, shape: [-1]}
  - {name: city, datatype: INT64, shape: [-1]}
features:
  - {op: standardise, input: age, output: age_std, mean: 40, std: 10}
  - {op: one_hot, input: colour, output: colour_hot, values: [red, green], unknown: zeros}
  - {op: embedding, input: city, output: city_row, table: cities.npy}
  - {op: concatenate, inputs: [age_std, colour_hot, city_row], output: all}
  - {op: quantise, input: all, output: small, scale: 0.5, zero_point: 3, datatype: INT8}
outputs: [all, {name: quantised, from: small, datatype: INT8, shape: [-1, 5]}]
"""
DOUBLE = """
kind: python
entry_point: double
parameters: {factor: 2}
seconds: 2
inputs: [{name: x, datatype: FP32, shape: [-1]}]
outputs: [{name: y, datatype: FP32, shape: [-1]}, {name: text, datatype: BYTES, shape: [1]}]
"""
# A picture: the things in it, and of each part that a thing is in, which colour it mostly has.
LOOK = """
kind: ensemble
inputs: [{name: picture, datatype: BYTES, shape: [1]}]
steps:
  - {name: decoded, op: decode, inputs: {data: picture}}
  - {name: small, op: resize, inputs: {picture: decoded.picture}, size: [32, 32]}
  - {name: found, model: colours, inputs: {COLOURS: small.picture}}
  - {name: good, op: threshold, inputs: {scores: found.scores, boxes: found.boxes}, least: 0.1, most: 2}
  - {name: parts, op: crop, inputs: {picture: decoded.picture, boxes: good.boxes}, size: [16, 16], most: 4}
  - {name: shade, model: "shades@stable", inputs: {in: parts.picture}}
  - {name: best, op: top_k, inputs: {scores: shade.out}, most: 2}
  - {name: named, model: names, inputs: {class: shade.classes}}
outputs:
  - {name: boxes, from: good.boxes}
  - {name: scores, from: good.scores}
  - {name: shades, from: shade.out}
  - {name: top, from: best.indices}
  - {name: labels, from: shade.labels}
  - {name: names, from: named.name}
"""
PACKAGE = """
import os, time
import numpy


class Double:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, inputs):
        x = inputs["x"]
        if len(x) and x[0] == -1:
            raise ValueError("no negative numbers")
        if len(x) and x[0] == -2:
            os._exit(7)
        if len(x) and x[0] == -3:
            time.sleep(600)
        if len(x) and x[0] == -4:
            raise KeyError("a defect")
        if len(x) and x[0] == -5:
            bytearray(4 << 30)
        if len(x) and x[0] == -6:
            if os.fork() == 0:
                time.sleep(600)
            os._exit(7)
        if len(x) and x[0] == -7:
            os.closerange(3, 100)
        print("printed, and no line of the access log")
        return {"y": x * self.factor, "text": ["pid %d" % os.getpid()]}


def wrong(inputs):
    return {"z": 1}


NUMBER = 5
"""


def package(folder: Path) -> Path:
    """Installed as pip installs a wheel."""
    folder.mkdir()
    (folder / "doubling.py").write_text(PACKAGE)
    about = folder / "doubling-1.0.dist-info"
    about.mkdir()
    (about / "entry_points.txt").write_text(
        "[console_scripts]\ndoubling = doubling:main\n\n"
        "[clusteradm.servables]\ndouble = doubling:Double\nwrong = doubling:wrong\nabsent = doubling:Nothing\n"
        "number = doubling:NUMBER\n"
    )
    return folder


def wheel(folder: Path) -> Path:
    """The same as a wheel."""
    path = folder / "doubling-1.0-py3-none-any.whl"
    installed = package(folder / "unpacked")
    about = "doubling-1.0.dist-info"
    (installed / about / "METADATA").write_text("Metadata-Version: 2.1\nName: doubling\nVersion: 1.0\n")
    (installed / about / "WHEEL").write_text(
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    (installed / about / "RECORD").write_text("")
    with zipfile.ZipFile(path, "w") as archive:
        for each in sorted(installed.rglob("*")):
            if each.is_file():
                archive.write(each, each.relative_to(installed))
    return path


def cities() -> bytes:
    """Two rows of two numbers."""
    file = io.BytesIO()
    np.save(file, np.array([[1, 2], [3, 4]], np.float32))
    return file.getvalue()


def picture(left: str = "red", right: str = "blue", size: int = 40) -> bytes:
    """PNG, the left half in one colour, the right one in another."""
    image = Image.new("RGB", (size, size), left)
    image.paste(right, (size // 2, 0, size, size))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def shades(side: int = 16) -> bytes:
    """A classifier of colours: the mean of each channel, uint8."""
    options = schema.ReducerOptionsT()
    options.keepDims = False
    axes = np.array([1, 2], np.int32).tobytes()
    tensors = [
        End((1, side, side, 3), "uint8", 1 / 255, 0, "in"),
        End((2,), "int32", None, 0, "axes", data=axes),
        End((1, 3), "uint8", 1 / 255, 0, "out"),
    ]
    return build(tensors, [Step("MEAN", (0, 1), (2,), options=("ReducerOptions", options))], (0,), (2,))


def look(colours: str) -> str:
    """LOOK, with the name of the detector's input."""
    return LOOK.replace("COLOURS", json.dumps(colours))


def deploy_all(shared: Path, folder: Path) -> None:
    """All of them into a repository, with the models that LOOK is of."""
    (folder / "colours.tflite").write_bytes(made_models.colours())
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "shades.tflite").write_bytes(shades())
    colours = place.deploy(shared, "colours", 1, folder / "colours.tflite", folder / "labels.txt")
    place.deploy(shared, "shades", 1, folder / "shades.tflite", folder / "labels.txt")
    place.label(shared, "shades", {"stable": 1})
    place.define(shared, "words", WORDS, words_csv=WORDS_CSV)
    place.define(shared, "names", NAMES, names_json=NAMES_JSON)
    place.define(shared, "features", FEATURES, cities_npy=cities())
    place.define(shared, "double", DOUBLE)
    (name,) = (each["name"] for each in json.loads((colours / MANIFEST).read_text())["inputs"])
    place.define(shared, "look", look(name))
