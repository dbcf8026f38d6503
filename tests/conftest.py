"""What holds for every test."""

from __future__ import annotations

import functools
import gc
import gettext
import os
import signal
import sys

# Else each of the processes that tests start compiles the whole package anew, and pytest its test modules.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A run in the background is started with Ctrl-C ignored; the tests that press it mean a run in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

# argparse asks for a translation of each of its words, a hundred at each command, and where there is none it is looked
# for on the disk each time: a fifth of what a command in a test's own process takes.
gettext.find = functools.cache(gettext.find)

# Thousands of tests and their modules stay until the end: looked through again and again for what may be freed, they
# take a third of a run, and most of its beginning.
gc.disable()


def pytest_collection_finish() -> None:
    """Free from here on, but nothing of what is there."""
    gc.enable()
    gc.freeze()
