"""Label files in the forms that people have them in: each is read as it was meant, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clusteradm.errors import UsageError
from clusteradm.models.labels import parse, render

MONEY = "1 dollar\n2 dollar\n5 dollar\n10 dollar\n20 dollar\n50 dollar\n100 dollar\n"
CRANES = "0 crane\n1 crane\n" + "".join(f"{n} bird of kind {n}\n" for n in range(2, 40))
PBTXT = "".join(f"item {{\n  id: {n}\n  name: '{name}'\n}}\n" for n, name in ((1, "cat"), (2, "dog"), (3, "bird")))
ULTRALYTICS = "{'stride': 32, 'imgsz': [640, 640], 'names': {0: 'person', 1: \"cat's\", 2: 'car'}, 'half': False}"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("0 cat\n2 dog\n", ("cat", "", "dog")),
        ("0: cat\n1: dog", ("cat", "dog")),
        ("\ufeffcat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("0\n1\n2\n", ("0", "1", "2")),  # digits are labels, too
        ("7 up\n", ("7 up",)),
        ("3 musketeers\n2 towers\n", ("3 musketeers", "2 towers")),  # numbers that do not rise are words
        ("person\n\nbicycle\n", ("person", "", "bicycle")),
        ("", ()),
        ("\n \n", ()),
        ("2 bird\n0 cat\n1 dog\n", ("cat", "dog", "bird")),
        (MONEY, tuple(MONEY.splitlines())),
        ("1 euro\n2 euro\n50 cent\n", ("1 euro", "2 euro", "50 cent")),
        ("0 license_plate\n", ("license_plate",)),
        ("a\u2028b\n\x0cc\x85d\n", ("a\u2028b", "c\x85d")),  # no ends of lines
        ("cat\rdog\r", ("cat", "dog")),
        ("crane\ncrane\n", ("crane", "crane")),  # ImageNet has two
    ],
)
def test_parse(text: str, labels: tuple[str, ...]) -> None:
    assert parse(text) == labels


def test_what_is_rendered_is_read_back() -> None:
    labels = ("cat", "", "great white shark, white shark")
    assert parse(render(labels).decode()) == labels


@pytest.mark.parametrize(
    ("text", "where", "classes", "labels"),
    [
        (MONEY, "l.txt", 7, tuple(MONEY.splitlines())),
        (
            "1 dollar bill\n2 dollar bill\n5 cent\n10 cent\n",
            "l.txt",
            4,
            ("1 dollar bill", "2 dollar bill", "5 cent", "10 cent"),
        ),
        # What would leave equal labels is a part of them; where they all differ, it is a number.
        ("0 euro\n1 euro coin\n2 euro coin\n", "l.txt", 3, ("0 euro", "1 euro coin", "2 euro coin")),
        ("0 items\n1 item\n2 items\n", "l.txt", 3, ("0 items", "1 item", "2 items")),
        ("0 items\n1 item\n2 items\n", "l.txt", None, ("0 items", "1 item", "2 items")),
        ("1 euro\n2 euro coin\n3 euro coin\n", "l.txt", 3, ("1 euro", "2 euro coin", "3 euro coin")),
        ("1 euro\n2 coins\n3 coins\n", "l.txt", 4, ("", "1 euro", "2 coins", "3 coins")),
        ("0: crane\n1: tench\n2: crane\n", "l.txt", 3, ("crane", "tench", "crane")),
        ("0  crane\n1  tench\n2  crane\n", "l.txt", 3, ("crane", "tench", "crane")),
        (CRANES, "l.txt", 40, ("crane", "crane", *(f"bird of kind {n}" for n in range(2, 40)))),
        ("1 cent\n2 euro\n3 pound\n", "l.txt", 3, ("cent", "euro", "pound")),
        ("2 bird\n0 cat\n1 dog\n", "l.txt", 3, ("cat", "dog", "bird")),
        ("2: bird\n0:cat\n1 :dog\n", "l.txt", 3, ("cat", "dog", "bird")),
        ("1,dog\n0,cat\n", "l.txt", 2, ("cat", "dog")),
        ("dog 1\ncat 0\n", "l.txt", 2, ("cat", "dog")),
        ("gate 1\ngate 0\n", "l.txt", 2, ("gate 1", "gate 0")),
        ("1 cat\n2 dog\n", "l.txt", 2, ("cat", "dog")),  # the numbers count from 1
        ("1 cat\n2 dog\n", "l.txt", 3, ("", "cat", "dog")),  # or class 0 has no label
        ("0 cat\n2 bird\n", "l.txt", 5, ("cat", "", "bird")),
        ("cat\n\ndog\n", "l.txt", 2, ("cat", "dog")),
        ("cat\n\ndog\n", "l.txt", 3, ("cat", "", "dog")),
        ("n01440764 tench\nn01443537 goldfish\n", "l.txt", 2, ("n01440764 tench", "n01443537 goldfish")),
        (
            "tench, Tinca tinca\ngoldfish, Carassius auratus\n",
            "l.txt",
            2,
            ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ),
        ("[UNK]\ncat\n", "l.txt", 2, ("[UNK]", "cat")),
        ("{'a'\nb\n", "l.names", None, None),
        ('{"0": "cat", "2": "bird", "1": "dog"}', "l.json", 3, ("cat", "dog", "bird")),
        ('\ufeff{"0": "cat", "1": "dog"}', "l.txt", 2, ("cat", "dog")),
        ('{"cat": 0, "dog": 1}', "l.json", 2, ("cat", "dog")),
        ('["cat", "dog"]', "l.json", 2, ("cat", "dog")),
        ("['cat', 'dog']", "l.txt", 2, ("cat", "dog")),
        ('[{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}]', "l.json", 2, ("cat", "dog")),
        (
            '{"categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]}',
            "l.json",
            None,
            ("", "person", "", "car"),
        ),
        ('{"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}', "config.json", 2, ("a", "b")),
        ('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', "l.json", 2, ("tench", "goldfish")),
        ('["a\\nb", null, 7]', "l.json", 3, ("a b", "", "7")),
        ("path: ../coco\nnc: 2\nnames:\n  0: person\n  1: bicycle\n", "coco.yaml", 2, ("person", "bicycle")),
        ("names: [no, on]\n", "data.yml", 2, ("no", "on")),
        ("names:\n- cat\n- dog\n", "l.txt", 2, ("cat", "dog")),
        ("- cat\n- dog\n", "l.yaml", 2, ("cat", "dog")),
        ("1: dog\n0: cat\n", "l.yaml", 2, ("cat", "dog")),
        (ULTRALYTICS, "l.txt", 3, ("person", "cat's", "car")),
        ("id,name\n1,dog\n0,cat\n", "l.csv", 2, ("cat", "dog")),
        ("id;name\n1;dog\n0;cat\n", "l.csv", 2, ("cat", "dog")),
        ("name\tid\ndog\t1\ncat\t0\n", "l.tsv", 2, ("cat", "dog")),
        (
            'index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/0ytgt,"Child speech, kid"\n',
            "l.csv",
            2,
            ("Speech", "Child speech, kid"),
        ),
        ("id,name\n1,dog\n0,cat\n", "l.txt", 2, ("cat", "dog")),
        (",label\n0,cat\n1,dog\n", "l.csv", 2, ("cat", "dog")),
        ("cat\ndog\n", "l.csv", 2, ("cat", "dog")),
        ("dog,1\ncat,0\n", "l.csv", 2, ("cat", "dog")),
        (PBTXT, "l.pbtxt", 3, ("cat", "dog", "bird")),
        (PBTXT, "l.txt", 4, ("", "cat", "dog", "bird")),  # class 0 is the background
        (PBTXT, "l.pbtxt", None, ("cat", "dog", "bird")),  # a detector without one
        ('item: { name: "/m/1" id: 1 display_name: "it\\\'s" }', "l.pbtxt", None, ("it's",)),
    ],
)
def test_forms(text: str, where: str, classes: int | None, labels: tuple[str, ...] | None) -> None:
    if labels is None:
        with pytest.raises(UsageError, match="it begins like JSON but is no JSON document"):
            parse(text, classes, where)
    else:
        assert parse(text, classes, where) == labels


@pytest.mark.parametrize(
    ("text", "where", "classes", "said"),
    [
        ("background\ncat\ndog\n", "l.txt", 2, "3 labels, but the model has 2 classes: the first label, 'background'"),
        ("cat\ndog\n", "l.txt", 3, "where its class 0 is the background, put a line for that"),
        ("cat\ndog\n", "l.txt", 10, "2 labels, but the model has 10 classes"),
        ("0 background\n1 cat\n2 dog\n", "l.txt", 2, "a label of class 2, but the model has 2 classes, 0 to 1"),
        ("0 cat\n0 dog\n", "l.txt", 2, "two labels of class 0"),
        ("0 cat\n1 dog\n1 bird\n", "l.txt", 3, "two labels of class 1"),
        ('{"0": "a", "0": "b"}', "l.json", 2, "'0' twice"),
        ('{"0": "a", "00": "b"}', "l.json", 2, "two labels of class 0"),
        ('{"0": "a", "9": "b"}', "l.json", 2, "a label of class 9"),
        ('{"0": 1, "1": 0}', "l.json", 2, "its keys and its values are numbers"),
        ('{"a": "b"}', "l.json", 1, "an object of no form that is known: its first key is 'a'"),
        ('{"0": {"x": 1}}', "l.json", 1, "a label in it is a list or an object"),
        ('{"0": "a",', "l.json", 1, "no JSON document"),
        ("3", "l.json", 1, "neither a list nor an object"),
        ("a: [", "l.yaml", 1, "no YAML document"),
        ("a: &x [*x]", "l.yaml", 1, "no YAML document"),
        ("[" * 5000, "l.yaml", 1, "no YAML document: nested more than 100 deep"),
        ("[" * 100000, "l.json", 1, "no JSON document"),
        ("x,y,z\n1,2,3\n", "l.csv", 1, "a CSV file whose columns are not known: x, y, z"),
        ("id,name\n0,cat,more\n", "l.csv", 1, "not the same number of columns"),
        ("item { id: 1 name: 'a' more { } }", "l.pbtxt", 1, "no label map"),
        ("item { name: 'a' }", "l.pbtxt", 1, "'' is no number of a class"),
        (PBTXT, "l.pbtxt", 2, "a label of class 2, but the model has 2 classes"),
        ("<annotation/>", "l.txt", 1, "not read from XML"),
        ("cat\n", "l.xml", 1, "not read from XML"),
        ("cat\n", "l.jsonl", 1, "not read from JSON Lines"),
        ("c\0a\0t\0", "l.txt", 1, "NUL characters"),
    ],
)
def test_what_is_not_known_or_does_not_fit_is_refused_by_name(text: str, where: str, classes: int, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, classes, where)
    assert str(refused.value).startswith(f"{where}: ")
    assert said in str(refused.value)


def test_real_label_files() -> None:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    text = (Path(folder) / "imagenet_labels.txt").read_text()
    assert parse(text, 1001, "imagenet_labels.txt")[1] == "tench, Tinca tinca"
    with pytest.raises(
        UsageError, match="1,001 labels, but the model has 1,000 classes: the first label, 'background'"
    ):
        parse(text, 1000, "imagenet_labels.txt")
    coco = parse((Path(folder) / "coco_labels.txt").read_text())
    assert (coco[0], coco[89], len(coco)) == ("person", "toothbrush", 90)
