"""Servables of other kinds than models, read from a YAML file: lookup, transform, Python function, ensemble."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.inventory import yaml_text
from clusteradm.models.manifest import check_name
from clusteradm.models.upload import MOST_MANIFEST, Upload
from clusteradm.nearest import nearest
from clusteradm.node.spec import npy
from clusteradm.node.spec.datatypes import BYTES, DATATYPES, dtype_of
from clusteradm.node.spec.servables import tables, transforms
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.servables.transforms import described
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.manifest import FORMAT, LABELS, MANIFEST, Manifest, Tensor
from clusteradm.node.spec.wire.servables import (
    ENSEMBLE,
    KINDS,
    LOOKUP,
    PYTHON,
    TRANSFORM,
    Feature,
    Lookup,
    PythonFunction,
    Servable,
    Step,
)

SUFFIXES = (".yml", ".yaml")
_MOST_ARRAY = 512 << 20
_COMMON = ("kind", "description", "inputs", "outputs")
_TENSOR = ("name", "datatype", "shape", "from")
# The keys of the file that belong to each kind.
_OWN = {
    LOOKUP: tuple(each.name for each in fields(Lookup)),
    TRANSFORM: ("features",),
    PYTHON: tuple(each.name for each in fields(PythonFunction)),
    ENSEMBLE: ("steps",),
}
_FEATURE = (*(each.name for each in fields(Feature) if each.name != "dtype"), "input", "datatype")
_STEP = tuple(each.name for each in fields(Step))


def is_definition(path: str) -> bool:
    """Whether a file is the definition of such a servable, by its name."""
    return path.endswith(SUFFIXES)


def prepare(path: Path, name: str) -> Upload:
    """Read and check the definition of a servable, and the files that it names; no connection is made. An ensemble's
    members are not looked at yet: `members.complete`. Raises UsageError."""
    check_name(name)
    where = regular.readable(path)
    document = _document(path, where)
    try:
        servable, inputs, outputs, description = _read(document)
        for each in servable.files:
            if each in (MANIFEST, LABELS):
                raise Problem(f"a version has another file that is called {each}: rename the table")
        files = {each: _file(path.parent / each) for each in servable.files}
        made = _types(servable, inputs, outputs, files)
    except Problem as problem:
        raise UsageError(str(problem), where=where) from None
    return built(name, servable, inputs, made, files, description, where)


def built(
    name: str,
    servable: Servable,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    files: Mapping[str, bytes],
    description: str,
    where: str,
) -> Upload:
    """The servable, ready to be stored. Raises UsageError where it is too large to be described."""
    definition = json.dumps([servable, inputs, outputs], sort_keys=True, default=vars)
    manifest = Manifest(
        manifest_version=FORMAT,
        name=name,
        sha256=hashlib.sha256(definition.encode()).hexdigest(),
        bytes=sum(map(len, files.values())),
        labels=None,
        labels_sha256=None,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        tpu_operations=0,
        cpu_operations={},
        min_runtime=None,
        compiler=None,
        cached_bytes=0,
        streamed_bytes=0,
        description=description,
        servable=servable,
    )
    size = len(json.dumps(manifest.to_json(), indent=2))
    if size > MOST_MANIFEST:
        raise UsageError(
            f"it takes {size:,} bytes to describe, more than {MOST_MANIFEST:,}",
            where=where,
            next_step="put what is long into a file: a table of a lookup",
        )
    return Upload(manifest, None, None, dict(files), ())


def declared(made: Sequence[Tensor], said: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs: as they come out, or as the file says where it says so. Raises Problem where these do not agree."""
    found = []
    for one, other in zip(made, said, strict=True):
        if not other.dtype:
            found.append(one)
            continue
        fits = len(one.shape) == len(other.shape) and all(
            -1 in pair or pair[0] == pair[1] for pair in zip(one.shape, other.shape, strict=True)
        )
        if one.dtype != other.dtype or not fits:
            raise Problem(f"output {one.name} is {described(one)}, not {described(other)}")
        found.append(other)
    return tuple(found)


def _document(path: Path, where: str) -> dict[str, Any]:
    try:
        text = yaml_text.read_text(path)
        yaml_text.check_text(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            yaml_text.check_nodes(root)
            _check_keys(root)
        document = yaml.load(io.StringIO(text), Loader=yaml.SafeLoader)
        json.dumps(document, allow_nan=False)
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=where) from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise UsageError("no YAML document: " + " ".join(str(error).split())[:300], where=where) from None
    if not isinstance(document, dict) or document.get("kind") not in KINDS:
        raise UsageError(
            f"it does not say which kind of servable it is: {', '.join(KINDS)}",
            where=where,
            next_step=f"for instance: kind: {LOOKUP}",
        )
    return document


def _check_keys(node: yaml.Node) -> None:
    """Raise Refused for a key that is there twice, or is no text."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str" or key.value in seen:
                line = key.start_mark.line + 1
                text = (
                    "is there twice"
                    if isinstance(key, yaml.ScalarNode) and key.value in seen
                    else "is no text: put it in quotes"
                )
                raise yaml_text.Refused(f"line {line}: the key {str(key.value)[:60]!r} {text}", line)
            seen.add(key.value)
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _check_keys(each)


def _read(document: Mapping[str, Any]) -> tuple[Servable, tuple[Tensor, ...], tuple[Tensor, ...], str]:
    """Definition, inputs, outputs, and what it is in words. Raises Problem."""
    kind = str(document["kind"])
    _known(document, (*_COMMON, *_OWN[kind]), f"a {kind}")
    own: dict[str, Any] = {each: document[each] for each in _OWN[kind] if each in document}
    if kind in (LOOKUP, PYTHON):
        own = {kind: own}
    elif kind == TRANSFORM:
        own["features"] = [_feature(each) for each in _list(own, "features")]
    else:
        for each in _list(own, "steps"):
            _known(each, _STEP, "a step")
    inputs = _tensors(document, "inputs", typed=True)
    transforms.check_tensors(inputs, "input")
    outputs = _tensors(document, "outputs", typed=kind in (LOOKUP, PYTHON))
    if kind in (TRANSFORM, ENSEMBLE):
        own["results"] = {one.name: _source(each) for one, each in zip(outputs, document["outputs"], strict=True)}
        if len(own["results"]) < len(outputs):
            raise Problem("two outputs have the same name")
    else:
        transforms.check_tensors(outputs, "output")
    description = document.get("description", "")
    if not isinstance(description, str) or len(description) > 1000:
        raise Problem("description is a text of at most 1000 characters")
    try:
        servable = decode(Servable, {"kind": kind, **own})
    except WireError as error:
        raise Problem(str(error).removeprefix(f"{kind}.")) from None
    return servable, inputs, outputs, description


def _known(value: Any, keys: Sequence[str], what: str) -> None:
    if not isinstance(value, dict):
        raise Problem(f"{what} is a mapping of {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise Problem(f"{what} has no {key[:60]!r}{nearest(key[:60], keys)}")


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list) or not found:
        raise Problem(f"{key} is a list of at least one")
    return found


def _feature(given: Any) -> dict[str, Any]:
    _known(given, _FEATURE, "a feature")
    found = dict(given)
    if "input" in found:
        if "inputs" in found:
            raise Problem("a feature has either input or inputs")
        found["inputs"] = [found.pop("input")]
    for name in ("mean", "std"):
        if name in found and not isinstance(found[name], list):
            found[name] = [found[name]]
    if "datatype" in found:
        found["dtype"] = _dtype(found.pop("datatype"))
    return found


def _tensors(document: Mapping[str, Any], key: str, *, typed: bool) -> tuple[Tensor, ...]:
    """Inputs or outputs; with the type "" where none is said, which may be if it is not `typed`."""
    found = []
    for each in _list(document, key):
        if isinstance(each, str) and not typed:
            found.append(Tensor(each, (), ""))
            continue
        _known(each, _TENSOR, f"an entry of {key}")
        name, shape = each.get("name"), each.get("shape", [-1])
        if not isinstance(name, str):
            raise Problem(f"an entry of {key} has no name")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise Problem(f"{name}: shape is a list of whole numbers, -1 for what a request chooses")
        if "datatype" not in each and (typed or "shape" in each):
            raise Problem(f"{name}: no datatype: {', '.join([*DATATYPES, BYTES])}")
        dtype = _dtype(each["datatype"]) if "datatype" in each else ""
        found.append(Tensor(name, tuple(shape), dtype))
    return tuple(found)


def _source(output: Any) -> str:
    """Where an output comes from, as it is written: by its own name where nothing else is said."""
    source = output if isinstance(output, str) else output.get("from", output["name"])
    if not isinstance(source, str):
        raise Problem("from is the name of an input, of a feature, or STEP.OUTPUT")
    return source


def _dtype(datatype: Any) -> str:
    kinds = [*DATATYPES, BYTES]
    if not isinstance(datatype, str) or datatype not in kinds:
        raise Problem(f"{str(datatype)[:30]!r} is no datatype: {', '.join(kinds)}{nearest(str(datatype)[:30], kinds)}")
    return dtype_of(datatype)


def _file(path: Path) -> bytes:
    return regular.read(path, _MOST_ARRAY if path.suffix == ".npy" else tables.MOST_BYTES)


def _types(
    servable: Servable, inputs: Sequence[Tensor], outputs: Sequence[Tensor], files: Mapping[str, bytes]
) -> tuple[Tensor, ...]:
    """The outputs, of what is known without the cluster. Raises Problem."""
    if servable.lookup is not None:
        made = transforms.lookup(servable.lookup, inputs, outputs)
        tables.read(servable.lookup, files[servable.lookup.table], inputs[0].dtype, outputs[0].dtype)
        return declared(made, outputs)
    if servable.kind == TRANSFORM:
        return declared(transforms.transform(servable, inputs, _arrays(files)), outputs)
    return tuple(outputs)


def _arrays(files: Mapping[str, bytes]) -> transforms.Arrays:
    found = {}
    for name, data in files.items():
        try:
            array = npy.header(io.BytesIO(data), len(data))
        except npy.Unusable as error:
            raise Problem(f"{name}: {str(error).partition(': ')[2] or error}") from None
        if array.code.startswith(">"):
            raise Problem(f"{name}: its numbers are the other way round: save it with numpy.save on a usual machine")
        found[name] = (array.dtype, array.shape)
    return found


def retyped(upload: Upload, outputs: Sequence[Tensor], where: str) -> Upload:
    """The same servable, with outputs that are known now."""
    about = upload.manifest
    assert about.servable is not None  # noqa: S101 - of an ensemble
    again = built(about.name, about.servable, about.inputs, outputs, upload.files, about.description, where)
    return replace(again, warnings=upload.warnings)
