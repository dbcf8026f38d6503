"""What holds for every test."""

from __future__ import annotations

import os
import signal
import sys

# Else each of the processes that tests start compiles the whole package anew, and pytest its test modules.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A run in the background is started with Ctrl-C ignored; the tests that press it mean a run in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
