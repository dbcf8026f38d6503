"""Names folded into ranges, and back."""

from __future__ import annotations

from itertools import combinations

import pytest

from clusteradm.inventory.ranges import expand, fold


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], []),
        (["h", "c"], ["h", "c"]),
        (["coral-1"], ["coral-1"]),
        ([f"coral-{number}" for number in (11, 1, 2, 3, 5, 7, 8, 9, 10)], ["coral-[1-3,5,7-11]"]),
        (["n08", "n09", "n10"], ["n[08-10]"]),
        (["n8", "n9", "n10"], ["n[8-10]"]),
        (["n1", "n01"], ["n1", "n01"]),
        (["r1-n1", "r1-n2", "r2-n1", "r2-n2"], ["r1-n[1-2]", "r2-n[1-2]"]),
        (["a1.lab7", "x", "a2.lab7"], ["a[1-2].lab7", "x"]),
        (["a", "a"], ["a"]),
    ],
)
def test_fold(names: list[str], folded: list[str]) -> None:
    assert fold(names) == folded


def test_what_is_folded_expands_to_the_same() -> None:
    numbers = ["", "00", "1", "01", "2", "9", "09", "10", "010"]
    every = [before + one + "-" + two for before in ("a", "") for one in numbers for two in numbers[:4]]
    for names in combinations(every, 3):
        assert sorted(name for pattern in fold(names) for name in expand(pattern)) == sorted(names)
