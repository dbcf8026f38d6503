"""Label files that are documents: JSON, YAML, CSV, and the label maps of TensorFlow's object detection (.pbtxt).

What is of these by its name or its beginning, but of no form that is known here, is refused by name.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from clusteradm.inventory import yaml_text

# Keys under which a document of more than labels has these: of Ultralytics' and darknet's metadata, of configurations
# of Hugging Face's models, of annotations of COCO.
_HOLDERS = ("names", "labels", "classes", "class_names", "id2label", "label2id", "label_map", "categories")
_NUMBER_COLUMNS = ("id", "index", "idx", "class_id", "class_index", "class_idx", "label_id", "category_id", "number")
_NAME_COLUMNS = ("display_name", "class_name", "label_name", "name", "label", "class", "category", "title")
# Suffixes of files that people take for label files, and what these are.
_OTHERS = {
    ".xml": "XML",
    ".html": "HTML",
    ".ini": "an INI file",
    ".toml": "TOML",
    ".pkl": "a pickle",
    ".pickle": "a pickle",
    ".npy": "a NumPy array",
    ".xlsx": "a spreadsheet",
    ".jsonl": "JSON Lines",
    ".tflite": "a model",
}
_MOST_DIGITS = 9


class Unknown(Exception):
    """The form of the labels is not known, or they do not fit; the text says which."""


class LabelMap(dict[int, str]):
    """Labels by the ids of a label map, which count from 1."""


def read(text: str, suffix: str) -> tuple[str, ...] | dict[int, str] | None:
    """Labels in the order of the classes, or by number; None where the text is no document but plain lines.

    `suffix`: the file's, as ".json". Raises Unknown.
    """
    start = text.lstrip()[:200]
    if suffix in _OTHERS:
        raise Unknown(f"labels are not read from {_OTHERS[suffix]}")
    if start.startswith(("<?xml", "<!DOCTYPE", "<html", "<annotation")):
        raise Unknown("labels are not read from XML or HTML")
    if suffix in (".pbtxt", ".prototxt") or re.match(r"(#.*\n\s*)*item\s*:?\s*\{", start):
        return _label_map(text)
    if suffix == ".json" or start.startswith("{"):
        return _meaning(_json(text) if suffix == ".json" else _json_or_yaml(text))
    if suffix in (".yaml", ".yml") or re.search(r"^names:\s*($|[\[{#])", text, re.MULTILINE):
        return _meaning(_yaml(text))
    if start.startswith("["):
        try:
            return _meaning(_json_or_yaml(text))
        except Unknown:
            return None  # the first of many lines: "[background]"
    if suffix in (".csv", ".tsv") or _columns(re.split(r"[,;\t]", start.splitlines()[0] if start else "")):
        return _csv(text)
    return None


def _json_or_yaml(text: str) -> Any:
    """JSON, or what Python writes of a dictionary, which is read as YAML: {'names': {0: 'person'}}."""
    try:
        return _json(text)
    except Unknown:
        try:
            return _yaml(text)
        except Unknown:
            raise Unknown("it begins like JSON but is no JSON document") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Unknown(f"no JSON document: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise Unknown(f"it has {twice[:100]!r} twice")
    return found


def _yaml(text: str) -> Any:
    """The document with every scalar as text: "no" and "on" are labels."""
    try:
        yaml_text.check_text(text)
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if root is None:
            return []
        yaml_text.check_nodes(root)
        return _plain(root)
    except (yaml.YAMLError, yaml_text.Refused, RecursionError, ValueError) as error:
        raise Unknown("no YAML document: " + " ".join(str(error).split())[:300]) from None


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _object([(str(_plain(key)), _plain(value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return [_plain(one) for one in node.value]
    return node.value


def _meaning(document: Any) -> tuple[str, ...] | dict[int, str]:
    """The labels in a document of lists and objects. Raises Unknown."""
    if isinstance(document, Mapping):
        for key in _HOLDERS:
            if isinstance(document.get(key), (list, dict)):
                return _meaning(document[key])
        return _by_key(document)
    if not isinstance(document, list):
        raise Unknown("a document without labels: neither a list nor an object")
    if not any(isinstance(one, (list, Mapping)) for one in document):
        return tuple(_label(one) for one in document)
    if all(isinstance(one, Mapping) for one in document):
        rows = [{str(key).lower(): value for key, value in one.items()} for one in document]
        return _rows(list(rows[0]), [[row.get(column) for column in rows[0]] for row in rows])
    raise Unknown("its list has lists in it: a form of labels that is not known")


def _by_key(document: Mapping[str, Any]) -> dict[int, str]:
    """Labels of an object {number: label} or {label: number}."""
    keys, values = list(document), list(document.values())
    if keys and all(_number(key) is not None for key in keys):
        if all(_number(value) is not None for value in values):
            raise Unknown("its keys and its values are numbers: which are the labels?")
        return _distinct((key, _label(value[-1] if _is_pair(value) else value)) for key, value in document.items())
    if keys and all(_number(value) is not None for value in values):
        return _distinct((value, key) for key, value in document.items())
    raise Unknown(f"an object of no form that is known: its first key is {keys[0][:100]!r}" if keys else "it is empty")


def _is_pair(value: Any) -> bool:
    """Whether it is ["n01440764", "tench"], as in Keras' imagenet_class_index.json."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value)


def _distinct(pairs: Any) -> dict[int, str]:
    found: dict[int, str] = {}
    for key, label in pairs:
        number = _number(key)
        if number is None:
            raise Unknown(f"{str(key)[:100]!r} is no number of a class")
        if number in found:
            raise Unknown(f"it has two labels of class {number}")
        found[number] = label
    return found


def _number(value: Any) -> int | None:
    """A class's number, of a whole number or its digits."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return int(text) if re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text) else None


def _label(value: Any) -> str:
    """A label. One with an end of line would be two in labels.txt."""
    if isinstance(value, (list, Mapping)):
        raise Unknown("a label in it is a list or an object: a form of labels that is not known")
    return "" if value is None else re.sub(r"[\r\n]+", " ", str(value)).strip()


def _csv(text: str) -> tuple[str, ...] | dict[int, str]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in first), ",")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise Unknown(f"no CSV file: {error}") from None
    if not rows:
        return ()
    header = [cell.strip().lower() for cell in rows[0]]
    if any(len(row) != len(header) for row in rows):
        raise Unknown(f"a CSV file whose lines have not the same number of columns; the first has {len(header)}")
    if _columns(header):
        return _rows(header, rows[1:])
    if len(header) == 1:
        return tuple(_label(row[0]) for row in rows)
    if len(header) == 2 and all(_number(row[0]) is not None for row in rows):
        return _distinct((row[0], _label(row[1])) for row in rows)
    if len(header) == 2 and all(_number(row[1]) is not None for row in rows):
        return _distinct((row[1], _label(row[0])) for row in rows)
    raise Unknown(f"a CSV file whose columns are not known: {', '.join(rows[0])[:200]}; name them id,name")


def _columns(header: Sequence[str]) -> bool:
    """Whether the cells name a column of labels, and nothing else than columns."""
    cells = [cell.strip().strip('"').lower() for cell in header]
    known = [cell for cell in cells if cell in (*_NUMBER_COLUMNS, *_NAME_COLUMNS)]
    return len(known) > 1 or (len(cells) == 2 and cells[0] == "" and cells[1] in _NAME_COLUMNS)


def _rows(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[str, ...] | dict[int, str]:
    """Labels of a table, by its column of numbers where it has one."""
    names = [column for column in _NAME_COLUMNS if column in header]
    numbers = [column for column in ("", *_NUMBER_COLUMNS, "class", "label", "category") if column in header]
    numbers = [column for column in numbers if all(_number(row[header.index(column)]) is not None for row in rows)]
    name = next((column for column in names if column not in numbers[:1]), None)
    if name is None:
        raise Unknown(f"a table without a column of labels: {', '.join(map(str, header))[:200]}; name it name")
    at = header.index(name)
    if numbers:
        return _distinct((row[header.index(numbers[0])], _label(row[at])) for row in rows)
    return tuple(_label(row[at]) for row in rows)


_ITEM = re.compile(r"item\s{0,20}:?\s{0,20}\{([^{}]*)\}")
_FIELD = re.compile(r"""\b(\w{1,50})\s{0,20}:\s{0,20}("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[\w.+-]+)""")


def _label_map(text: str) -> LabelMap:
    """A label map: item { id: 1 name: "/m/01g317" display_name: "person" } ..."""
    text = re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE)
    if _ITEM.sub("", text).strip(" \t\r\n,;"):
        raise Unknown("no label map: it has more than items of id, name and display_name")
    found = LabelMap()
    for item in _ITEM.finditer(text):
        fields = dict(_FIELD.findall(item[1]))
        label = _unquoted(fields.get("display_name") or fields.get("name") or "")
        for number, name in _distinct([(fields.get("id", ""), label)]).items():
            if number in found:
                raise Unknown(f"it has two labels of id {number}")
            found[number] = name
    if not found:
        raise Unknown("a label map without an item")
    return found


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]).strip() if text[:1] in ("'", '"') else text
