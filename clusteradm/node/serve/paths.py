"""Paths of a board's server in its runtime folder, which is in memory and its own."""

import os


def page(runtime: str) -> str:
    """The page that all processes share."""
    return os.path.join(runtime, "page")


def engine(runtime: str, number: int) -> str:
    """The socket of an engine."""
    return os.path.join(runtime, "engine-%d" % number)
