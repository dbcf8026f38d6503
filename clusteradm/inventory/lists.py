"""Values of variables that are lists: packages, wheels, clients of the endpoint."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# As pip writes it: ADDRESS#sha256=HEX.
_PACKAGE = re.compile(
    r"((https?://[A-Za-z0-9.:-]+|file://)/[\w/.:@~%+?&=,-]+|[A-Za-z0-9._+@~-]*(/[A-Za-z0-9._+@~-]+)*\.deb)"
    r"(#sha256=[0-9A-Fa-f]{64})?",
    re.ASCII,
)


def is_packages(value: Any) -> bool:
    """Whether a value is a list of .deb files."""
    return (
        isinstance(value, list)
        and len(value) <= 32
        and all(isinstance(each, str) and bool(_PACKAGE.fullmatch(each)) for each in value)
    )


# A wheel's name begins with those of the package and of its version (PEP 427).
_WHEEL = re.compile(
    r"(/[A-Za-z0-9._+@-]+)*/[A-Za-z0-9._]+-[A-Za-z0-9._+!]+(-[A-Za-z0-9._]+){3,4}\.whl#sha256=[0-9a-f]{64}"
)


def is_wheels(value: Any) -> bool:
    """Whether a value is a list of wheels, each with its sha256."""
    return (
        isinstance(value, list)
        and len(value) <= 100
        and all(isinstance(each, str) and bool(_WHEEL.fullmatch(each)) for each in value)
        and not any({".", ".."} & set(each.split("/")) for each in value)
    )


# Fields of a client of the endpoint, and whether a value is one; `models` and `rate` may be left out. Its name and its
# models go into HAProxy's maps, which are split at spaces.
_CLIENT: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", value)),
    "sha256": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{64}", value)),
    "models": lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= 100
        and all(isinstance(each, str) and bool(re.fullmatch(r"[A-Za-z0-9_-]+|\*", each)) for each in value)
    ),
    "rate": lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1_000_000,
}


def is_clients(value: Any) -> bool:
    """Whether a value is a list of clients, whose names and tokens are their own."""
    if not isinstance(value, list) or len(value) > 1000 or not all(isinstance(each, dict) for each in value):
        return False
    fit = all({"name", "sha256"} <= set(each) <= set(_CLIENT) for each in value) and all(
        _CLIENT[field](entry) for each in value for field, entry in each.items()
    )
    return fit and all(len({each[field] for each in value}) == len(value) for field in ("name", "sha256"))
