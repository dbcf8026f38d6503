"""Inventories of another person: each ends in bounded time with an error that names the file and the line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from clusteradm.errors import InputErrors, UsageError
from clusteradm.inventory import load
from clusteradm.inventory.patterns import select
from clusteradm.inventory.ranges import expand

_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
_MERGES = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{n}: &a{n} {{k{n}: 1, <<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)
_CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))

DOCUMENTS = {
    "aliases": (_LAUGHS, 6, "more than 200,000 values"),
    "merges": (_MERGES, 6, "more than 200,000 values"),
    "chain": (_CHAIN, 101, "nested more than 100 deep"),
    "flow": ("a:\n  " + "[" * 200_000, 2, "nested more than 100 deep"),
    "closed": ("a: " + "[" * 150 + "]" * 150 + "\n", 1, "nested more than 100 deep"),
    "mappings": ("a: " + "{a: " * 5000 + "1" + "}" * 5000 + "\n", 1, "nested more than 100 deep"),
    "block": ("- " * 100_000 + "x\n", 1, "nested more than 100 deep"),
    "keys": ("? " * 100_000 + "x\n", 1, "nested more than 100 deep"),
    "indents": ("".join("  " * n + "a:\n" for n in range(600)), 101, "nested more than 100 deep"),
    "itself": ("a: &a [*a]\n", 1, "contains itself"),
    "mapping itself": ("a: &a\n  b: *a\n", 1, "contains itself"),
    "merged itself": ("a: &a\n  <<: *a\n", 1, "contains itself"),
    "number": ("a:\n- " + "9" * 5000 + "\n", 2, "a number of 5000 characters"),
    "sexagesimal": ("a: 1" + ":1" * 300_000 + "\n", 1, "a number of 600001 characters"),
    "large": ("a: " + "x" * 1_100_000 + "\n", 0, "larger than 1,048,576 bytes"),
}


def defects(path: Path) -> str:
    begun = time.thread_time()
    with pytest.raises(InputErrors) as refused:
        load(path)
    assert time.thread_time() - begun < 10
    return str(refused.value)


def check(text: str, path: Path, line: int, message: str) -> None:
    assert message in text
    assert (f"{path}:{line}: " if line else f"{path}: ") in text
    assert len(text) < 2000


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("place", ["inventory.yml", "group_vars/all.yml", "host_vars/w1/deep.yml"])
def test_a_document_out_of_bounds(tmp_path: Path, name: str, place: str) -> None:
    body, line, message = DOCUMENTS[name]
    (tmp_path / "inventory.yml").write_text("all:\n  hosts:\n    w1:\n")
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body)
    check(defects(tmp_path / "inventory.yml"), path, line, message)


@pytest.mark.parametrize(("kind", "message"), [("fifo", "a FIFO"), ("device", "a device")])
def test_an_inventory_is_a_file(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "inventory.yml"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert f"{path}: it is {message}, not a file" in defects(path)


def test_variables_are_files_and_no_link_leads_in_circles(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text("all:\n  hosts:\n    w1:\n")
    folder = tmp_path / "host_vars" / "w1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "x.yml")
    (folder / "again").symlink_to(".")
    (folder / "and_again").symlink_to("../w1")
    assert f"{folder}/x.yml: it is a FIFO, not a file" in defects(path)


def test_text_that_is_no_template_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text("all:\n  hosts:\n    w1:\n  vars:\n    cluster_subnet: 10.0.0.0/24\n    x: !unsafe '{{ 1 }}'\n")
    with pytest.raises(InputErrors) as refused:  # only for what else an inventory needs
        load(path)
    assert "unsafe" not in str(refused.value)


@pytest.mark.parametrize("order", [1, -1])
def test_groups_within_groups_end(tmp_path: Path, order: int) -> None:
    path = tmp_path / "inventory.yml"
    groups = [f"g{n}:\n  children:\n    g{n + 1}:\n" for n in range(3000)]
    path.write_text("".join(groups[::order]))
    assert "groups within groups, more than 100 deep" in defects(path)


RANGES = {
    "a[0:999][0:999][0:999]": "more than 65536 hosts",
    "a[0:255][0:256]": "more than 65536 hosts",
    "a[0:1000000000]": "1000000001 hosts in one range",
    "a[0:99999999999999999999999]": "hosts in one range",
    "a[0:" + "9" * 5000 + "]": "a number that is too long",
    "a[0:5:0]": "bad step",
    "a[5:0]": "runs backwards",
    "a[01:1000]": "equally long",
    "a[" + ",".join(["0:9999"] * 10) + "]": "more than 65536 hosts",
    "a" + "[0]" * 5000: "",
    "a" + "[0:1]" * 5000: "more than 65536 hosts",
    "a" * 10_000 + "[0:65535]": "longer than the name of a host",
    "a[": "bad host range",
    "a[0:1": "bad host range",
    "a]0[": "bad host range",
    "a[[0:1]]": "bad host range",
}


@pytest.mark.parametrize("pattern", RANGES, ids=lambda text: text[:30])
def test_a_range_ends(pattern: str) -> None:
    begun = time.thread_time()
    if RANGES[pattern]:
        with pytest.raises(ValueError, match=RANGES[pattern]) as refused:
            list(expand(pattern))
        assert len(str(refused.value)) < 200 or "hosts in one range" in str(refused.value)
    else:
        assert list(expand(pattern)) == ["a" + "0" * 5000]
    assert time.thread_time() - begun < 5


def test_the_error_of_a_range_has_a_line(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text("all:\n  hosts:\n    w1:\n    a[0:999][0:999][0:999]:\n")
    check(defects(path), path, 4, "more than 65536 hosts")


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 5000 + "b", ":" * 100_000, "[" * 100_000, "~(a+)+$", "a[0:9" * 20_000, "*" * 100_000 + "b", "[!" * 50_000],
    ids=lambda text: text[:10],
)
def test_a_host_pattern_ends(pattern: str) -> None:
    begun = time.thread_time()
    with pytest.raises(UsageError):
        select(pattern, ["a" * 60, "w1"], {"all": ["a" * 60, "w1"]})
    assert time.thread_time() - begun < 5
