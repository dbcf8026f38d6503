"""Label files in the forms that people have them in."""

from __future__ import annotations

import pytest

from clusteradm.models.labels import parse, render


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
    ],
)
def test_parse(text: str, labels: tuple[str, ...]) -> None:
    assert parse(text) == labels


def test_what_is_rendered_is_read_back() -> None:
    labels = ("cat", "", "great white shark, white shark")
    assert parse(render(labels).decode()) == labels
